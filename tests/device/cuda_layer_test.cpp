// A layer on a device does what the same layer does on the CPU, to the bit: the fake kernels are the same there.
#include "on_cuda.h"
#include "rig.h"

namespace fusebn::test {
namespace {

class CudaLayer : public OnCuda {};

TEST_F(CudaLayer, DoesWhatTheCpusDoes) {
    for (const Mode& mode : modes) {
        for (const auto& activation : activation_names) {
            for (const DataType dtype : {DataType::f32, DataType::bf16, DataType::f16}) {
                SCOPED_TRACE(testing::Message() << mode.name << " " << activation.name << " " << to_string(dtype));
                FakeLibrary library = library_of_both(activation.value, dtype);
                FakeLibrary plain = library_of_both(Activation::none, dtype);
                Rig cpu(Device::cpu(), library.table(), plain.table(), activation.value, dtype, mode);
                Rig cuda(Device::cuda(1), library.table(), plain.table(), activation.value, dtype, mode);
                for (const Form& form : forms) {
                    const auto expected = cpu.run(form), actual = cuda.run(form);
                    ASSERT_EQ(expected.size(), actual.size());
                    for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_EQ(expected[i], actual[i]) << i;
                }
            }
        }
    }
}

TEST_F(CudaLayer, GivesItsKernelsTheDevicesMemoryAlone) {
    FakeLibrary library = library_of_both(Activation::relu);
    BatchNorm2d bn(4, library.table(), on(Device::cuda(), Activation::relu));
    DeviceTensor x(Device::cuda(), noise(72)), y(Device::cuda(), noise(72)), z(Device::cuda(), noise(72));
    const Extents e{2, 4, 3, 3};
    const auto of = [&](DeviceTensor& t) { return t.view(Layout::NCHW, e); };
    expect_ok(bn.forward_add(of(x), of(z), of(y)));
    for (int i = 0; i < fake_run.count; ++i) {
        const FakeArgument& argument = fake_run.arguments[i];
        EXPECT_EQ(argument.on_device, argument.dimensions > 0) << argument.name;
    }
    EXPECT_EQ(fake_run["x"].data, x.data());
    EXPECT_EQ(fake_run["new_running_mean"].data, fake_run["running_mean"].data) << "a graph's replays go on from it";
    EXPECT_EQ(fake_run["mask"].extents(), (std::vector<std::int32_t>{9, 4, 2}));
    EXPECT_EQ(fake_run["mask"].strides(), (std::vector<std::int32_t>{1, 32, 128}));
    EXPECT_EQ(bn.saved_bytes(), 64u + 8 * 32) << "a byte an element, in rows of 32";
    EXPECT_EQ(BatchNorm::last_kernel(), "bn_train_forward_f32_planar_nany_cany_sany_add_relu cuda-sm_80 [plain loops]");
    EXPECT_EQ(bn.gamma(), fake_run["gamma"].data);
    EXPECT_EQ(bn.beta(), fake_run["beta"].data);
    expect_ok(bn.backward_add(of(x), of(y), of(y), of(z)));
    EXPECT_EQ(fake_run["dgamma"].data, bn.device_grad_gamma());
    EXPECT_EQ(fake_run["dbeta"].data, bn.device_grad_beta());
    expect_ok(
        bn.backward_add(of(x), of(y), std::nullopt, std::nullopt, {Gradient::overwrite, Gradient::accumulate, {}}));
    EXPECT_EQ(fake_run["dgamma"].data, bn.device_grad_gamma());
    EXPECT_NE(fake_run["dbeta"].data, bn.device_grad_beta());
    EXPECT_FALSE(fake_run["dx"].on_device);
}

// One spatial element: forward and backward may run in different views, and the mask follows.
TEST_F(CudaLayer, ChangesTheViewOfItsMaskWithTheTensors) {
    FakeLibrary library = library_of_both(Activation::relu);
    const Extents extents{9, 4, 1, 1}, apart{8, 2, 1, 1};
    for (const bool frozen : {false, true}) {
        for (const bool forward_is_dense : {true, false}) {
            BatchNorm2d bn(4, library.table(), on(Device::cuda(), Activation::relu));
            expect_ok(bn.freeze_statistics(frozen));
            DeviceTensor x(Device::cuda(), noise(72, 1)), z(Device::cuda(), noise(72)),
                dy(Device::cuda(), noise(72, 2));
            DeviceTensor y(Device::cuda(), noise(72)), dx(Device::cuda(), noise(72)), dz(Device::cuda(), noise(72));
            const auto of = [&](const DeviceTensor& t, bool dense) {
                return t.view(Layout::NCHW, extents, dense ? Extents() : apart);
            };
            expect_ok(bn.forward_add(of(x, forward_is_dense), of(z, true), of(y, true)));
            for (const bool backward_is_dense : {!forward_is_dense, forward_is_dense, true}) {
                dz.set(std::vector<float>(72, -7));
                expect_ok(bn.backward_add(of(x, backward_is_dense), of(dy, true), of(dx, true), of(dz, true)));
                EXPECT_EQ(fake_run["mask"].dimensions, backward_is_dense ? 2 : 3);
                const std::vector<float> result = y.get(), gradient = dz.get(), given = dy.get();
                for (std::size_t i = 0; i < 36; ++i) EXPECT_EQ(gradient[i], result[i] > 0 ? given[i] : 0) << i;
            }
        }
    }
}

TEST_F(CudaLayer, SavesAndLoadsAsTheCpusDoes) {
    FakeLibrary library = library_of_both();
    BatchNorm2d cpu(4, library.table()), cuda(4, library.table(), on(Device::cuda()));
    BatchNormState state = cpu.state();
    state.gamma = {1, 2, 3, 4};
    state.running_var = {4, 3, 2, 1};
    state.num_batches_tracked = 7;
    expect_ok(cpu.set_state(state));
    const std::string path = testing::TempDir() + "fusebn_device_state";
    expect_ok(cpu.save(path));
    expect_ok(cuda.load(path));
    EXPECT_EQ(cuda.state().gamma, state.gamma);
    EXPECT_EQ(cuda.state().running_var, state.running_var);
    const float changed[] = {9, 8, 7, 6};  // as an optimiser's kernel would
    std::copy(changed, changed + 4, cuda.gamma());
    expect_ok(cuda.save(path));
    expect_ok(cpu.load(path));
    EXPECT_EQ(cpu.state().gamma, (std::vector<float>{9, 8, 7, 6}));
    EXPECT_EQ(cpu.state().num_batches_tracked, 7);
}

TEST_F(CudaLayer, IsDiagnosedAsTheCpusIs) {
    FakeLibrary library = library_of_both();
    std::vector<std::string> messages[2];
    for (int i = 0; i < 2; ++i) {
        const Device device = i == 0 ? Device::cpu() : Device::cuda();
        BatchNorm2d bn(4, library.table(), on(device));
        Diagnostics diagnostics;
        diagnostics.report = [&, i](const Diagnostic& d) { messages[i].push_back(d.message); };
        ASSERT_TRUE(bn.set_diagnostics(diagnostics).ok());
        DeviceTensor x(device, noise(72)), far(device, noise(72, 40)), y(device, noise(72));
        const auto of = [](DeviceTensor& t) { return t.view(Layout::NCHW, {2, 4, 3, 3}); };
        bn.eval();
        expect_ok(bn.forward(of(x), of(y)));
        bn.train();
        for (int batch = 0; batch < 12; ++batch) expect_ok(bn.forward(of(x), of(y)));
        expect_ok(bn.forward(of(far), of(y)));
        expect_ok(bn.forward(x.view(Layout::NCHW, {1, 4, 1, 2}), y.view(Layout::NCHW, {1, 4, 1, 2})));
    }
    EXPECT_EQ(messages[0], messages[1]);
    EXPECT_GE(messages[0].size(), 3u);
}

}  // namespace
}  // namespace fusebn::test
