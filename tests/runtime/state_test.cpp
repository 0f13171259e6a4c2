// set_state, and the count of batches.
#include <gtest/gtest.h>

#include <limits>

#include "fake_library.h"

namespace fusebn::test {
namespace {

TEST(State, IsRefusedWhenItsSizesAreNotTheLayers) {
    FakeLibrary library = generic_library();
    BatchNorm1d layer(2, library.table());
    const BatchNormState good{{1, 2}, {3, 4}, {5, 6}, {7, 8}, 9};
    ASSERT_TRUE(layer.set_state(good).ok());
    const auto expect_refused = [&](auto&& change, const std::string& words) {
        BatchNormState state = good;
        change(state);
        const Status s = layer.set_state(state);
        EXPECT_EQ(s.code(), ErrorCode::invalid_argument);
        EXPECT_NE(s.message().find(words), std::string::npos) << s.message();
        EXPECT_EQ(layer.state().gamma, good.gamma);
        EXPECT_EQ(layer.state().running_var, good.running_var);
        EXPECT_EQ(layer.state().num_batches_tracked, 9);
    };
    expect_refused([](BatchNormState& s) { s.gamma = {1}; }, "gamma has 1 values; expected 2");
    expect_refused([](BatchNormState& s) { s.beta = {}; }, "beta has 0");
    expect_refused([](BatchNormState& s) { s.running_mean = {1, 2, 3}; }, "running_mean has 3");
    expect_refused([](BatchNormState& s) { s.running_var = {}; }, "running_var has 0");
    expect_refused([](BatchNormState& s) { s.running_var = {1, -1e-30f}; }, "running_var[1] is negative");
    expect_refused([](BatchNormState& s) { s.num_batches_tracked = -1; }, "num_batches_tracked is -1");
}

TEST(State, StartsAgainWhenReset) {
    FakeLibrary library = generic_library();
    BatchNorm1d layer(2, library.table());
    ASSERT_TRUE(layer.set_state({{1, 2}, {3, 4}, {5, 6}, {7, 8}, 9}).ok());
    layer.reset_running_stats();
    EXPECT_EQ(layer.state().running_mean, (std::vector<float>{0, 0}));
    EXPECT_EQ(layer.state().running_var, (std::vector<float>{1, 1}));
    EXPECT_EQ(layer.state().num_batches_tracked, 0);
    EXPECT_EQ(layer.state().gamma, (std::vector<float>{1, 2}));
}

TEST(State, StopsCountingAtTheLastCount) {
    FakeLibrary library = generic_library();
    BatchNorm1d layer(2, library.table());
    constexpr std::int64_t last = std::numeric_limits<std::int64_t>::max();
    ASSERT_TRUE(layer.set_state({{1, 1}, {0, 0}, {0, 0}, {1, 1}, last}).ok());
    const std::vector<float> x = noise(10);
    std::vector<float> y(10);
    EXPECT_TRUE(layer.forward(tensor(x.data(), Layout::NC, {5, 2}), tensor(y.data(), Layout::NC, {5, 2})).ok());
    EXPECT_EQ(layer.state().num_batches_tracked, last);
}

}  // namespace
}  // namespace fusebn::test
