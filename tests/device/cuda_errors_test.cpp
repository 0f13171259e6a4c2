// What goes wrong in a driver is an error code: nothing leaks, every context is popped, and what had not begun to run
// leaves the layer as it was.
#include <functional>

#include "fusebn/fold.h"
#include "on_cuda.h"

namespace fusebn::test {
namespace {

const Extents shape{2, 4, 3, 3};

struct Tensors {
    DeviceTensor x{Device::cuda(), noise(72, 1)}, y{Device::cuda(), noise(72)}, z{Device::cuda(), noise(72)};
    static Tensor of(const DeviceTensor& t) { return t.view(Layout::NCHW, shape); }
};

class CudaErrors : public OnCuda {
protected:
    FakeLibrary library_ = library_of_both(Activation::relu);
    BatchNormOptions options_ = on(Device::cuda(), Activation::relu);
};

// Before a layer goes: in a context that cannot be made current nothing can be freed.
struct NoFailureInTheEnd {
    ~NoFailureInTheEnd() { fake_cuda().fail(0); }
};

// Lets one call of the driver fail after the other, until `work` meets no failure. Its calls must each succeed, or
// fail with a code of a device and what the driver said.
int for_each_failure(const std::string& name, const std::function<Status()>& work) {
    int failures = 0;
    for (int at = 1;; ++at) {
        EXPECT_LT(at, 1000);
        fake_cuda().forget();
        fake_cuda().fail(at, 719, name);
        const Status s = work();
        fake_cuda().fail(0);
        if (!fake_cuda().failed() || at == 1000) {
            EXPECT_TRUE(s.ok()) << s.message();
            return failures;
        }
        ++failures;
        EXPECT_TRUE(fake_cuda().faults.empty()) << fake_cuda().faults[0];
        EXPECT_TRUE(fake_cuda().contexts.empty()) << "after failure " << at << " of " << name;
        if (s.ok()) continue;  // it could do without
        EXPECT_TRUE(s.code() == ErrorCode::launch_failed || s.code() == ErrorCode::no_device ||
                    s.code() == ErrorCode::not_device_memory)
            << s.message();
        if (s.code() == ErrorCode::launch_failed) {
            EXPECT_NE(s.message().find("cuda:0 (Fake GPU): "), std::string::npos) << s.message();
            EXPECT_NE(s.message().find("failed: CUDA_ERROR_LAUNCH_FAILED (719, unspecified launch failure)"),
                      std::string::npos)
                << s.message();
        }
    }
}

TEST_F(CudaErrors, OfEachCallWhileALayerIsMade) {
    const int failures = for_each_failure("", [&] {
        const BatchNorm2d bn(4, library_.table(), options_);
        const NoFailureInTheEnd in_the_end;
        EXPECT_EQ(bn.features(), 4);
        return bn.status();
    });
    EXPECT_GT(failures, 15);
}

TEST_F(CudaErrors, OfALayerThatCouldNotBeMadeAreEveryCallsAnswer) {
    fake_cuda().fail(1, 2, "cuMemAlloc");
    BatchNorm2d bn(4, library_.table(), options_);
    expect_error(bn.status(), ErrorCode::out_of_memory, "an allocation of");
    expect_error(bn.set_stream(nullptr), ErrorCode::out_of_memory, "");
    expect_error(bn.forward({}, {}), ErrorCode::out_of_memory, "");
    expect_error(bn.backward({}, {}, std::nullopt), ErrorCode::out_of_memory, "");
    expect_error(bn.prepare({}, {Op::inference}), ErrorCode::out_of_memory, "");
    expect_error(bn.save("nowhere"), ErrorCode::out_of_memory, "");
    EXPECT_EQ(bn.device_grad_gamma(), nullptr);
    EXPECT_EQ(bn.gamma(), nullptr);
    EXPECT_TRUE(bn.saved_mean().empty());
    bn.zero_grad();
    bn.reset_running_stats();
}

TEST_F(CudaErrors, OfEachCallInPrepare) {
    const ConstTensor form(nullptr, DataType::f32, Layout::NCHW, {9, 4, 1, 1});
    const int failures = for_each_failure("", [&] {
        BatchNorm2d bn(4, library_.table(), options_);
        const NoFailureInTheEnd in_the_end;
        if (!bn.status().ok()) return bn.status();
        Status s = bn.prepare(form, {Op::train_forward, Op::backward}, Residual::add);
        if (!s.ok()) {
            EXPECT_EQ(bn.saved_bytes(), 0u);
            fake_cuda().fail(0);
            expect_ok(bn.prepare(form, {Op::train_forward, Op::backward}, Residual::add));
        }
        return s;
    });
    EXPECT_GT(failures, 25);
}

TEST_F(CudaErrors, OfEachCallInForwardAndBackward) {
    const Tensors t;
    const auto of = Tensors::of;
    for (const bool frozen : {false, true}) {
        const int failures = for_each_failure("", [&] {
            BatchNorm2d bn(4, library_.table(), options_);
            const NoFailureInTheEnd in_the_end;
            if (!bn.status().ok()) return bn.status();
            expect_ok(bn.freeze_statistics(frozen));
            const BackwardOptions accumulating{Gradient::accumulate, Gradient::accumulate, {}};
            const int calls_before = fake_cuda().count("cuLaunchKernel");
            Status s = bn.forward_add(of(t.x), of(t.z), of(t.y));
            if (!s.ok()) {
                // Before the first launch nothing has changed; after it the forward call is void.
                const bool began = fake_cuda().count("cuLaunchKernel") > calls_before;
                fake_cuda().fail(0);
                if (!began) {
                    EXPECT_EQ(bn.state().running_mean, std::vector<float>(4));
                }
                EXPECT_EQ(bn.state().num_batches_tracked, 0);
                expect_error(bn.backward_add(of(t.x), of(t.y), of(t.y), of(t.z)), ErrorCode::no_forward, "");
                return s;
            }
            s = bn.backward_add(of(t.x), of(t.y), of(t.y), of(t.z), accumulating);
            if (!s.ok()) {
                fake_cuda().fail(0);
                expect_ok(bn.backward_add(of(t.x), of(t.y), of(t.y), of(t.z)));
            }
            return s;
        });
        EXPECT_GT(failures, 30);
    }
}

TEST_F(CudaErrors, OfEachCallInTheRest) {
    const Tensors t;
    const std::string path = testing::TempDir() + "fusebn_device_errors";
    BatchNormState state;
    const int failures = for_each_failure("", [&] {
        BatchNorm2d bn(4, library_.table(), options_);
        const NoFailureInTheEnd in_the_end;
        if (!bn.status().ok()) return bn.status();
        Status s = bn.forward(Tensors::of(t.x), Tensors::of(t.y));
        if (s.ok()) s = bn.set_stream(&state);
        state = bn.state();
        if (s.ok()) s = bn.save(path);
        if (s.ok()) s = bn.load(path);
        bn.zero_grad();
        bn.reset_running_stats();
        if (s.ok()) s = bn.forward(Tensors::of(t.x), Tensors::of(t.y));
        if (s.ok()) s = bn.set_stream(nullptr);
        return s;
    });
    EXPECT_GT(failures, 40);
}

TEST_F(CudaErrors, OfCallsWithoutAStatusAreTheNextOnes) {
    const Tensors t;
    BatchNorm2d bn(4, library_.table(), options_);
    fake_cuda().fail(1, 719, "cuMemsetD8Async");
    bn.zero_grad();
    expect_error(bn.forward(Tensors::of(t.x), Tensors::of(t.y)), ErrorCode::launch_failed, "filling with zeros failed");
    expect_ok(bn.forward(Tensors::of(t.x), Tensors::of(t.y)));
    fake_cuda().fail(1, 719, "cuMemcpyHtoDAsync");
    bn.reset_running_stats();
    expect_error(bn.backward(Tensors::of(t.x), Tensors::of(t.y), Tensors::of(t.y)), ErrorCode::launch_failed,
                 "a copy to it failed");
    expect_ok(bn.backward(Tensors::of(t.x), Tensors::of(t.y), Tensors::of(t.y)));
}

TEST_F(CudaErrors, InReadingAreNaN) {
    const Tensors t;
    BatchNorm2d bn(4, library_.table(), options_);
    expect_ok(bn.forward(Tensors::of(t.x), Tensors::of(t.y)));
    const auto read = [&](const std::function<double()>& value) {
        fake_cuda().fail(1, 719, "cuMemcpyDtoHAsync");
        EXPECT_TRUE(std::isnan(value()));
        EXPECT_FALSE(std::isnan(value()));
    };
    read([&] { return bn.state().gamma[3]; });
    read([&] { return bn.grad_gamma()[0]; });
    read([&] { return bn.grad_beta()[0]; });
    read([&] { return bn.saved_mean()[0]; });
    read([&] { return bn.saved_inv_std()[0]; });
    BatchNormState state;
    state.num_batches_tracked = 42;
    fake_cuda().fail(3, 719, "cuMemcpyDtoHAsync");
    expect_error(bn.read_state(state), ErrorCode::launch_failed, "a copy from it failed");
    EXPECT_EQ(state.num_batches_tracked, 42);
    EXPECT_TRUE(state.gamma.empty());
    expect_ok(bn.read_state(state));
    EXPECT_EQ(state.running_mean, bn.state().running_mean);
    EXPECT_EQ(state.num_batches_tracked, 1);
    std::vector<float> weight(8, 2), bias(4, 7);
    fake_cuda().fail(1, 719, "cuMemcpyDtoHAsync");
    expect_error(fold_batch_norm(bn, weight.data(), nullptr, 2, weight.data(), bias.data()), ErrorCode::launch_failed,
                 "a copy from it failed");
    EXPECT_EQ(bias, std::vector<float>(4, 7));
    expect_ok(fold_batch_norm(bn, weight.data(), nullptr, 2, weight.data(), bias.data()));
    EXPECT_NE(bias, std::vector<float>(4, 7));
    fake_cuda().fail(1, 719, "cuMemcpyDtoHAsync");
    expect_error(bn.save("nowhere"), ErrorCode::launch_failed, "a copy from it failed");
}

TEST_F(CudaErrors, OfKernelsThatStopMidway) {
    const Tensors t;
    const auto of = Tensors::of;
    FakeLibrary stops = generic_library(Activation::relu, {{InstructionSet::cuda_sm_80, 4, false, Kind::stops}});
    BatchNorm2d bn(4, stops.table(), options_);
    expect_error(bn.forward(of(t.x), of(t.y)), ErrorCode::launch_failed, "stopped with code 5");
    EXPECT_EQ(bn.state().num_batches_tracked, 0);
    bn.eval();
    expect_error(bn.forward(of(t.x), of(t.y)), ErrorCode::launch_failed, "cuda:0 (Fake GPU): bn_inference_f32");
}

TEST_F(CudaErrors, OfLibraries) {
    const Tensors t;
    const auto run = [&] {
        BatchNorm2d bn(4, library_.table(), options_);
        return bn.forward(Tensors::of(t.x), Tensors::of(t.y));
    };
    fusebn_device_code& code = fake_device_code();
    const fusebn_device_code before = code;
    code.text = "broken";
    expect_error(run(), ErrorCode::launch_failed, "loading kernels (line 1 is no PTX) failed");
    code = before;
    fake_cuda().kernels.erase(fake_apply_name);
    expect_error(run(), ErrorCode::launch_failed, "looking for kernel fake_apply failed");
    register_kernels();
    expect_ok(run());
}

TEST_F(CudaErrors, OfTensorsInOtherMemory) {
    const Tensors t;
    const auto of = Tensors::of;
    BatchNorm2d bn(4, library_.table(), options_);
    std::vector<float> host(72);
    const Tensor on_host = tensor(host.data(), Layout::NCHW, shape);
    const DeviceTensor far(Device::cuda(1), noise(72));
    expect_error(bn.forward(on_host, of(t.y)), ErrorCode::not_device_memory,
                 "x: its data is memory of the host; expected memory of cuda:0 (Fake GPU)");
    expect_error(bn.forward(of(t.x), on_host), ErrorCode::not_device_memory, "y: its data is memory of the host");
    expect_error(bn.forward_add(of(t.x), of(far), of(t.y)), ErrorCode::not_device_memory,
                 "residual: its data is memory of cuda:1; expected memory of cuda:0");
    expect_ok(bn.forward(of(t.x), of(t.y)));
    expect_error(bn.backward(of(t.x), on_host, of(t.y)), ErrorCode::not_device_memory, "dy: ");
    expect_error(bn.backward(of(t.x), of(t.y), of(far)), ErrorCode::not_device_memory, "dx: ");
    expect_error(bn.forward(of(t.x), {}), ErrorCode::null_pointer, "y: ");
    EXPECT_EQ(bn.state().num_batches_tracked, 1);
}

}  // namespace
}  // namespace fusebn::test
