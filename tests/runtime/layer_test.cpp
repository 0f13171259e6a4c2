// A layer as an object: how it starts, what it refuses to be, its modes, and what is left of it when it is moved.
#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>
#include <utility>

#include "fake_library.h"

namespace fusebn::test {
namespace {

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
        BatchNormOptions options;
        options.momentum = momentum;
        options.activation = activation;
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
    EXPECT_EQ(code(2, 1e-5, 0.1, static_cast<Activation>(-1)), ErrorCode::invalid_argument);
    const auto refused = [&](auto&& change, const std::string& words) {
        BatchNormOptions options;
        change(options);
        const BatchNorm1d layer(2, library.table(), options);
        EXPECT_EQ(layer.status().code(), ErrorCode::invalid_argument);
        EXPECT_EQ(layer.status().message().rfind(words, 0), 0u) << layer.status().message();
    };
    refused([](BatchNormOptions& o) { o.eps = -0.5; }, "options.eps: it is -0.5; expected a finite number above 0");
    refused([](BatchNormOptions& o) { o.momentum = 1.0000001; },
            "options.momentum: it is 1.0000001; expected a number from 0 to 1");
    refused([](BatchNormOptions& o) { o.slope = std::nan(""); }, "options.slope: it is nan");
    refused([](BatchNormOptions& o) { o.slope = -INFINITY; }, "options.slope: it is -inf");
    refused([](BatchNormOptions& o) { o.slope = 1e39; }, "options.slope: it is 1e+39; expected a finite f32");
    refused([](BatchNormOptions& o) { o.running_variance = static_cast<RunningVariance>(2); },
            "options.running_variance: 2 is unknown");
}

TEST(EvalGuard, PutsEveryLayerBackIntoItsMode) {
    FakeLibrary library = generic_library();
    BatchNorm1d a(2, library.table()), b(2, library.table());
    b.eval();
    {
        const EvalGuard outer({&a, &b, nullptr});
        EXPECT_FALSE(a.is_training());
        EXPECT_FALSE(b.is_training());
        {
            const EvalGuard inner({&b, &a, &a});
            EXPECT_FALSE(a.is_training());
        }
        EXPECT_FALSE(a.is_training()) << "as the outer one wants it";
        a.train();
        { const EvalGuard twice({&a, &a}); }
        EXPECT_TRUE(a.is_training()) << "as it was in between";
    }
    EXPECT_TRUE(a.is_training());
    EXPECT_FALSE(b.is_training());
    try {
        const EvalGuard guard({&a});
        throw std::runtime_error("in the middle of a test");
    } catch (const std::runtime_error&) {
    }
    EXPECT_TRUE(a.is_training());
}

}  // namespace
}  // namespace fusebn::test
