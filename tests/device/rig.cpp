#include "rig.h"

#include <gtest/gtest.h>

namespace fusebn::test {

Rig::Rig(const Device& device, const KernelTable& kernels, const KernelTable& plain, Activation activation,
         DataType dtype, const Mode& mode) {
    BatchNormOptions options = on(device, activation);
    options.track_running_stats = mode.tracks;
    options.affine = mode.affine;
    options.slope = 0.25;
    layer.emplace(4, kernels, options);
    options.activation = Activation::none;
    options.eps = 0.25;
    options.momentum = Momentum::cumulative();
    other.emplace(4, plain, options);
    for (BatchNorm2d* bn : {&*layer, &*other}) {
        expect_ok(bn->status());
        BatchNormState state = bn->state();
        if (mode.affine) state.gamma = {1, 2, -1, 0.5f}, state.beta = {0, 0.25f, 1, -1};
        if (mode.tracks) state.running_mean = {0, 1, -1, 0.125f}, state.running_var = {1, 0.7f, 2, 3};
        expect_ok(bn->set_state(state));
        bn->train(mode.training);
        expect_ok(bn->freeze_statistics(mode.frozen));
    }
    for (std::uint32_t i = 0; i < 7; ++i) {
        tensors_.push_back(std::make_unique<DeviceTensor>(device, noise(size, i == 0 ? 1 : 0, i + 1), dtype));
    }
}

std::vector<std::vector<float>> Rig::run(const Form& form) {
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

}  // namespace fusebn::test
