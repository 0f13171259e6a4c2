// Which variant of a row runs, and what is said where none does.
#include "fusebn/parallel.h"
#include "on_cuda.h"

namespace fusebn::test {
namespace {

const Extents shape{2, 4, 4, 4};
constexpr InstructionSet sm_80 = InstructionSet::cuda_sm_80, sm_90 = InstructionSet::cuda_sm_90,
                         sm_100 = InstructionSet::cuda_sm_100;

class Variants : public OnCuda {
protected:
    ~Variants() override { fake_cuda().capability = 90; }
    // What a layer on `device` answers to a forward call by a library of `variants`, and the kernel that ran.
    Status run(std::vector<FakeVariant> variants, const Device& device) {
        FakeLibrary library;
        library.add_generic(Activation::none, std::move(variants));
        BatchNorm2d bn(4, library.table(), on(device));
        const DeviceTensor x(device, noise(512)), y(device, noise(512));
        Status s = bn.forward(x.view(Layout::NCHW, shape), y.view(Layout::NCHW, shape));
        if (s.ok()) kernel_ = BatchNorm::last_kernel();  // of an earlier library else, which is gone
        // What prepare() says is the same.
        EXPECT_EQ(bn.prepare({nullptr, DataType::f32, Layout::NCHW, shape}, {Op::train_forward}).message(),
                  s.message());
        return s;
    }
    bool ran(const std::string& isa) const { return kernel_.find(" " + isa + " ") != std::string::npos; }
    std::string kernel_;  // of the last run; its library is gone
};

TEST_F(Variants, AreTheBestThatTheDeviceRuns) {
    const std::vector<FakeVariant> all = {{}, {sm_80}, {sm_90}, {sm_100}, {InstructionSet::opencl}};
    const std::pair<int, const char*> cases[] = {
        {80, "cuda-sm_80"}, {89, "cuda-sm_80"}, {90, "cuda-sm_90"}, {100, "cuda-sm_100"}, {120, "cuda-sm_100"}};
    for (const auto& [capability, expected] : cases) {
        fake_cuda().capability = capability;
        expect_ok(run(all, Device::cuda()));
        EXPECT_TRUE(ran(expected)) << capability << " " << kernel_;
    }
    expect_ok(run(all, Device::cpu()));
    EXPECT_TRUE(ran("x86-64")) << kernel_;
}

TEST_F(Variants, ThatAreMissingAreNamed) {
    expect_error(run({{}}, Device::cuda()), ErrorCode::no_kernel,
                 "is built for x86-64, but the layer is on cuda:0 (Fake GPU); add \"cuda-sm_90\" to targets");
    expect_error(run({{}, {sm_100}}, Device::cuda()), ErrorCode::no_kernel,
                 "is built for x86-64, cuda-sm_100, but the layer is on cuda:0 (Fake GPU), which is an older one; add "
                 "\"cuda-sm_90\"");
    fake_cuda().capability = 86;
    expect_error(run({{sm_90}}, Device::cuda()), ErrorCode::no_kernel, "add \"cuda-sm_80\"");
    fake_cuda().capability = 120;
    expect_error(run({{}}, Device::cuda()), ErrorCode::no_kernel, "add \"cuda-sm_100\"");
    fake_cuda().capability = 75;
    expect_error(run({{}, {sm_80}}, Device::cuda()), ErrorCode::no_kernel,
                 "of compute capability 7.5, and kernels need 8.0 at least");
    expect_error(run({{sm_80}, {InstructionSet::opencl}}, Device::cpu()), ErrorCode::unsupported_cpu,
                 "or give the layer its device (BatchNormOptions::device)");
}

TEST_F(Variants, OfDevicesAreNoInstructionSets) {
    const InstructionSet before = instruction_set();
    for (const InstructionSet isa : {sm_80, sm_100, InstructionSet::opencl}) {
        EXPECT_FALSE(supports(isa));
        expect_error(set_instruction_set(isa), ErrorCode::unsupported_cpu, "isa: ");
    }
    EXPECT_EQ(instruction_set(), before);
}

TEST_F(Variants, AskForAlignmentOfAllTensors) {
    FakeLibrary library;
    library.add_generic(Activation::none, {{}, {sm_80, 16, true}});
    const Device device = Device::cuda();
    BatchNorm2d bn(4, library.table(), on(device));
    const DeviceTensor x(device, noise(512)), y(device, noise(512)), dy(device, noise(512));
    const auto at = [](const DeviceTensor& t, int offset, const Extents& strides = {}) {
        return tensor(static_cast<float*>(t.data()) + offset, Layout::NCHW, shape, strides);
    };
    const auto unaligned = [&](const Status& s, const std::string& name) {
        expect_ok(s);
        EXPECT_EQ(fake_run.unaligned_entry, !name.empty());
        const std::string words = "without vectors: " + name + " is not aligned";
        EXPECT_EQ(BatchNorm::last_kernel().find(words) != std::string::npos, !name.empty()) << BatchNorm::last_kernel();
    };
    unaligned(bn.forward(at(x, 0), at(y, 0)), "");
    unaligned(bn.forward(at(x, 4), at(y, 8)), "");
    unaligned(bn.forward(at(x, 1), at(y, 0)), "x");
    unaligned(bn.forward(at(x, 0), at(y, 2)), "y");
    unaligned(bn.forward(at(x, 0, {65, 16, 4, 1}), at(y, 0)), "x");
    unaligned(bn.forward(at(x, 0, {80, 18, 4, 1}), at(y, 0)), "x");
    unaligned(bn.forward(at(x, 0, {80, 20, 4, 1}), at(y, 0)), "");
    unaligned(bn.backward(at(x, 0), at(dy, 3), at(y, 0)), "dy");
    // On the CPU inputs may lie as they like.
    FakeLibrary streaming;
    streaming.add_generic(Activation::none, {{InstructionSet::x86_64, 16, true}});
    BatchNorm2d cpu(4, streaming.table());
    std::vector<float> from = noise(516), to(512);
    float* const start = from.data() + (reinterpret_cast<std::uintptr_t>(from.data()) % 16 == 0 ? 1 : 0);
    expect_ok(cpu.forward(tensor(start, Layout::NCHW, shape), tensor(to.data(), Layout::NCHW, shape)));
    EXPECT_FALSE(fake_run.unaligned_entry);
}

TEST_F(Variants, OverlapsOfDeviceTensorsAreSeen) {
    FakeLibrary library = library_of_both();
    const Device device = Device::cuda();
    BatchNorm2d bn(4, library.table(), on(device));
    const DeviceTensor x(device, noise(512));
    const auto at = [&](int offset) { return tensor(static_cast<float*>(x.data()) + offset, Layout::NCHW, shape); };
    expect_error(bn.forward(at(0), at(4)), ErrorCode::overlap, "y: it begins 16 bytes after x");
    expect_ok(bn.forward(at(0), at(0)));
    expect_ok(bn.forward(at(0), at(128)));
}

TEST_F(Variants, ArePreparedOnTheCpuByBeingThere) {
    FakeLibrary library;
    library.add(Op::inference, View::planar, {2, 4, 16});
    BatchNorm2d bn(4, library.table());
    const ConstTensor form(nullptr, DataType::f32, Layout::NCHW, shape);
    expect_ok(bn.prepare(form, {Op::inference}));
    expect_error(bn.prepare(form, {Op::inference, Op::backward}), ErrorCode::no_kernel, "op = \"backward\"");
    expect_error(bn.prepare(form, {Op::inference}, Residual::add), ErrorCode::no_kernel, "residual = \"add\"");
    expect_error(bn.prepare({nullptr, DataType::f32, Layout::NCHW, {2, 5, 3, 3}}, {Op::inference}),
                 ErrorCode::shape_mismatch, "x: ");
    expect_error(bn.prepare(form, {static_cast<Op>(9)}), ErrorCode::invalid_argument, "ops: 9 is unknown");
    expect_error(bn.prepare(form, {Op::inference}, static_cast<Residual>(9)), ErrorCode::invalid_argument,
                 "residual: 9 is unknown");
}

}  // namespace
}  // namespace fusebn::test
