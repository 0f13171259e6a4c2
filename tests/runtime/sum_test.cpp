// forward_sum: which layers may meet, and that both change or neither.
#include <gtest/gtest.h>

#include <cmath>

#include "fake_library.h"

namespace fusebn::test {
namespace {

constexpr float untouched = -7.0f;

class Sum : public testing::Test {
protected:
    FakeLibrary library_ = generic_library();
    std::vector<float> x_ = noise(72, 1, 1), x2_ = noise(72, 2, 2), y_ = std::vector<float>(72, untouched);
    const Extents extents_{2, 4, 3, 3};

    Tensor of(std::vector<float>& values) { return tensor(values.data(), Layout::NCHW, extents_); }
    Status forward(BatchNorm& layer, BatchNorm& other) { return layer.forward_sum(of(x_), other, of(x2_), of(y_)); }
    void expect_refused(BatchNorm& layer, BatchNorm& other, ErrorCode code, const std::string& words) {
        const int runs = fake_run.runs;
        for (const Status& s :
             {forward(layer, other), layer.backward_sum(of(x_), other, of(x2_), of(x_), std::nullopt, std::nullopt)}) {
            EXPECT_EQ(s.code(), code) << s.message();
            EXPECT_NE(s.message().find(words), std::string::npos) << s.message();
        }
        EXPECT_EQ(fake_run.runs, runs);
        EXPECT_EQ(y_, std::vector<float>(72, untouched));
        EXPECT_EQ(layer.state().num_batches_tracked, 0);
        EXPECT_TRUE(layer.saved_mean().empty());
    }
};

TEST_F(Sum, RefusesAnotherLayerThatDoesNotFit) {
    BatchNorm2d bn(4, library_.table());
    const auto bad = ErrorCode::invalid_argument;
    expect_refused(bn, bn, bad, "other: it is the layer itself");
    BatchNorm2d wider(5, library_.table());
    expect_refused(bn, wider, bad, "other: it is a BatchNorm2d of 5 features, but the layer is a BatchNorm2d of 4");
    BatchNorm3d deeper(4, library_.table());
    expect_refused(bn, deeper, bad, "other: it is a BatchNorm3d");
    FakeLibrary relu = generic_library(Activation::relu);
    BatchNormOptions options;
    options.activation = Activation::relu;
    BatchNorm2d active(4, relu.table(), options);
    expect_refused(bn, active, bad, "other: its activation is relu; expected none");
    BatchNorm2d broken(0, library_.table());
    expect_refused(bn, broken, bad, "other: features: it is 0");
}

TEST_F(Sum, RefusesLayersOfDifferentModes) {
    BatchNorm2d bn(4, library_.table()), other(4, library_.table());
    const auto bad = ErrorCode::invalid_argument;
    other.eval();
    expect_refused(bn, other, bad,
                   "other: its mode stands for running statistics, but the layer's for the batch's statistics");
    expect_refused(other, bn, bad,
                   "other: its mode stands for the batch's statistics, but the layer's for running statistics");
    other.train();
    ASSERT_TRUE(other.freeze_statistics().ok());
    expect_refused(bn, other, bad, "freeze_statistics()");
    // Two ways to the same statistics.
    bn.eval();
    EXPECT_TRUE(forward(bn, other).ok());
    BatchNormOptions untracked;
    untracked.track_running_stats = false;
    BatchNorm2d by_batch(4, library_.table(), untracked);
    by_batch.eval();
    bn.train();
    EXPECT_TRUE(forward(bn, by_batch).ok());
    EXPECT_EQ(bn.saved_mean().size(), 4u);
    EXPECT_TRUE(by_batch.saved_mean().empty()) << "evaluation mode keeps nothing";
    EXPECT_EQ(bn.backward_sum(of(x_), by_batch, of(x2_), of(x_), std::nullopt, std::nullopt).code(),
              ErrorCode::no_forward);
}

TEST_F(Sum, NamesWhatIsWrongWithTheOthersTensor) {
    BatchNorm2d bn(4, library_.table()), other(4, library_.table());
    const auto message = [&](const ConstTensor& x2) {
        const Status s = bn.forward_sum(of(x_), other, x2, of(y_));
        EXPECT_FALSE(s.ok());
        return s.message();
    };
    EXPECT_EQ(message(ConstTensor()).rfind("x_other: its data is null", 0), 0u);
    EXPECT_EQ(message(tensor(x2_.data(), Layout::NCHW, {2, 4, 3, 2})).rfind("x_other: it is f32 NCHW {2, 4, 3, 2}", 0),
              0u);
    EXPECT_EQ(message(tensor(x2_.data(), Layout::NCHW, {2, 4, 3, 3}, {35, 9, 3, 1})).rfind("x_other: its strides", 0),
              0u);
    EXPECT_NE(message(tensor(y_.data() + 1, Layout::NCHW, {2, 4, 3, 3})).find("y: it begins 4 bytes before x_other"),
              std::string::npos);
    EXPECT_EQ(other.state().num_batches_tracked, 0);
}

TEST_F(Sum, UpdatesBothLayersOrNeither) {
    BatchNorm2d bn(4, library_.table());
    BatchNormOptions options;
    options.momentum = Momentum::cumulative();
    options.running_variance = RunningVariance::biased;
    BatchNorm2d other(4, library_.table(), options);
    ASSERT_TRUE(forward(bn, other).ok());
    const Statistics s = statistics(x_, Layout::NCHW, extents_), s2 = statistics(x2_, Layout::NCHW, extents_);
    std::vector<float> expected = normalised(x_, Layout::NCHW, extents_, s, {}, {}, 1e-5, false);
    const std::vector<float> second = normalised(x2_, Layout::NCHW, extents_, s2, {}, {}, 1e-5, false);
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += second[i];
    expect_near(y_, expected);
    for (std::size_t c = 0; c < 4; ++c) {
        EXPECT_NEAR(bn.saved_mean()[c], s.mean[c], 1e-12);
        EXPECT_NEAR(other.saved_mean()[c], s2.mean[c], 1e-12);
        EXPECT_NEAR(other.saved_inv_std()[c], 1 / std::sqrt(s2.var[c] + 1e-5), 1e-9);
        EXPECT_NEAR(bn.state().running_mean[c], 0.1 * s.mean[c], 1e-6);
        EXPECT_NEAR(bn.state().running_var[c], 0.9 + 0.1 * s.var[c] * 18 / 17, 1e-6);
        EXPECT_NEAR(other.state().running_mean[c], s2.mean[c], 1e-6);
        EXPECT_NEAR(other.state().running_var[c], s2.var[c], 1e-6);
    }
    EXPECT_EQ(bn.state().num_batches_tracked, 1);
    EXPECT_EQ(other.state().num_batches_tracked, 1);

    FakeLibrary broken = generic_library(Activation::none, {{InstructionSet::x86_64, 4, false, Kind::out_of_memory}});
    BatchNorm2d failing(4, broken.table());
    y_.assign(72, untouched);
    const BatchNormState before = other.state();
    EXPECT_EQ(forward(failing, other).code(), ErrorCode::out_of_memory);
    EXPECT_EQ(other.state().num_batches_tracked, 1);
    EXPECT_EQ(other.state().running_mean, before.running_mean);
    EXPECT_EQ(failing.state().num_batches_tracked, 0);
}

TEST_F(Sum, UsesTheLayersOwnLibrary) {
    FakeLibrary without;
    without.add(Op::train_forward, View::planar, {FUSEBN_ANY, FUSEBN_ANY, FUSEBN_ANY});
    BatchNorm2d bn(4, library_.table()), other(4, without.table());
    EXPECT_TRUE(forward(bn, other).ok());
    EXPECT_EQ(BatchNorm::last_kernel(),
              "bn_train_forward_f32_planar_nany_cany_sany_batch_norm_none x86-64 [plain loops]");
    const Status s = forward(other, bn);
    EXPECT_EQ(s.code(), ErrorCode::no_kernel);
    EXPECT_NE(s.message().find("bn_train_forward_f32_planar_n2_c4_s9_batch_norm_none"), std::string::npos);
    EXPECT_NE(s.message().find("activation = \"none\", residual = \"batch_norm\""), std::string::npos) << s.message();
}

TEST_F(Sum, MayBeInPlaceOfEither) {
    BatchNorm2d bn(4, library_.table()), other(4, library_.table());
    ASSERT_TRUE(forward(bn, other).ok());
    const std::vector<float> expected = y_;
    for (std::vector<float>* place : {&x_, &x2_}) {
        const std::vector<float> before = *place;
        EXPECT_TRUE(bn.forward_sum(of(x_), other, of(x2_), of(*place)).ok());
        EXPECT_EQ(*place, expected);
        *place = before;
    }
    // One tensor through two layers.
    EXPECT_TRUE(bn.forward_sum(of(x_), other, of(x_), of(y_)).ok());
    EXPECT_TRUE(bn.forward_sum(of(x_), other, of(x_), of(x_)).ok());
    EXPECT_EQ(x_, y_);
}

TEST_F(Sum, RefusesOneValuePerChannel) {
    BatchNorm1d bn(4, library_.table()), other(4, library_.table());
    EXPECT_EQ(bn.forward_sum(tensor(x_.data(), Layout::NC, {1, 4}), other, tensor(x2_.data(), Layout::NC, {1, 4}),
                             tensor(y_.data(), Layout::NC, {1, 4}))
                  .code(),
              ErrorCode::one_value_per_channel);
}

}  // namespace
}  // namespace fusebn::test
