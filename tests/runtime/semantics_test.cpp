// What a layer computes and remembers, against an oracle in double; the semantics of torch.nn.BatchNorm.
#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "fake_library.h"

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

std::size_t size_of(const Extents& extents) {
    std::size_t size = 1;
    for (int i = 0; i < extents.rank(); ++i) size *= static_cast<std::size_t>(extents[i]);
    return size;
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
        EXPECT_DOUBLE_EQ(fake_run.momentum, 1.0 / batch);
        const Statistics s = statistics(x, Layout::NC, {5, 2});
        mean_sum += s.mean[0];
        var_sum += s.var[0] * 5 / 4;
        EXPECT_NEAR(layer.state().running_mean[0], mean_sum / batch, 1e-5);
        EXPECT_NEAR(layer.state().running_var[0], var_sum / batch, 1e-5);
        EXPECT_EQ(layer.state().num_batches_tracked, batch);
    }
    EXPECT_EQ(fake_run.ddof, 1);
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

TEST(Layer, IsSafeFromSeveralThreadsInEvaluationMode) {
    for (const bool tracks : {true, false}) {
        FakeLibrary library = generic_library();
        BatchNorm1d layer(2, library.table(), with(true, tracks));
        layer.eval();
        const std::vector<float> x = noise(40);
        std::vector<float> first(40);
        ASSERT_TRUE(
            layer.forward(tensor(x.data(), Layout::NCL, {2, 2, 10}), tensor(first.data(), Layout::NCL, {2, 2, 10}))
                .ok());
        std::vector<std::thread> threads;
        std::vector<int> wrong(4);
        for (std::size_t t = 0; t < 4; ++t) {
            threads.emplace_back([&, t] {
                std::vector<float> y(40);
                for (int i = 0; i < 200; ++i) {
                    const Status s = layer.forward(tensor(x.data(), Layout::NCL, {2, 2, 10}),
                                                   tensor(y.data(), Layout::NCL, {2, 2, 10}));
                    if (!s.ok() || y != first || BatchNorm::last_kernel().empty()) ++wrong[t];
                }
            });
        }
        for (std::thread& thread : threads) thread.join();
        EXPECT_EQ(wrong, std::vector<int>(4));
    }
}

TEST(Layer, LeavesTheStateWhenAKernelHasNoMemory) {
    FakeLibrary library = generic_library(Activation::none, {{InstructionSet::x86_64, 4, false, Kind::out_of_memory}});
    BatchNorm1d layer(2, library.table());
    const std::vector<float> x = noise(10);
    std::vector<float> y(10, -7.0f);
    const Status s = layer.forward(tensor(x.data(), Layout::NC, {5, 2}), tensor(y.data(), Layout::NC, {5, 2}));
    EXPECT_EQ(s.code(), ErrorCode::out_of_memory);
    EXPECT_EQ(y, std::vector<float>(10, -7.0f));
    EXPECT_EQ(layer.state().running_mean, (std::vector<float>{0, 0}));
    EXPECT_EQ(layer.state().running_var, (std::vector<float>{1, 1}));
    EXPECT_EQ(layer.state().num_batches_tracked, 0);
    EXPECT_TRUE(layer.saved_mean().empty());
}

TEST(Layer, CanBeMovedAndSaysSoWhenItWas) {
    FakeLibrary library = generic_library();
    BatchNorm1d layer(2, library.table());
    BatchNorm1d other = std::move(layer);
    const std::vector<float> x = noise(10);
    std::vector<float> y(10);
    EXPECT_TRUE(other.forward(tensor(x.data(), Layout::NC, {5, 2}), tensor(y.data(), Layout::NC, {5, 2})).ok());
    EXPECT_EQ(other.features(), 2);
    layer.train();  // NOLINT(bugprone-use-after-move): what a layer does then is the test
    layer.reset_running_stats();
    EXPECT_EQ(layer.features(), 0);
    EXPECT_EQ(layer.forward(tensor(x.data(), Layout::NC, {5, 2}), tensor(y.data(), Layout::NC, {5, 2})).code(),
              ErrorCode::invalid_argument);
    EXPECT_EQ(layer.set_state({}).code(), ErrorCode::invalid_argument);
    EXPECT_EQ(layer.save("/tmp/none").code(), ErrorCode::invalid_argument);
}

TEST(Layer, StartsInTrainingModeWithPyTorchsDefaults) {
    FakeLibrary library = generic_library();
    const BatchNorm2d layer(3, library.table());
    EXPECT_TRUE(layer.is_training());
    EXPECT_EQ(layer.state().gamma, (std::vector<float>{1, 1, 1}));
    EXPECT_EQ(layer.state().beta, (std::vector<float>{0, 0, 0}));
    EXPECT_EQ(layer.state().running_mean, (std::vector<float>{0, 0, 0}));
    EXPECT_EQ(layer.state().running_var, (std::vector<float>{1, 1, 1}));
    EXPECT_EQ(layer.options().eps, 1e-5);
    EXPECT_EQ(layer.options().momentum.value(), 0.1);
}

TEST(Layer, RefusesOptionsOutOfTheirRange) {
    FakeLibrary library = generic_library();
    const auto code = [&](int features, double eps, Momentum momentum, Activation activation = Activation::none) {
        BatchNormOptions options = with(true, true, momentum, activation);
        options.eps = eps;
        BatchNorm1d layer(features, library.table(), options);
        std::vector<float> x(10), y(10, -7.0f);
        const Status s = layer.forward(tensor(x.data(), Layout::NC, {5, 2}), tensor(y.data(), Layout::NC, {5, 2}));
        EXPECT_EQ(s.code(), layer.status().code()) << "every call gives the status";
        EXPECT_EQ(y, std::vector<float>(10, -7.0f));
        EXPECT_FALSE(s.message().empty());
        return s.code();
    };
    const double nan = std::nan("");
    EXPECT_EQ(code(0, 1e-5, 0.1), ErrorCode::invalid_argument);
    EXPECT_EQ(code(-1, 1e-5, 0.1), ErrorCode::invalid_argument);
    EXPECT_EQ(code(2147483647, 1e-5, 0.1), ErrorCode::invalid_argument);
    EXPECT_EQ(code(2, 0, 0.1), ErrorCode::invalid_argument);
    EXPECT_EQ(code(2, -1, 0.1), ErrorCode::invalid_argument);
    EXPECT_EQ(code(2, nan, 0.1), ErrorCode::invalid_argument);
    EXPECT_EQ(code(2, INFINITY, 0.1), ErrorCode::invalid_argument);
    EXPECT_EQ(code(2, 1e-5, -0.1), ErrorCode::invalid_argument);
    EXPECT_EQ(code(2, 1e-5, 1.1), ErrorCode::invalid_argument);
    EXPECT_EQ(code(2, 1e-5, nan), ErrorCode::invalid_argument);
    EXPECT_EQ(code(2, 1e-5, 0.1, static_cast<Activation>(9)), ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace fusebn::test
