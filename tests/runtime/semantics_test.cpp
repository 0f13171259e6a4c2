// What a layer computes and remembers, against an oracle in double; the semantics of torch.nn.BatchNorm.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>
#include <utility>

#include "fake_library.h"
#include "fusebn/parallel.h"

namespace fusebn::test {
namespace {

BatchNormOptions with(bool affine, bool tracks, Momentum momentum = 0.1, Activation activation = Activation::none) {
    BatchNormOptions options;
    options.affine = affine;
    options.track_running_stats = tracks;
    options.momentum = momentum;
    options.activation = activation;
    return options;
}

// One layer of each dimension has all its layouts.
struct Case {
    int dimensions;
    Layout layout;
    Extents extents;
};
const Case cases[] = {{1, Layout::NC, {6, 5}},
                      {1, Layout::NCL, {3, 5, 7}},
                      {1, Layout::NLC, {3, 7, 5}},
                      {2, Layout::NCHW, {3, 5, 4, 2}},
                      {2, Layout::NHWC, {3, 4, 2, 5}},
                      {3, Layout::NCDHW, {2, 5, 3, 2, 2}},
                      {3, Layout::NDHWC, {2, 3, 2, 2, 5}},
                      {2, Layout::NCHW, {6, 5, 1, 1}},
                      {1, Layout::NCL, {6, 5, 1}}};

BatchNorm layer_of(int dimensions, const KernelTable& table, const BatchNormOptions& options) {
    if (dimensions == 1) return BatchNorm1d(5, table, options);
    if (dimensions == 2) return BatchNorm2d(5, table, options);
    return BatchNorm3d(5, table, options);
}

TEST(Layer, NormalisesEveryLayoutByTheBatchInTrainingMode) {
    FakeLibrary library = generic_library(Activation::relu);
    for (const Case& c : cases) {
        SCOPED_TRACE(to_string(c.layout));
        BatchNorm layer = layer_of(c.dimensions, library.table(), with(true, true, 0.25, Activation::relu));
        ASSERT_TRUE(layer.status().ok()) << layer.status().message();
        BatchNormState state = layer.state();
        state.gamma = {1, 2, -1, 0.5f, 3};
        state.beta = {0, 1, 0.5f, -1, 0};
        ASSERT_TRUE(layer.set_state(state).ok());
        const std::vector<float> x = noise(size_of(c.extents), 3.0f);
        std::vector<float> y(x.size());
        const Status status =
            layer.forward(tensor(x.data(), c.layout, c.extents), tensor(y.data(), c.layout, c.extents));
        ASSERT_TRUE(status.ok()) << status.message();

        const Statistics s = statistics(x, c.layout, c.extents);
        expect_near(y, normalised(x, c.layout, c.extents, s, state.gamma, state.beta, 1e-5, true));
        ASSERT_EQ(layer.saved_mean().size(), 5u);
        for (std::size_t i = 0; i < 5; ++i) {
            EXPECT_NEAR(layer.saved_mean()[i], s.mean[i], 1e-5);
            EXPECT_NEAR(layer.saved_inv_std()[i], 1 / std::sqrt(s.var[i] + 1e-5), 1e-4);
            EXPECT_NEAR(layer.state().running_mean[i], 0.25 * s.mean[i], 1e-5);
            EXPECT_NEAR(layer.state().running_var[i], 0.75 + 0.25 * s.var[i] * s.count / (s.count - 1), 1e-5);
        }
        EXPECT_EQ(layer.state().num_batches_tracked, 1);
    }
}

TEST(Layer, UsesTheRunningStatisticsInEvaluationModeAndChangesNothing) {
    FakeLibrary library = generic_library();
    for (const Case& c : cases) {
        SCOPED_TRACE(to_string(c.layout));
        BatchNorm layer = layer_of(c.dimensions, library.table(), {});
        BatchNormState state = layer.state();
        state.running_mean = {1, 2, 3, 4, 5};
        state.running_var = {1, 4, 9, 0, 2};
        state.num_batches_tracked = 12;
        ASSERT_TRUE(layer.set_state(state).ok());
        layer.eval();
        const std::vector<float> x = noise(size_of(c.extents));
        std::vector<float> y(x.size());
        ASSERT_TRUE(layer.forward(tensor(x.data(), c.layout, c.extents), tensor(y.data(), c.layout, c.extents)).ok());
        const Statistics running{{1, 2, 3, 4, 5}, {1, 4, 9, 0, 2}, 0};
        expect_near(y, normalised(x, c.layout, c.extents, running, {}, {}, 1e-5, false), 1e-3);
        EXPECT_EQ(layer.state().running_mean, state.running_mean);
        EXPECT_EQ(layer.state().running_var, state.running_var);
        EXPECT_EQ(layer.state().num_batches_tracked, 12);
        EXPECT_TRUE(layer.saved_mean().empty());
    }
}

TEST(Layer, TakesABatchOfOneValuePerChannelInEvaluationMode) {
    FakeLibrary library = generic_library();
    BatchNorm1d layer(3, library.table());
    layer.eval();
    const std::vector<float> x = {1, 2, 3};
    std::vector<float> y(3);
    ASSERT_TRUE(layer.forward(tensor(x.data(), Layout::NC, {1, 3}), tensor(y.data(), Layout::NC, {1, 3})).ok());
    expect_near(y, x, 1e-4);
}

TEST(Layer, AveragesAllBatchesEvenlyWithCumulativeMomentum) {
    FakeLibrary library = generic_library();
    BatchNorm1d layer(2, library.table(), with(true, true, Momentum::cumulative()));
    double mean_sum = 0, var_sum = 0;
    for (int batch = 1; batch <= 4; ++batch) {
        const std::vector<float> x = noise(10, static_cast<float>(batch), static_cast<std::uint32_t>(batch));
        std::vector<float> y(10);
        ASSERT_TRUE(layer.forward(tensor(x.data(), Layout::NC, {5, 2}), tensor(y.data(), Layout::NC, {5, 2})).ok());
        EXPECT_DOUBLE_EQ(fake_run["momentum"].value, 1.0 / batch);
        const Statistics s = statistics(x, Layout::NC, {5, 2});
        mean_sum += s.mean[0];
        var_sum += s.var[0] * 5 / 4;
        EXPECT_NEAR(layer.state().running_mean[0], mean_sum / batch, 1e-5);
        EXPECT_NEAR(layer.state().running_var[0], var_sum / batch, 1e-5);
        EXPECT_EQ(layer.state().num_batches_tracked, batch);
    }
    EXPECT_EQ(fake_run["ddof"].value, 1);
}

TEST(Layer, UsesTheBatchInBothModesWhenNotTracking) {
    FakeLibrary library = generic_library();
    BatchNorm1d layer(2, library.table(), with(true, false));
    EXPECT_TRUE(layer.state().running_mean.empty());
    EXPECT_TRUE(layer.state().running_var.empty());
    const std::vector<float> x = noise(10, 5.0f);
    const auto expected = normalised(x, Layout::NC, {5, 2}, statistics(x, Layout::NC, {5, 2}), {}, {}, 1e-5, false);
    std::vector<float> y(10);
    layer.eval();
    ASSERT_TRUE(layer.forward(tensor(x.data(), Layout::NC, {5, 2}), tensor(y.data(), Layout::NC, {5, 2})).ok());
    expect_near(y, expected);
    EXPECT_TRUE(layer.saved_mean().empty()) << "evaluation mode keeps nothing";
    layer.train();
    ASSERT_TRUE(layer.forward(tensor(x.data(), Layout::NC, {5, 2}), tensor(y.data(), Layout::NC, {5, 2})).ok());
    expect_near(y, expected);
    EXPECT_EQ(layer.saved_mean().size(), 2u);
    EXPECT_EQ(layer.state().num_batches_tracked, 0);
    EXPECT_TRUE(layer.state().running_mean.empty());
}

TEST(Layer, HasNoGammaAndBetaWhenNotAffine) {
    FakeLibrary library = generic_library();
    BatchNorm1d layer(2, library.table(), with(false, true));
    EXPECT_TRUE(layer.state().gamma.empty());
    EXPECT_TRUE(layer.state().beta.empty());
    const std::vector<float> x = noise(10, 5.0f);
    std::vector<float> y(10);
    ASSERT_TRUE(layer.forward(tensor(x.data(), Layout::NC, {5, 2}), tensor(y.data(), Layout::NC, {5, 2})).ok());
    expect_near(y, normalised(x, Layout::NC, {5, 2}, statistics(x, Layout::NC, {5, 2}), {}, {}, 1e-5, false));
    layer.eval();
    ASSERT_TRUE(layer.forward(tensor(x.data(), Layout::NC, {5, 2}), tensor(y.data(), Layout::NC, {5, 2})).ok());
}

TEST(Layer, NormalisesInPlace) {
    FakeLibrary library = generic_library();
    BatchNorm2d layer(3, library.table());
    std::vector<float> x = noise(24);
    const auto expected =
        normalised(x, Layout::NCHW, {2, 3, 2, 2}, statistics(x, Layout::NCHW, {2, 3, 2, 2}), {}, {}, 1e-5, false);
    const Tensor view = tensor(x.data(), Layout::NCHW, {2, 3, 2, 2});
    ASSERT_TRUE(layer.forward(view, view).ok());
    expect_near(x, expected);
}

// Of all three calls, the second with a mask that nobody keeps.
TEST(Layer, IsSafeFromSeveralThreadsInEvaluationMode) {
    for (const bool tracks : {true, false}) {
        FakeLibrary library = generic_library(Activation::relu), plain = generic_library();
        BatchNorm1d layer(2, library.table(), with(true, tracks, 0.1, Activation::relu));
        BatchNorm1d other(2, plain.table(), with(true, tracks));
        layer.eval();
        other.eval();
        // Each thread has its own input, so that another's statistics would show.
        const auto run = [&](std::uint32_t thread, std::vector<float>& y) {
            const std::vector<float> x = noise(40, 0, thread), x2 = noise(40, 0, thread + 10);
            y.assign(120, 0);
            const ConstTensor in = tensor(x.data(), Layout::NCL, {2, 2, 10});
            const ConstTensor second = tensor(x2.data(), Layout::NCL, {2, 2, 10});
            const auto out = [&](int i) { return tensor(y.data() + 40 * i, Layout::NCL, {2, 2, 10}); };
            return layer.forward(in, out(0)).ok() && layer.forward_add(in, second, out(1)).ok() &&
                   layer.forward_sum(in, other, second, out(2)).ok() && !BatchNorm::last_kernel().empty();
        };
        std::vector<std::thread> threads;
        std::vector<int> wrong(4);
        std::vector<float> expected[4];
        for (std::uint32_t t = 0; t < 4; ++t) ASSERT_TRUE(run(t, expected[t]));
        for (std::uint32_t t = 0; t < 4; ++t) {
            threads.emplace_back([&, t] {
                std::vector<float> y;
                for (int i = 0; i < 500; ++i) {
                    if (!run(t, y) || y != expected[t]) ++wrong[t];
                }
            });
        }
        for (std::thread& thread : threads) thread.join();
        EXPECT_EQ(wrong, std::vector<int>(4));
    }
}

// While a call is in its kernel another thread makes the same one: what kernels write for the layer is not shared.
TEST(Layer, GivesCallsAtOnceResultsOfTheirOwn) {
    FakeLibrary library = generic_library(Activation::relu), plain = generic_library();
    BatchNorm1d layer(2, library.table(), with(true, false, 0.1, Activation::relu));
    BatchNorm1d other(2, plain.table(), with(true, false));
    layer.eval();
    other.eval();
    const std::vector<float> x = noise(40);
    const ConstTensor in = tensor(x.data(), Layout::NCL, {2, 2, 10});
    for (const bool sum : {true, false}) {
        const auto run = [&] {
            std::vector<float> y(40);
            const Tensor out = tensor(y.data(), Layout::NCL, {2, 2, 10});
            EXPECT_TRUE((sum ? layer.forward_sum(in, other, in, out) : layer.forward_add(in, in, out)).ok());
            return fake_run;
        };
        FakeRun inner;
        bool nested = false;
        set_parallel_for([&](std::int32_t count, auto body, void* arg) {
            if (!std::exchange(nested, true)) std::thread([&] { inner = run(); }).join();
            for (std::int32_t i = 0; i < count; ++i) body(arg, i);
        });
        const FakeRun outer = run();
        set_parallel_for({});
        ASSERT_TRUE(nested);
        for (const char* name : {"mean", "inv_std", "new_running_mean", "new_running_var"}) {
            EXPECT_NE(inner[name].data, outer[name].data) << name;
            if (!sum) continue;
            const std::string second = name + std::string("2");
            EXPECT_NE(inner[second].data, outer[second].data) << second;
        }
        EXPECT_TRUE(sum || inner["mask"].data != outer["mask"].data);
    }
}

TEST(Layer, TakesTheBiasedVarianceForTheRunningOneWhereAsked) {
    FakeLibrary library = generic_library();
    BatchNormOptions options;
    options.running_variance = RunningVariance::biased;
    options.momentum = 1;
    BatchNorm1d layer(2, library.table(), options);
    const std::vector<float> x = noise(10);
    std::vector<float> y(10);
    ASSERT_TRUE(layer.forward(tensor(x.data(), Layout::NC, {5, 2}), tensor(y.data(), Layout::NC, {5, 2})).ok());
    const Statistics s = statistics(x, Layout::NC, {5, 2});
    EXPECT_NEAR(layer.state().running_var[0], s.var[0], 1e-6);
}

TEST(Layer, AppliesEveryActivation) {
    for (const auto& activation : activation_names) {
        FakeLibrary library = generic_library(activation.value);
        BatchNormOptions options = with(true, true, 0.1, activation.value);
        options.slope = -0.25;
        BatchNorm1d layer(2, library.table(), options);
        ASSERT_TRUE(layer.status().ok()) << layer.status().message();
        const std::vector<float> x = noise(10);
        std::vector<float> y(10);
        ASSERT_TRUE(layer.forward(tensor(x.data(), Layout::NC, {5, 2}), tensor(y.data(), Layout::NC, {5, 2})).ok());
        std::vector<float> expected =
            normalised(x, Layout::NC, {5, 2}, statistics(x, Layout::NC, {5, 2}), {}, {}, 1e-5, false);
        for (float& v : expected) v = static_cast<float>(activate(activation.value, v, -0.25));
        expect_near(y, expected);
    }
}

TEST(Layer, AddsAResidualAlsoInPlace) {
    FakeLibrary library = generic_library(Activation::relu);
    const std::vector<float> x = noise(24, 0, 1), residual = noise(24, 0, 2);
    const Extents extents{2, 3, 2, 2};
    std::vector<float> expected =
        normalised(x, Layout::NCHW, extents, statistics(x, Layout::NCHW, extents), {}, {}, 1e-5, false);
    for (std::size_t i = 0; i < 24; ++i) expected[i] = std::max(expected[i] + residual[i], 0.0f);
    for (int place = 0; place < 3; ++place) {
        BatchNorm2d layer(3, library.table(), with(true, true, 0.1, Activation::relu));
        std::vector<float> in[] = {x, residual, std::vector<float>(24)};
        const auto view = [&](int i) { return tensor(in[i].data(), Layout::NCHW, extents); };
        ASSERT_TRUE(layer.forward_add(view(0), view(1), view(place)).ok());
        expect_near(in[place], expected);
        EXPECT_EQ(layer.state().num_batches_tracked, 1);
    }
}

TEST(Layer, WithFrozenStatisticsUsesThemInTrainingModeToo) {
    FakeLibrary library = generic_library();
    BatchNorm1d layer(2, library.table());
    BatchNormState state = layer.state();
    state.running_mean = {1, 2};
    state.running_var = {4, 9};
    ASSERT_TRUE(layer.set_state(state).ok());
    EXPECT_FALSE(layer.statistics_frozen());
    ASSERT_TRUE(layer.freeze_statistics().ok());
    EXPECT_TRUE(layer.statistics_frozen());
    EXPECT_TRUE(layer.is_training());
    const std::vector<float> x = noise(10);
    std::vector<float> y(10);
    const ConstTensor in = tensor(x.data(), Layout::NC, {5, 2});
    const Tensor out = tensor(y.data(), Layout::NC, {5, 2});
    ASSERT_TRUE(layer.forward(in, out).ok());
    expect_near(y, normalised(x, Layout::NC, {5, 2}, {{1, 2}, {4, 9}, 0}, {}, {}, 1e-5, false));
    EXPECT_EQ(layer.state().running_mean, state.running_mean);
    EXPECT_EQ(layer.state().num_batches_tracked, 0);
    EXPECT_TRUE(layer.saved_mean().empty());
    ASSERT_TRUE(layer.freeze_statistics(false).ok());
    ASSERT_TRUE(layer.forward(in, out).ok());
    EXPECT_EQ(layer.state().num_batches_tracked, 1);

    BatchNorm1d untracked(2, library.table(), with(true, false));
    const Status s = untracked.freeze_statistics();
    EXPECT_EQ(s.code(), ErrorCode::invalid_argument);
    EXPECT_NE(s.message().find("tracks no running statistics"), std::string::npos) << s.message();
    EXPECT_FALSE(untracked.statistics_frozen());
    EXPECT_TRUE(untracked.freeze_statistics(false).ok());
}

}  // namespace
}  // namespace fusebn::test
