// Devices, contexts and libraries: which of them a layer uses, and for how long.
#include <memory>
#include <thread>

#include "on_cuda.h"

namespace fusebn::test {
namespace {

const Extents shape{2, 4, 3, 3};

class CudaDevices : public OnCuda {
protected:
    ~CudaDevices() override {
        fake_cuda().capability = 90;
        fake_device_code() = code_;
    }
    static Tensor of(const DeviceTensor& t) { return t.view(Layout::NCHW, shape); }
    FakeLibrary library_ = library_of_both();
    const fusebn_device_code code_ = fake_device_code();
};

TEST_F(CudaDevices, AreCountedAndNamed) {
    EXPECT_EQ(device_count(DeviceKind::cpu), 1);
    EXPECT_EQ(device_count(DeviceKind::cuda), 2);
    EXPECT_EQ(device_count(static_cast<DeviceKind>(7)), 0);
    EXPECT_EQ(device_name(Device::cpu()), "CPU");
    EXPECT_EQ(device_name(Device::cuda(1)), "Fake GPU");
    for (const int none : {-1, 2}) EXPECT_EQ(device_name(Device::cuda(none)), "");
    EXPECT_EQ(device_name({DeviceKind::cpu, 1}), "");
    EXPECT_EQ(device_name({static_cast<DeviceKind>(7), 0}), "");
    EXPECT_TRUE(Device::cuda(1) == Device::cuda(1) && Device::cuda(1) != Device::cuda() && Device::cuda() != Device());
}

TEST_F(CudaDevices, ThatAreNotThereAreRefused) {
    for (const int none : {-1, 2}) {
        BatchNorm2d bn(4, library_.table(), on(Device::cuda(none)));
        expect_error(bn.status(), ErrorCode::no_device,
                     "there is no cuda:" + std::to_string(none) + "; the driver has 2 devices, counted from 0");
        expect_error(DeviceMemory(Device::cuda(none), 8).status(), ErrorCode::no_device, "there is no cuda");
    }
    BatchNorm2d strange(4, library_.table(), on({static_cast<DeviceKind>(7), 0}));
    expect_error(strange.status(), ErrorCode::invalid_argument, "its kind is 7");
    BatchNorm2d second_cpu(4, library_.table(), on({DeviceKind::cpu, 1}));
    expect_error(second_cpu.status(), ErrorCode::no_device, "there is no cpu:1");
}

TEST_F(CudaDevices, MayBeSeveralAtOnce) {
    const std::vector<float> values = noise(72, 1);
    std::vector<std::vector<float>> results;
    for (const int ordinal : {0, 1}) {
        BatchNorm2d bn(4, library_.table(), on(Device::cuda(ordinal)));
        BatchNorm2d elsewhere(4, library_.table(), on(Device::cuda(1 - ordinal)));
        DeviceTensor x(Device::cuda(ordinal), values), y(Device::cuda(ordinal), values);
        expect_ok(bn.forward(of(x), of(y)));
        results.push_back(y.get());
        expect_error(elsewhere.forward(of(x), of(y)), ErrorCode::not_device_memory, "memory of cuda:");
        expect_error(bn.forward_sum(of(x), elsewhere, of(x), of(y)), ErrorCode::invalid_argument,
                     "other: it is not on the layer's device");
        EXPECT_EQ(fake_cuda().modules, 1) << "one a device, when it is needed";
    }
    EXPECT_EQ(results[0], results[1]);
}

TEST_F(CudaDevices, AreUsedInTheContextThatTheLayerWasMadeIn) {
    void* const own = fake_cuda().make_context(0);
    void* const far = fake_cuda().make_context(1);
    fake_cuda().contexts = {own};
    {
        BatchNorm2d bn(4, library_.table(), on(Device::cuda()));
        DeviceTensor x(Device::cuda(), noise(72)), y(Device::cuda(), noise(72));
        for (const auto& [address, block] : fake_cuda().memory) EXPECT_EQ(block.context, own) << address;
        fake_cuda().forget();
        expect_ok(bn.forward(of(x), of(y)));
        EXPECT_EQ(fake_cuda().count("cuCtxPushCurrent"), 0) << "it is current";
        EXPECT_EQ(fake_cuda().count("cuDevicePrimaryCtxRetain"), 0);
        fake_cuda().contexts = {far};
        expect_ok(bn.forward(of(x), of(y)));
        EXPECT_EQ(fake_cuda().contexts, std::vector<void*>{far});
        BatchNorm2d in_primary(4, library_.table(), on(Device::cuda()));
        expect_error(in_primary.forward(of(x), of(y)), ErrorCode::not_device_memory, "another context on cuda:0");
        expect_error(bn.forward_sum(of(x), in_primary, of(x), of(y)), ErrorCode::invalid_argument,
                     "not in its context");
    }
    fake_cuda().contexts.clear();
}

TEST_F(CudaDevices, MayBeUsedFromThreadsAtOnce) {
    FakeLibrary library = library_of_both();
    BatchNorm2d bn(4, library.table(), on(Device::cuda()));
    EXPECT_TRUE(bn.status().ok());
    DeviceTensor x(Device::cuda(), noise(72)), y(Device::cuda(), noise(72));
    bn.eval();
    expect_ok(bn.prepare(of(x), {Op::inference}));
    // The fake driver is no driver of threads: one call at a time, but each on a thread of its own.
    for (int i = 0; i < 3; ++i) std::thread([&] { expect_ok(bn.forward(of(x), of(y))); }).join();
    EXPECT_EQ(fake_cuda().modules, 1);
}

// ---- libraries

TEST_F(CudaDevices, LoadALibrarysCodeOnceAndUntilItsLastLayerGoes) {
    DeviceTensor x(Device::cuda(), noise(72)), y(Device::cuda(), noise(72));
    auto first = std::make_unique<BatchNorm2d>(4, library_.table(), on(Device::cuda()));
    auto second = std::make_unique<BatchNorm2d>(4, library_.table(), on(Device::cuda()));
    expect_ok(first->forward(of(x), of(y)));
    expect_ok(second->forward(of(x), of(y)));
    EXPECT_EQ(fake_cuda().count("cuModuleLoadDataEx"), 1);
    first.reset();
    EXPECT_EQ(fake_cuda().modules, 1);
    second.reset();
    EXPECT_EQ(fake_cuda().modules, 0);
    BatchNorm2d third(4, library_.table(), on(Device::cuda()));
    expect_ok(third.forward(of(x), of(y)));
    EXPECT_EQ(fake_cuda().count("cuModuleLoadDataEx"), 2);
}

TEST_F(CudaDevices, LoadTheirOwnMachineCodeElseTheText) {
    const char* const images[] = {"sm_80", "sm_86", "sm_90", "sm_100"};
    const fusebn_device_image table[] = {
        {80, 5, images[0]}, {86, 5, images[1]}, {90, 5, images[2]}, {100, 6, images[3]}};
    fake_device_code() = {"fake ptx", 8, 4, table};
    const std::pair<int, const char*> cases[] = {{80, "sm_80"}, {86, "sm_86"},   {89, "sm_86"},
                                                 {90, "sm_90"}, {103, "sm_100"}, {120, "fake ptx"}};
    for (const auto& [capability, expected] : cases) {
        fake_cuda().capability = capability;
        BatchNorm2d bn(4, library_.table(), on(Device::cuda()));
        DeviceTensor x(Device::cuda(), noise(72)), y(Device::cuda(), noise(72));
        expect_ok(bn.forward(of(x), of(y)));
        EXPECT_EQ(fake_cuda().loaded.back().image, expected);
    }
    const fusebn_device_image wrong[] = {{90, 11, "for another"}};
    fake_device_code() = {"fake ptx", 8, 1, wrong};
    fake_cuda().capability = 90;
    BatchNorm2d bn(4, library_.table(), on(Device::cuda()));
    DeviceTensor x(Device::cuda(), noise(72)), y(Device::cuda(), noise(72));
    expect_ok(bn.forward(of(x), of(y)));
    EXPECT_EQ(fake_cuda().loaded.back().image, "fake ptx");
}

// ---- streams and memory

TEST_F(CudaDevices, WaitForAStreamBeforeTheNext) {
    int stream = 0;
    BatchNorm2d bn(4, library_.table(), on(Device::cuda())), other(4, library_.table(), on(Device::cuda()));
    DeviceTensor x(Device::cuda(), noise(72)), y(Device::cuda(), noise(72));
    fake_cuda().forget();
    expect_ok(bn.forward(of(x), of(y)));
    EXPECT_EQ(fake_cuda().count("cuStreamSynchronize"), 0);
    expect_ok(bn.set_stream(nullptr));
    EXPECT_EQ(fake_cuda().count("cuStreamSynchronize"), 0);
    expect_ok(bn.set_stream(&stream));
    EXPECT_EQ(fake_cuda().count("cuStreamSynchronize"), 1);
    expect_error(bn.forward_sum(of(x), other, of(x), of(y)), ErrorCode::invalid_argument, "other: its stream is not");
    expect_ok(other.set_stream(&stream));
    expect_ok(bn.forward_sum(of(x), other, of(x), of(y)));
    BatchNorm2d cpu(4, library_.table());
    expect_ok(cpu.set_stream(nullptr));
    expect_error(cpu.set_stream(&stream), ErrorCode::invalid_argument, "stream: the layer is on the CPU");
}

TEST_F(CudaDevices, TakeNoMoreMemoryCallAfterCall) {
    FakeLibrary library = library_of_both(Activation::relu);
    BatchNorm2d bn(4, library.table(), on(Device::cuda(), Activation::relu));
    DeviceTensor x(Device::cuda(), noise(4096)), y(Device::cuda(), noise(4096)), z(Device::cuda(), noise(4096));
    const auto step = [&](std::int64_t n) {
        const auto t = [&](const DeviceTensor& tensor) { return tensor.view(Layout::NCHW, {n, 4, 3, 3}); };
        expect_ok(bn.forward_add(t(x), t(z), t(y)));
        expect_ok(bn.backward_add(t(x), t(y), t(y), t(z)));
    };
    step(10);
    fake_cuda().forget();
    for (int i = 0; i < 3; ++i) step(10), step(9);
    EXPECT_EQ(fake_cuda().count("cuMemAlloc"), 0);
    for (std::int64_t n = 11; n <= 110; ++n) step(n);
    EXPECT_LE(fake_cuda().count("cuMemAlloc"), 8) << "growing, it grows by a half at least";
}

TEST_F(CudaDevices, MemoryIsWhatItSays) {
    EXPECT_EQ(DeviceMemory().bytes(), 0u);
    EXPECT_EQ(DeviceMemory().data(), nullptr);
    for (const Device& device : {Device::cpu(), Device::cuda(1)}) {
        DeviceMemory memory(device, 8);
        expect_ok(memory.status());
        EXPECT_EQ(memory.bytes(), 8u);
        std::int64_t in = 42, out = 0;
        expect_ok(memory.upload(&in, 8));
        DeviceMemory moved = std::move(memory);
        expect_ok(moved.download(&out, 8));
        EXPECT_EQ(out, 42);
        expect_error(moved.upload(&in, 9), ErrorCode::invalid_argument, "9 are asked for, but there are 8");
        expect_error(moved.download(nullptr, 8), ErrorCode::null_pointer, "it is null");
        expect_error(memory.upload(&in, 8), ErrorCode::invalid_argument, "moved from");
        expect_error(memory.download(&in, 8), ErrorCode::invalid_argument, "moved from");
    }
    fake_cuda().fail(1, 2, "cuMemAlloc");
    DeviceMemory none(Device::cuda(), 8);
    expect_error(none.status(), ErrorCode::out_of_memory, "an allocation of 8 bytes failed: CUDA_ERROR_OUT_OF_MEMORY");
    EXPECT_EQ(none.data(), nullptr);
    EXPECT_EQ(none.upload(&none, 8).code(), ErrorCode::out_of_memory);
}

}  // namespace
}  // namespace fusebn::test
