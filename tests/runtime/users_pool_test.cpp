// A function given to set_parallel_for that does not do what it is to do: the call fails, the layer stays as it was.
#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <utility>

#include "context.h"
#include "fake_library.h"

namespace fusebn::test {
namespace {

using Body = void (*)(void* arg, std::int32_t index);

class UsersPool : public testing::Test {
protected:
    static constexpr int features = 6;
    static constexpr std::size_t rows = 5, size = rows * features;
    FakeLibrary library_ = generic_library();
    BatchNorm1d bn_{features, library_.table()}, other_{features, library_.table()};
    std::vector<float> x_ = noise(size), x2_ = noise(size, 1.0f, 2), y_ = std::vector<float>(size);

    void SetUp() override {
        for (BatchNorm* layer : {static_cast<BatchNorm*>(&bn_), static_cast<BatchNorm*>(&other_)}) {
            BatchNormState state = layer->state();
            state.running_mean = noise(features, 0, 3);
            state.running_var = noise(features, 2, 4);
            state.num_batches_tracked = 7;
            ASSERT_TRUE(layer->set_state(state).ok());
        }
    }
    void TearDown() override { set_parallel_for({}); }

    static Extents extents() { return {static_cast<std::int64_t>(rows), features}; }
    ConstTensor x() { return tensor(std::as_const(x_).data(), Layout::NC, extents()); }
    ConstTensor x2() { return tensor(std::as_const(x2_).data(), Layout::NC, extents()); }
    Tensor y() { return tensor(y_.data(), Layout::NC, extents()); }

    // All calls, in all modes, on `parallel_for`.
    void expect_refused(const ParallelFor& parallel_for, const std::string& words) {
        const auto failed = [&](const char* what, BatchNorm& layer, const auto& call) {
            SCOPED_TRACE(what);
            set_parallel_for(parallel_for);
            const BatchNormState before = layer.state(), others_before = other_.state();
            const std::vector<float> grad_gamma = layer.grad_gamma(), grad_beta = layer.grad_beta();
            const Status s = call();
            set_parallel_for({});
            EXPECT_EQ(s.code(), ErrorCode::invalid_argument);
            EXPECT_NE(s.message().find("the function given to set_parallel_for ran " + words), std::string::npos)
                << s.message();
            expect_same(layer.state(), before);
            expect_same(other_.state(), others_before);
            EXPECT_EQ(layer.grad_gamma(), grad_gamma);
            EXPECT_EQ(layer.grad_beta(), grad_beta);
        };
        failed("training", bn_, [&] { return bn_.forward(x(), y()); });
        failed("of a sum", bn_, [&] { return bn_.forward_sum(x(), other_, x2(), y()); });
        ASSERT_TRUE(bn_.forward(x(), y()).ok());
        failed("backward", bn_, [&] { return bn_.backward(x(), x2(), y()); });
        bn_.eval();
        failed("evaluation", bn_, [&] { return bn_.forward(x(), y()); });
        bn_.train();
        ASSERT_TRUE(bn_.forward(x(), y()).ok()) << "on the pool";
    }
    static void expect_same(const BatchNormState& a, const BatchNormState& b) {
        EXPECT_EQ(a.running_mean, b.running_mean);
        EXPECT_EQ(a.running_var, b.running_var);
        EXPECT_EQ(a.num_batches_tracked, b.num_batches_tracked);
    }
};

TEST_F(UsersPool, ThatLeavesOutTasksFailsTheCall) {
    expect_refused([](std::int32_t, Body, void*) {}, "0 of 6 tasks, where every index from 0 to 5 was expected");
    expect_refused(
        [](std::int32_t count, Body body, void* arg) {
            for (std::int32_t i = 0; i < count / 2; ++i) body(arg, i);
        },
        "3 of 6 tasks");
    // As many runs as there are tasks.
    expect_refused(
        [](std::int32_t count, Body body, void* arg) {
            for (std::int32_t i = 0; i < count; ++i) body(arg, i == 4 ? 3 : i);
        },
        "5 of 6 tasks");
}

TEST_F(UsersPool, ThatAsksForTasksThatThereAreNotFailsTheCall) {
    const auto asks_for = [](std::int32_t more) {
        return [more](std::int32_t count, Body body, void* arg) {
            for (std::int32_t i = 0; i < count; ++i) body(arg, i);
            body(arg, more);
        };
    };
    expect_refused(asks_for(6), "6 of 6 tasks and asked for index 6, where every index from 0 to 5 was expected");
    expect_refused(asks_for(-1), "6 of 6 tasks and asked for index -1");
    expect_refused(asks_for(std::numeric_limits<std::int32_t>::min()), "6 of 6 tasks and asked for index -2147483648");
    expect_refused(
        [](std::int32_t count, Body body, void* arg) {
            for (std::int32_t i = 1; i <= count; ++i) body(arg, i);
        },
        "5 of 6 tasks and asked for index 6");
}

TEST_F(UsersPool, MayRunTasksTwice) {
    ASSERT_TRUE(bn_.forward(x(), y()).ok());
    const std::vector<float> expected = y_;
    set_parallel_for([](std::int32_t count, Body body, void* arg) {
        for (std::int32_t i = 0; i < 2 * count; ++i) body(arg, i / 2);
    });
    ASSERT_TRUE(bn_.forward(x(), y()).ok());
    EXPECT_EQ(y_, expected);
}

// The loops themselves; the longest is given to the function in parts.
TEST_F(UsersPool, RunsWhatThereIsAndNothingElse) {
    constexpr std::int32_t min = 7;
    std::multiset<std::int32_t> seen;
    const auto run = [&seen](std::int32_t count) {
        seen.clear();
        const fusebn_context* context = detail::kernel_context();
        const auto task = [](void*, std::int32_t index, std::uint8_t* closure) -> int {
            reinterpret_cast<std::multiset<std::int32_t>*>(closure)->insert(index);
            return 0;
        };
        return context->parallel_for(context, task, min, count, reinterpret_cast<std::uint8_t*>(&seen));
    };
    for (const std::int32_t count : {2, 63, 64, 65, 16384, 16385, 50000}) {
        SCOPED_TRACE(count);
        set_parallel_for([](std::int32_t part, Body body, void* arg) {
            for (std::int32_t i = part - 1; i >= 0; --i) body(arg, i);
        });
        EXPECT_EQ(run(count), 0);
        EXPECT_EQ(seen.size(), static_cast<std::size_t>(count));
        EXPECT_EQ(std::set<std::int32_t>(seen.begin(), seen.end()).size(), static_cast<std::size_t>(count));
        EXPECT_EQ(*seen.begin(), min);
        EXPECT_EQ(*seen.rbegin(), min + count - 1);

        // All but the last of all, and one too many.
        std::int32_t left = count;
        set_parallel_for([&left](std::int32_t part, Body body, void* arg) {
            left -= part;
            for (std::int32_t i = 0; i < part - (left == 0 ? 1 : 0); ++i) body(arg, i);
            body(arg, left == 0 ? part : 0);
        });
        EXPECT_EQ(run(count), detail::loop_incomplete);
        EXPECT_EQ(*seen.rbegin(), min + count - 2);
        EXPECT_EQ(detail::last_incomplete_loop().count - detail::last_incomplete_loop().run, 1);
        EXPECT_EQ(detail::last_incomplete_loop().outside, detail::last_incomplete_loop().count);
    }
}

TEST_F(UsersPool, CannotChangeTheNumberOfThreads) {
    const int threads_before = num_threads();
    const int other_number = threads_before == 2 ? 3 : 2;
    Status within;
    set_parallel_for([&](std::int32_t count, Body body, void* arg) {
        for (std::int32_t i = 0; i < count; ++i) body(arg, i);
        within = set_num_threads(other_number);
    });
    ASSERT_TRUE(bn_.forward(x(), y()).ok());
    EXPECT_EQ(within.code(), ErrorCode::invalid_argument);
    EXPECT_NE(within.message().find("count: "), std::string::npos) << within.message();
    EXPECT_EQ(num_threads(), threads_before);
    set_parallel_for([](std::int32_t, Body, void*) { throw 1; });
    EXPECT_FALSE(bn_.forward(x(), y()).ok());
    set_parallel_for({});
    EXPECT_TRUE(set_num_threads(other_number).ok()) << "also when it was left by an exception";
    EXPECT_TRUE(set_num_threads(threads_before).ok());
}

}  // namespace
}  // namespace fusebn::test
