// A layer on a device does what the same layer does on the CPU, to the bit: the fake kernels are the same there.
#include <optional>

#include "on_cuda.h"

namespace fusebn::test {
namespace {

struct Mode {
    const char* name;
    bool training, frozen, tracks, affine;
};
constexpr Mode modes[] = {{"training", true, false, true, true},
                          {"frozen", true, true, true, true},
                          {"evaluation", false, false, true, true},
                          {"untracked", true, false, false, true},
                          {"untracked_evaluation", false, false, false, true},
                          {"plain", true, false, true, false}};

struct Form {
    Layout layout;
    Extents extents, strides;
};
const Form forms[] = {{Layout::NCHW, {2, 4, 3, 3}, {}},
                      {Layout::NHWC, {2, 3, 3, 4}, {}},
                      {Layout::NCHW, {18, 4, 1, 1}, {}},
                      {Layout::NCHW, {3, 4, 2, 3}, {32, 7, 3, 1}}};

// One layer with a second one beside it, on one device, with tensors of its own.
class Rig {
public:
    static constexpr std::size_t size = 128;

    Rig(const Device& device, Activation activation, DataType dtype, const Mode& mode)
        : device_(device), dtype_(dtype), library_(library_of_both(activation, dtype)) {
        plain_ = library_of_both(Activation::none, dtype);
        BatchNormOptions options = on(device, activation);
        options.track_running_stats = mode.tracks;
        options.affine = mode.affine;
        options.slope = 0.25;
        layer.emplace(4, library_.table(), options);
        options.activation = Activation::none;
        options.eps = 0.25;
        options.momentum = Momentum::cumulative();
        other.emplace(4, plain_.table(), options);
        for (BatchNorm2d* bn : {&*layer, &*other}) {
            expect_ok(bn->status());
            BatchNormState state = bn->state();
            if (mode.affine) state.gamma = {1, 2, -1, 0.5f}, state.beta = {0, 0.25f, 1, -1};
            if (mode.tracks) state.running_mean = {0, 1, -1, 0.125f}, state.running_var = {1, 0.7f, 2, 3};
            expect_ok(bn->set_state(state));
            bn->train(mode.training);
            expect_ok(bn->freeze_statistics(mode.frozen));
        }
        for (std::uint32_t i = 0; i < 7; ++i) tensors_.push_back(make(noise(size, i == 0 ? 1 : 0, i + 1)));
    }

    // The results of all calls, one after the other.
    std::vector<std::vector<float>> run(const Form& form) {
        enum { X, residual, dy, y, dx, second, unused };
        const auto of = [&](int i) {
            return tensors_[static_cast<std::size_t>(i)]->view(form.layout, form.extents, form.strides);
        };
        std::vector<std::vector<float>> seen;
        const auto note = [&](const Status& s, std::initializer_list<int> outputs) {
            // In evaluation mode backward has its reasons not to run, which are the CPU's.
            if (layer->is_training()) {
                EXPECT_TRUE(s.ok()) << s.message();
            }
            seen.push_back({static_cast<float>(s.code())});
            for (const int i : outputs) seen.push_back(tensors_[static_cast<std::size_t>(i)]->get());
            for (BatchNorm2d* bn : {&*layer, &*other}) {
                const BatchNormState& state = bn->state();
                seen.insert(seen.end(), {state.gamma,
                                         state.beta,
                                         state.running_mean,
                                         state.running_var,
                                         bn->grad_gamma(),
                                         bn->grad_beta(),
                                         {static_cast<float>(state.num_batches_tracked)}});
                seen.emplace_back(bn->saved_mean().begin(), bn->saved_mean().end());
                seen.emplace_back(bn->saved_inv_std().begin(), bn->saved_inv_std().end());
            }
        };
        BackwardOptions options, with_residual;
        with_residual.residual = of(residual);
        with_residual.gamma = Gradient::accumulate;
        options.beta = Gradient::accumulate;
        const Activation activation = layer->options().activation;
        const bool reads_residual = activation == Activation::silu || activation == Activation::hardswish;
        note(layer->forward(of(X), of(y)), {y});
        note(layer->backward(of(X), of(dy), of(dx), options), {dx});
        note(layer->backward(of(X), of(dy), std::nullopt, {Gradient::skip, Gradient::overwrite, {}}), {dx});
        note(layer->forward_add(of(X), of(residual), of(y)), {y});
        note(layer->backward_add(of(X), of(dy), of(dx), of(second), reads_residual ? with_residual : options),
             {dx, second});
        note(layer->forward_sum(of(X), *other, of(residual), of(y)), {y});
        note(layer->backward_sum(of(X), *other, of(residual), of(dy), of(dx), of(second), options), {dx, second});
        layer->zero_grad();
        layer->reset_running_stats();
        note(layer->forward(of(X), of(X)), {X});  // in place
        return seen;
    }
    std::optional<BatchNorm2d> layer, other;

private:
    std::unique_ptr<DeviceTensor> make(const std::vector<float>& values) {
        return std::make_unique<DeviceTensor>(device_, values, dtype_);
    }
    Device device_;
    DataType dtype_;
    FakeLibrary library_, plain_;
    std::vector<std::unique_ptr<DeviceTensor>> tensors_;
};

class CudaLayer : public OnCuda {};

TEST_F(CudaLayer, DoesWhatTheCpusDoes) {
    for (const Mode& mode : modes) {
        for (const auto& activation : activation_names) {
            for (const DataType dtype : {DataType::f32, DataType::bf16, DataType::f16}) {
                SCOPED_TRACE(testing::Message() << mode.name << " " << activation.name << " " << to_string(dtype));
                Rig cpu(Device::cpu(), activation.value, dtype, mode);
                Rig cuda(Device::cuda(1), activation.value, dtype, mode);
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
        bn.set_diagnostics(diagnostics);
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
