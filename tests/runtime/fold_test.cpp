// fold_batch_norm: a convolution followed by the layer in evaluation mode, against the folded one alone.
#include "fusebn/fold.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fake_library.h"

namespace fusebn::test {
namespace {

constexpr float untouched = -7.0f;

// 300 features, more than a block of the loops.
class Fold : public testing::Test {
protected:
    static constexpr std::size_t features = 300, inputs = 7;
    FakeLibrary library_ = generic_library();
    std::vector<float> weight_ = noise(features * inputs, 0, 1), bias_ = noise(features, 0, 2);
    std::vector<float> folded_weight_ = std::vector<float>(features * inputs, untouched);
    std::vector<float> folded_bias_ = std::vector<float>(features, untouched);

    BatchNorm2d layer(bool affine = true, bool tracks = true) {
        BatchNormOptions options;
        options.affine = affine;
        options.track_running_stats = tracks;
        options.eps = 0.01;
        BatchNorm2d made(static_cast<int>(features), library_.table(), options);
        BatchNormState state = made.state();
        if (affine) state.gamma = noise(features, 0, 3);
        if (affine) state.beta = noise(features, 0, 4);
        if (tracks) state.running_mean = noise(features, 0, 5);
        if (tracks) state.running_var = noise(features, 1.5f, 6);
        EXPECT_TRUE(made.set_state(state).ok());
        return made;
    }
    static std::size_t place(std::size_t c, std::size_t i, ChannelAxis axis) {
        return axis == ChannelAxis::first ? c * inputs + i : i * features + c;
    }
    // By what the layer makes of a linear layer's outputs, in double.
    void expect_same_function(const BatchNorm& bn, const std::vector<float>& weight, const std::vector<float>& bias,
                              ChannelAxis axis, const float* folded_weight, const float* folded_bias) {
        const std::vector<float> in = noise(inputs, 0, 7);
        const BatchNormState& s = bn.state();
        for (std::size_t c = 0; c < features; ++c) {
            double before = bias.empty() ? 0 : bias[c], folded = folded_bias[c];
            for (std::size_t i = 0; i < inputs; ++i) {
                before += static_cast<double>(weight[place(c, i, axis)]) * in[i];
                folded += static_cast<double>(folded_weight[place(c, i, axis)]) * in[i];
            }
            const double after = (s.gamma.empty() ? 1.0 : s.gamma[c]) * (before - s.running_mean[c]) /
                                     std::sqrt(s.running_var[c] + 0.01) +
                                 (s.beta.empty() ? 0.0 : s.beta[c]);
            // Each folded number is rounded once: half a unit of 2^-23 of numbers below 8.
            EXPECT_NEAR(folded, after, 8 * (inputs + 1) * 0x1p-24) << c;
        }
        const double scale = (s.gamma.empty() ? 1.0 : s.gamma[0]) / std::sqrt(s.running_var[0] + 0.01);
        EXPECT_EQ(folded_weight[0], static_cast<float>(scale * weight[0])) << "in double, rounded once";
    }
    void expect_refused(const Status& s, ErrorCode code, const std::string& words) {
        EXPECT_EQ(s.code(), code) << s.message();
        EXPECT_NE(s.message().find(words), std::string::npos) << s.message();
        EXPECT_EQ(folded_weight_, std::vector<float>(features * inputs, untouched));
        EXPECT_EQ(folded_bias_, std::vector<float>(features, untouched));
        EXPECT_EQ(weight_, noise(features * inputs, 0, 1));
        EXPECT_EQ(bias_, noise(features, 0, 2));
    }
};

TEST_F(Fold, IsTheLayerAfterTheConvolution) {
    for (const bool affine : {true, false}) {
        const BatchNorm2d bn = layer(affine);
        for (const ChannelAxis axis : {ChannelAxis::first, ChannelAxis::last}) {
            for (const bool has_bias : {true, false}) {
                SCOPED_TRACE(testing::Message() << affine << static_cast<int>(axis) << has_bias);
                const Status s = fold_batch_norm(bn, weight_.data(), has_bias ? bias_.data() : nullptr, inputs,
                                                 folded_weight_.data(), folded_bias_.data(), axis);
                ASSERT_TRUE(s.ok()) << s.message();
                expect_same_function(bn, weight_, has_bias ? bias_ : std::vector<float>(), axis, folded_weight_.data(),
                                     folded_bias_.data());
            }
        }
    }
}

TEST_F(Fold, MayBeInPlace) {
    const BatchNorm2d bn = layer();
    for (const ChannelAxis axis : {ChannelAxis::first, ChannelAxis::last}) {
        std::vector<float> weight = weight_, bias = bias_;
        ASSERT_TRUE(fold_batch_norm(bn, weight.data(), bias.data(), inputs, weight.data(), bias.data(), axis).ok());
        expect_same_function(bn, weight_, bias_, axis, weight.data(), bias.data());
    }
}

TEST_F(Fold, RefusesSharedMemory) {
    const BatchNorm2d bn = layer();
    std::vector<float> all(4 * features * inputs, 1.0f);
    const auto expect_overlap = [&](std::size_t weight, std::size_t bias, std::size_t folded_weight,
                                    std::size_t folded_bias, const std::string& words) {
        expect_refused(fold_batch_norm(bn, &all[weight], &all[bias], inputs, &all[folded_weight], &all[folded_bias]),
                       ErrorCode::overlap, words);
        EXPECT_EQ(all, std::vector<float>(4 * features * inputs, 1.0f));
    };
    constexpr std::size_t n = features * inputs;
    expect_overlap(0, 3 * n, 1, 3 * n + 400, "folded_weight: it shares memory with weight");
    expect_overlap(1, 3 * n, 0, 3 * n + 400, "folded_weight: it shares memory with weight");
    expect_overlap(0, 3 * n, n, n - 1, "folded_bias: it shares memory with weight");
    expect_overlap(0, 3 * n, n, 2 * n - 1, "folded_bias: it shares memory with folded_weight");
    expect_overlap(0, 3 * n, 0, 0, "folded_bias: it shares memory with weight");
    expect_overlap(0, 3 * n, n, 3 * n + 1, "folded_bias: it shares memory with bias");
    expect_overlap(0, 2 * n - 1, n, 3 * n, "folded_weight: it shares memory with bias");
    EXPECT_TRUE(fold_batch_norm(bn, all.data(), &all[3 * n], inputs, &all[n], &all[2 * n]).ok()) << "side by side";
}

TEST_F(Fold, RefusesWhatItCannotFold) {
    const auto bad = ErrorCode::invalid_argument;
    const auto fold = [&](const BatchNorm& bn, const float* weight, std::int64_t count, float* to_weight,
                          float* to_bias, ChannelAxis axis = ChannelAxis::first) {
        return fold_batch_norm(bn, weight, bias_.data(), count, to_weight, to_bias, axis);
    };
    const BatchNorm2d bn = layer();
    float *const to_weight = folded_weight_.data(), *const to_bias = folded_bias_.data();
    expect_refused(fold(layer(true, false), weight_.data(), inputs, to_weight, to_bias), bad,
                   "layer: it tracks no running statistics");
    expect_refused(fold(bn, weight_.data(), 0, to_weight, to_bias), bad, "inputs: it is 0");
    expect_refused(fold(bn, weight_.data(), -1, to_weight, to_bias), bad, "inputs: it is -1");
    expect_refused(fold(bn, weight_.data(), std::int64_t{1} << 60, to_weight, to_bias), bad, "inputs: it is 115292");
    expect_refused(fold(bn, weight_.data(), inputs, to_weight, to_bias, static_cast<ChannelAxis>(2)), bad, "axis: 2");
    const auto null = ErrorCode::null_pointer;
    expect_refused(fold(bn, nullptr, inputs, to_weight, to_bias), null, "weight: it is null");
    expect_refused(fold(bn, weight_.data(), inputs, nullptr, to_bias), null, "folded_weight: it is null");
    expect_refused(fold(bn, weight_.data(), inputs, to_weight, nullptr), null, "folded_bias: it is null");
    const auto off = [](const float* values) {
        return reinterpret_cast<float*>(reinterpret_cast<std::uintptr_t>(values) + 1);
    };
    const auto misaligned = ErrorCode::misaligned;
    expect_refused(fold(bn, off(weight_.data()), inputs, to_weight, to_bias), misaligned,
                   "weight: its address is no multiple of 4");
    expect_refused(fold_batch_norm(bn, weight_.data(), off(bias_.data()), inputs, to_weight, to_bias), misaligned,
                   "bias: its address");
    expect_refused(fold(bn, weight_.data(), inputs, off(to_weight), to_bias), misaligned, "folded_weight: its address");
    expect_refused(fold(bn, weight_.data(), inputs, to_weight, off(to_bias)), misaligned, "folded_bias: its address");
    BatchNorm2d broken(0, library_.table());
    expect_refused(fold(broken, weight_.data(), inputs, to_weight, to_bias), bad, "features: it is 0");
}

}  // namespace
}  // namespace fusebn::test
