// Layers on an OpenCL device (PoCL makes one of any CPU), by generated kernels.
#include <device_layers.h>
#include <dlfcn.h>

#include <thread>

#include "rig.h"

namespace fusebn::test {
namespace {

const Extents shape{2, 4, 3, 3};

class OpenCl : public testing::Test {
protected:
    void SetUp() override {
        if (device_count(DeviceKind::opencl) == 0) GTEST_SKIP() << "no OpenCL device: install pocl-opencl-icd";
    }
    static BatchNorm2d layer(Activation activation = Activation::relu) {
        return BatchNorm2d(4, device_layers::kernels(), on(Device::opencl(), activation));
    }
    static Tensor of(const DeviceTensor& t, const Extents& strides = {}) {
        return t.view(Layout::NCHW, shape, strides);
    }
};

// A function of the loader's, as a program that makes its own objects calls it.
template <class F>
F opencl_function(const char* name) {
    void* const library = dlopen("libOpenCL.so.1", RTLD_NOW);
    EXPECT_NE(library, nullptr);
    return reinterpret_cast<F>(dlsym(library, name));
}
void* create_queue(void* context, std::uint64_t properties) {
    using Info = int (*)(void*, std::uint32_t, std::size_t, void*, std::size_t*);
    using Create = void* (*)(void*, void*, std::uint64_t, int*);
    void* device = nullptr;
    const std::uint32_t device_of_queue = 0x1091;
    opencl_function<Info>("clGetCommandQueueInfo")(opencl_queue(Device::opencl()), device_of_queue, sizeof(device),
                                                   &device, nullptr);
    int code = 0;
    void* const queue = opencl_function<Create>("clCreateCommandQueue")(context, device, properties, &code);
    EXPECT_EQ(code, 0);
    return queue;
}
void* other_context() {
    using Info = int (*)(void*, std::uint32_t, std::size_t, void*, std::size_t*);
    using Create = void* (*)(const void*, std::uint32_t, void**, void*, void*, int*);
    void* device = nullptr;
    opencl_function<Info>("clGetCommandQueueInfo")(opencl_queue(Device::opencl()), 0x1091, sizeof(device), &device,
                                                   nullptr);
    int code = 0;
    void* const context = opencl_function<Create>("clCreateContext")(nullptr, 1, &device, nullptr, nullptr, &code);
    EXPECT_EQ(code, 0);
    return context;
}
void* create_buffer(void* context, std::size_t bytes) {
    using Create = void* (*)(void*, std::uint64_t, std::size_t, void*, int*);
    int code = 0;
    void* const buffer = opencl_function<Create>("clCreateBuffer")(context, 1, bytes, nullptr, &code);
    EXPECT_EQ(code, 0);
    return buffer;
}
void release(const char* function, void* object) { opencl_function<int (*)(void*)>(function)(object); }

TEST_F(OpenCl, LayersDoWhatTheCpusDoToTheBit) {
    for (const Mode& mode : modes) {
        for (const Activation activation : {Activation::relu, Activation::silu}) {
            // A driver compiles for a second or two: of silu, what has to do with its residual.
            if (activation == Activation::silu && !mode.training) continue;
            SCOPED_TRACE(testing::Message() << mode.name << " " << to_string(activation));
            const KernelTable& table = device_layers::kernels();
            Rig cpu(Device::cpu(), table, table, activation, DataType::f32, mode);
            Rig opencl(Device::opencl(), table, table, activation, DataType::f32, mode);
            for (const Form& form : forms) {
                const auto expected = cpu.run(form), actual = opencl.run(form);
                ASSERT_EQ(expected.size(), actual.size());
                for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_EQ(expected[i], actual[i]) << i;
            }
        }
    }
}

TEST_F(OpenCl, IsThereWithANameAContextAndAQueue) {
    EXPECT_NE(device_name(Device::opencl()), "");
    EXPECT_NE(opencl_context(Device::opencl()), nullptr);
    EXPECT_NE(opencl_queue(Device::opencl()), nullptr);
    const Device none = Device::opencl(device_count(DeviceKind::opencl));
    EXPECT_EQ(device_name(none), "");
    EXPECT_EQ(opencl_context(none), nullptr);
    EXPECT_EQ(opencl_queue(Device::cuda()), nullptr);
    BatchNorm2d bn(4, device_layers::kernels(), on(none));
    expect_error(bn.status(), ErrorCode::no_device, "options.device: there is no opencl:");
    expect_error(DeviceMemory(none, 8).status(), ErrorCode::no_device, "there is no opencl:");
}

TEST_F(OpenCl, LayersRunOnTheQueueTheyAreGiven) {
    void* const context = opencl_context(Device::opencl());
    void* const queue = create_queue(context, 0);
    BatchNorm2d bn = layer(), expected = layer();
    expect_ok(bn.status());
    DeviceTensor x(Device::opencl(), noise(72)), y(Device::opencl(), noise(72)), z(Device::opencl(), noise(72));
    expect_ok(bn.set_stream(queue));
    expect_ok(bn.prepare(of(x), {Op::train_forward}));
    expect_ok(bn.forward(of(x), of(y)));
    expect_ok(bn.set_stream(nullptr));  // waits
    expect_ok(expected.forward(of(x), of(z)));
    EXPECT_EQ(y.get(), z.get());
    EXPECT_EQ(bn.state().running_mean, expected.state().running_mean);

    void* const out_of_order = create_queue(context, 1);
    void* const elsewhere = other_context();
    void* const far_queue = create_queue(elsewhere, 0);
    expect_error(bn.set_stream(out_of_order), ErrorCode::invalid_argument, "stream: it runs out of order");
    expect_error(bn.set_stream(far_queue), ErrorCode::invalid_argument, "stream: it is a queue of another context");
    expect_ok(bn.forward(of(x), of(y)));
    for (void* const one : {queue, out_of_order, far_queue}) release("clReleaseCommandQueue", one);
    release("clReleaseContext", elsewhere);
}

TEST_F(OpenCl, TensorsAreLargeEnoughBuffersOfTheContext) {
    BatchNorm2d bn = layer();
    DeviceTensor x(Device::opencl(), noise(72)), y(Device::opencl(), noise(72));
    const auto view = [](void* buffer) { return tensor(static_cast<float*>(buffer), Layout::NCHW, shape); };
    void* const small = create_buffer(opencl_context(Device::opencl()), 284);
    void* const elsewhere = other_context();
    void* const far = create_buffer(elsewhere, 288);
    void* const own = create_buffer(opencl_context(Device::opencl()), 288);
    expect_error(bn.forward(view(small), of(y)), ErrorCode::not_device_memory,
                 "x: its data is a buffer of 284 bytes; expected 288 at least");
    expect_error(bn.forward(of(x), view(far)), ErrorCode::not_device_memory, "y: its data is of another context");
    expect_error(bn.forward(of(x), {}), ErrorCode::null_pointer, "y: ");
    EXPECT_EQ(bn.state().num_batches_tracked, 0);
    expect_ok(bn.forward(of(x), view(own)));
    for (void* const one : {small, far, own}) release("clReleaseMemObject", one);
    release("clReleaseContext", elsewhere);
}

TEST_F(OpenCl, OverlapIsKnownOfOneBufferOnly) {
    BatchNorm2d bn = layer();
    DeviceTensor x(Device::opencl(), noise(512)), y(Device::opencl(), noise(512)), z(Device::opencl(), noise(512));
    const Extents apart{80, 20, 3, 1};
    expect_ok(bn.forward(of(x), of(x)));
    expect_ok(bn.forward(of(x, apart), of(y)));
    expect_error(bn.forward(of(x, apart), of(x)), ErrorCode::overlap, "y: it is the buffer of x, by other strides");
    expect_ok(bn.forward_add(of(x), of(y), of(z)));
    expect_ok(bn.backward_add(of(x), of(z), of(z), of(y)));
    expect_error(bn.backward_add(of(x), of(z), of(y), of(y)), ErrorCode::overlap, "dresidual: it is the buffer of dx");
}

TEST_F(OpenCl, KernelsTakeUnalignedStridesBySayingSo) {
    BatchNorm2d bn = layer();
    DeviceTensor x(Device::opencl(), noise(512)), y(Device::opencl(), noise(512)), z(Device::opencl(), noise(512));
    expect_ok(bn.forward(of(x, {81, 20, 3, 1}), of(y)));
    EXPECT_NE(BatchNorm::last_kernel().find(" opencl ["), std::string::npos) << BatchNorm::last_kernel();
}

TEST_F(OpenCl, EvaluationMayBeCalledFromThreadsAtOnce) {
    BatchNorm2d bn = layer();
    bn.eval();
    DeviceTensor x(Device::opencl(), noise(72)), expected(Device::opencl(), noise(72));
    expect_ok(bn.forward(of(x), of(expected)));
    std::vector<std::unique_ptr<DeviceTensor>> results;
    for (int i = 0; i < 4; ++i) results.push_back(std::make_unique<DeviceTensor>(Device::opencl(), noise(72)));
    std::vector<std::thread> threads;
    for (auto& y : results) {
        threads.emplace_back([&] {
            for (int i = 0; i < 50; ++i) expect_ok(bn.forward(of(x), of(*y)));
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (const auto& y : results) EXPECT_EQ(y->get(), expected.get());
}

TEST_F(OpenCl, LayersMayGoWhileTheirWorkIsOnItsWay) {
    DeviceTensor x(Device::opencl(), noise(72)), y(Device::opencl(), noise(72)), z(Device::opencl(), noise(72));
    BatchNorm2d stays = layer();
    expect_ok(stays.forward(of(x), of(z)));
    {
        BatchNorm2d goes = layer();
        expect_ok(goes.forward(of(x), of(y)));
    }
    EXPECT_EQ(y.get(), z.get());
}

}  // namespace
}  // namespace fusebn::test
