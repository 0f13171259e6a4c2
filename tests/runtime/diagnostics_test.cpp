// What a layer says of its own use.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <thread>

#include "fake_library.h"

namespace fusebn::test {
namespace {

using Kind = Diagnostic::Kind;

class Diagnosis : public testing::Test {
protected:
    FakeLibrary library_ = generic_library();
    BatchNorm1d bn_{3, library_.table()};
    std::vector<Diagnostic> reports_;
    std::vector<float> x_ = noise(300), y_ = std::vector<float>(300);

    Diagnostics to_reports() {
        Diagnostics d;
        d.report = [this](const Diagnostic& report) { reports_.push_back(report); };
        return d;
    }
    Status forward(BatchNorm& layer, std::int64_t rows) {
        return layer.forward(tensor(x_.data(), Layout::NC, {rows, 3}), tensor(y_.data(), Layout::NC, {rows, 3}));
    }
    void expect_report(Kind kind, const BatchNorm& layer, const std::string& words) {
        ASSERT_EQ(reports_.size(), 1u);
        EXPECT_EQ(reports_[0].kind, kind);
        EXPECT_EQ(reports_[0].layer, &layer);
        EXPECT_NE(reports_[0].message.find(words), std::string::npos) << reports_[0].message;
        reports_.clear();
    }
};

TEST_F(Diagnosis, OfFewValues) {
    ASSERT_TRUE(bn_.set_diagnostics(to_reports()).ok());
    ASSERT_TRUE(forward(bn_, 16).ok());
    EXPECT_TRUE(reports_.empty());
    ASSERT_TRUE(forward(bn_, 15).ok());
    expect_report(Kind::few_values, bn_, "15 values per channel (interleaved r15_c3), and statistics of fewer than 16");
    Diagnostics fewer = to_reports();
    fewer.min_values = 3;
    ASSERT_TRUE(bn_.set_diagnostics(fewer).ok());
    ASSERT_TRUE(forward(bn_, 3).ok());
    EXPECT_TRUE(reports_.empty());
    ASSERT_TRUE(forward(bn_, 2).ok());
    expect_report(Kind::few_values, bn_, "2 values per channel");
    EXPECT_FALSE(forward(bn_, 1).ok());
    ASSERT_TRUE(bn_.set_diagnostics({}).ok());
    ASSERT_TRUE(forward(bn_, 2).ok());
    ASSERT_TRUE(bn_.set_diagnostics(to_reports()).ok());
    ASSERT_TRUE(bn_.freeze_statistics().ok());
    ASSERT_TRUE(forward(bn_, 2).ok());
    bn_.eval();
    ASSERT_TRUE(forward(bn_, 2).ok());
    EXPECT_TRUE(reports_.empty()) << "no statistics are taken of these";
}

TEST_F(Diagnosis, OfEvaluationBeforeTraining) {
    const auto fresh = [&] {
        BatchNorm1d layer(3, library_.table());
        EXPECT_TRUE(layer.set_diagnostics(to_reports()).ok());
        return layer;
    };
    BatchNorm1d first = fresh();
    first.eval();
    ASSERT_TRUE(forward(first, 20).ok());
    expect_report(Kind::eval_before_training, first, "mean 0 and variance 1");
    ASSERT_TRUE(forward(first, 20).ok());
    EXPECT_TRUE(reports_.empty()) << "once";

    BatchNorm1d frozen = fresh();
    ASSERT_TRUE(frozen.freeze_statistics().ok());
    ASSERT_TRUE(forward(frozen, 20).ok());
    expect_report(Kind::eval_before_training, frozen, "(frozen)");

    BatchNorm1d trained = fresh();
    ASSERT_TRUE(forward(trained, 20).ok());
    trained.eval();
    ASSERT_TRUE(forward(trained, 20).ok());
    EXPECT_TRUE(reports_.empty());
    trained.reset_running_stats();
    ASSERT_TRUE(forward(trained, 20).ok());
    expect_report(Kind::eval_before_training, trained, "evaluation mode");

    BatchNorm1d given = fresh();
    ASSERT_TRUE(given.set_state(given.state()).ok());
    given.eval();
    ASSERT_TRUE(forward(given, 20).ok());
    BatchNormOptions options;
    options.track_running_stats = false;
    BatchNorm1d untracked(3, library_.table(), options);
    ASSERT_TRUE(untracked.set_diagnostics(to_reports()).ok());
    untracked.eval();
    ASSERT_TRUE(forward(untracked, 20).ok());
    EXPECT_TRUE(reports_.empty());
}

TEST_F(Diagnosis, OfEvaluationComesOnceFromSeveralThreads) {
    for (int round = 0; round < 20; ++round) {
        BatchNorm1d bn(3, library_.table());
        std::atomic<int> reports{0};
        Diagnostics d;
        d.report = [&](const Diagnostic&) { ++reports; };
        ASSERT_TRUE(bn.set_diagnostics(d).ok());
        bn.eval();
        std::vector<std::thread> threads;
        for (int t = 0; t < 4; ++t) {
            threads.emplace_back([&] {
                std::vector<float> y(60);
                EXPECT_TRUE(
                    bn.forward(tensor(x_.data(), Layout::NC, {20, 3}), tensor(y.data(), Layout::NC, {20, 3})).ok());
            });
        }
        for (std::thread& thread : threads) thread.join();
        EXPECT_EQ(reports.load(), 1);
    }
}

// Channel 1 of the batch is moved or widened after ten batches like the first.
TEST_F(Diagnosis, OfDriftFromTheTenthBatchOn) {
    struct Case {
        float shift, scale;
        bool far;
    };
    for (const Case& c :
         {Case{0, 1, false}, Case{10, 1, true}, Case{-10, 1, true}, Case{1, 1, false}, Case{0, 50, true},
          Case{0, 0.01f, true}, Case{std::numeric_limits<float>::quiet_NaN(), 1, true}}) {
        SCOPED_TRACE(std::to_string(c.shift) + " " + std::to_string(c.scale));
        x_ = noise(300);
        reports_.clear();
        BatchNorm1d bn(3, library_.table());
        ASSERT_TRUE(bn.set_diagnostics(to_reports()).ok());
        BatchNormState state = bn.state();
        state.running_mean = {0, 0, 0};
        state.running_var = {0.33f, 0.33f, 0.33f};  // noise's
        state.num_batches_tracked = 8;
        ASSERT_TRUE(bn.set_state(state).ok());
        std::vector<float> moved = x_;
        for (std::size_t i = 1; i < moved.size(); i += 3) moved[i] = moved[i] * c.scale + c.shift;
        x_.swap(moved);
        ASSERT_TRUE(forward(bn, 100).ok());  // the ninth
        EXPECT_TRUE(reports_.empty());
        x_.swap(moved);
        ASSERT_TRUE(bn.set_state(state).ok());
        ASSERT_TRUE(forward(bn, 100).ok());
        EXPECT_TRUE(reports_.empty());
        x_.swap(moved);
        ASSERT_TRUE(forward(bn, 100).ok());  // the tenth
        if (c.far) {
            expect_report(Kind::drift, bn, "those of channel 1 (mean ");
            if (c.shift == 10) {
                Diagnostics lax = to_reports();
                lax.max_drift_sigmas = 100;
                ASSERT_TRUE(bn.set_diagnostics(lax).ok());
                ASSERT_TRUE(forward(bn, 100).ok());
                ASSERT_TRUE(bn.set_state(state).ok());
                x_.swap(moved);
                ASSERT_TRUE(bn.set_diagnostics(to_reports()).ok());
                ASSERT_TRUE(forward(bn, 100).ok());
                EXPECT_TRUE(reports_.empty()) << "that was another batch";
            }
        }
        EXPECT_TRUE(reports_.empty());
    }
}

TEST_F(Diagnosis, IsOfEachLayerOfASum) {
    BatchNorm1d other(3, library_.table());
    ASSERT_TRUE(other.set_diagnostics(to_reports()).ok());
    const auto sum = [&] {
        return bn_.forward_sum(tensor(x_.data(), Layout::NC, {5, 3}), other, tensor(x_.data(), Layout::NC, {5, 3}),
                               tensor(y_.data(), Layout::NC, {5, 3}));
    };
    ASSERT_TRUE(sum().ok());
    expect_report(Kind::few_values, other, "5 values per channel");
    ASSERT_TRUE(bn_.set_diagnostics(to_reports()).ok());
    ASSERT_TRUE(sum().ok());
    ASSERT_EQ(reports_.size(), 2u);
    EXPECT_EQ(reports_[0].layer, &bn_);
    EXPECT_EQ(reports_[1].layer, &other);
    reports_.clear();
    ASSERT_TRUE(other.set_diagnostics({}).ok());
    ASSERT_TRUE(bn_.forward_add(tensor(x_.data(), Layout::NC, {5, 3}), tensor(x_.data(), Layout::NC, {5, 3}),
                                tensor(y_.data(), Layout::NC, {5, 3}))
                    .ok());
    expect_report(Kind::few_values, bn_, "5 values");
}

TEST_F(Diagnosis, RefusesLimitsThatAreNone) {
    ASSERT_TRUE(bn_.set_diagnostics(to_reports()).ok());
    const auto expect_refused = [&](std::int64_t min_values, double max_drift_sigmas, const std::string& words) {
        const Status s = bn_.set_diagnostics({nullptr, min_values, max_drift_sigmas});
        EXPECT_EQ(s.code(), ErrorCode::invalid_argument);
        EXPECT_NE(s.message().find(words), std::string::npos) << s.message();
        ASSERT_TRUE(forward(bn_, 15).ok());
        expect_report(Kind::few_values, bn_, "15 values per channel");  // what was set before stays
    };
    expect_refused(-1, 3, "diagnostics.min_values: it is -1;");
    expect_refused(16, NAN, "diagnostics.max_drift_sigmas: it is nan;");
    expect_refused(16, -0.5, "diagnostics.max_drift_sigmas: it is -0.5;");
    expect_refused(16, -INFINITY, "diagnostics.max_drift_sigmas: it is -inf;");
    EXPECT_TRUE(bn_.set_diagnostics({nullptr, 0, 0}).ok());
    EXPECT_TRUE(bn_.set_diagnostics({nullptr, 0, INFINITY}).ok());
    BatchNorm1d broken(0, library_.table());
    EXPECT_EQ(broken.set_diagnostics({}).message(), broken.status().message());
}

TEST_F(Diagnosis, ComesWhenTheCallIsDone) {
    Diagnostics d;
    d.report = [](const Diagnostic& report) { throw std::runtime_error(report.message); };
    ASSERT_TRUE(bn_.set_diagnostics(d).ok());
    EXPECT_THROW(forward(bn_, 5).ok(), std::runtime_error);
    EXPECT_EQ(bn_.state().num_batches_tracked, 1);
    EXPECT_EQ(bn_.saved_mean().size(), 3u);
}

}  // namespace
}  // namespace fusebn::test
