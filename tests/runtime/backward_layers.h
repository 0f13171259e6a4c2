// The layers and tensors that the tests of backward calls have in common.
#pragma once

#include <gtest/gtest.h>

#include <functional>

#include "fake_library.h"

namespace fusebn::test {

inline constexpr float untouched = -7.0f;

// One layer's calls on tensors of its own; [2, 4, 3, 3] unless said otherwise.
class Backward : public testing::Test {
protected:
    static BatchNormOptions with(Activation activation) {
        BatchNormOptions options;
        options.activation = activation;
        return options;
    }
    FakeLibrary library_ = generic_library();
    FakeLibrary relu_ = generic_library(Activation::relu), silu_ = generic_library(Activation::silu);
    BatchNorm2d bn_{4, library_.table()}, other_{4, library_.table()};
    BatchNorm2d bn_relu_{4, relu_.table(), with(Activation::relu)};
    std::vector<float> x_ = noise(4096, 1, 1), x2_ = noise(4096, 2, 2), residual_ = noise(4096, 0, 3);
    std::vector<float> dy_ = noise(4096, 0, 4), y_ = std::vector<float>(4096);
    std::vector<float> dx_ = std::vector<float>(4096, untouched), dsecond_ = dx_;
    static constexpr Layout nchw = Layout::NCHW;
    const Extents extents_{2, 4, 3, 3};

    static Tensor of(std::vector<float>& values, const Extents& extents = {2, 4, 3, 3}, Layout layout = nchw) {
        return tensor(values.data(), layout, extents);
    }
    Tensor x() { return of(x_); }
    Tensor x2() { return of(x2_); }
    Tensor residual() { return of(residual_); }
    Tensor dy() { return of(dy_); }
    Tensor y() { return of(y_); }
    Tensor dx() { return of(dx_); }
    Tensor dsecond() { return of(dsecond_); }

    static void expect_ok(const Status& s) { ASSERT_TRUE(s.ok()) << s.message(); }
    // That nothing has run or changed but the message.
    void expect_refused(BatchNorm& layer, ErrorCode code, const std::string& words,
                        const std::function<Status()>& call) {
        const std::vector<float> gamma = layer.grad_gamma(), beta = layer.grad_beta();
        const std::vector<double> mean = layer.saved_mean();
        const std::vector<float> dx = dx_, second = dsecond_;
        const int runs = fake_run.runs;
        const Status s = call();
        EXPECT_EQ(s.code(), code) << s.message();
        EXPECT_NE(s.message().find(words), std::string::npos) << s.message();
        EXPECT_EQ(fake_run.runs, runs);
        EXPECT_EQ(dx_, dx);
        EXPECT_EQ(dsecond_, second);
        EXPECT_EQ(layer.grad_gamma(), gamma);
        EXPECT_EQ(layer.grad_beta(), beta);
        EXPECT_EQ(layer.saved_mean(), mean);
    }
    void expect_no_forward(BatchNorm& layer, const std::string& words, const std::function<Status()>& call) {
        expect_refused(layer, ErrorCode::no_forward, words, call);
    }
};

}  // namespace fusebn::test
