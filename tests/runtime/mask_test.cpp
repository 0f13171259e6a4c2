// The bits that forward_add keeps: what they are, what they cost, and when backward_add may go by them.
#include "mask.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "fake_library.h"
#include "fusebn/parallel.h"

namespace fusebn::test {
namespace {

BatchNormOptions with(Activation activation, double slope = 0.01) {
    BatchNormOptions options;
    options.activation = activation;
    options.slope = slope;
    return options;
}

class Masks : public testing::Test {
protected:
    FakeLibrary library_ = generic_library(Activation::relu);
    BatchNorm2d bn_{4, library_.table(), with(Activation::relu)};
    std::vector<float> x_ = noise(4096, 1, 1), residual_ = noise(4096, 0, 2), dy_ = noise(4096, 0, 3);
    std::vector<float> y_ = std::vector<float>(4096), dx_ = y_, dresidual_ = y_;

    static Tensor of(std::vector<float>& values, const Extents& extents, const Extents& strides = {}) {
        return tensor(values.data(), Layout::NCHW, extents, strides);
    }
    Status forward(const Extents& extents = {2, 4, 3, 3}, const Extents& strides = {}) {
        return bn_.forward_add(of(x_, extents, strides), of(residual_, extents), of(y_, extents));
    }
    Status backward(const Extents& extents = {2, 4, 3, 3}, const Extents& strides = {}) {
        return bn_.backward_add(of(x_, extents, strides), of(dy_, extents), of(dx_, extents), of(dresidual_, extents));
    }
    static void expect_ok(const Status& s) { ASSERT_TRUE(s.ok()) << s.message(); }
    static void expect_no_forward(const Status& s, const std::string& words) {
        EXPECT_EQ(s.code(), ErrorCode::no_forward);
        EXPECT_NE(s.message().find(words), std::string::npos) << s.message();
    }
    // dresidual is dy where the sum was above zero, and zero elsewhere.
    void expect_relu_gradient(std::size_t size = 72) {
        for (std::size_t i = 0; i < size; ++i) EXPECT_EQ(dresidual_[i], y_[i] > 0 ? dy_[i] : 0) << i;
    }
};

TEST_F(Masks, CostABitAnElementInRowsOfFourBytes) {
    EXPECT_EQ(bn_.saved_bytes(), 0u);
    expect_ok(bn_.forward(of(x_, {2, 4, 3, 3}), of(y_, {2, 4, 3, 3})));
    EXPECT_EQ(bn_.saved_bytes(), 64u);
    expect_ok(forward());
    EXPECT_EQ(bn_.saved_bytes(), 64u + 8 * 4);  // 8 rows of 9 bits
    expect_ok(forward({3, 4, 5, 7}));
    EXPECT_EQ(bn_.saved_bytes(), 64u + 12 * 8);
    expect_ok(forward({2, 4, 3, 3}));
    EXPECT_EQ(bn_.saved_bytes(), 64u + 8 * 4);
    expect_ok(forward({32, 4, 1, 1}));
    EXPECT_EQ(bn_.saved_bytes(), 64u + 32 * 4) << "interleaved rows of 4 bits";
    expect_ok(bn_.forward(of(x_, {2, 4, 3, 3}), of(y_, {2, 4, 3, 3})));
    EXPECT_EQ(bn_.saved_bytes(), 64u) << "the last call keeps none";
    FakeLibrary silu = generic_library(Activation::silu);
    BatchNorm2d other(4, silu.table(), with(Activation::silu));
    expect_ok(other.forward_add(of(x_, {2, 4, 3, 3}), of(residual_, {2, 4, 3, 3}), of(y_, {2, 4, 3, 3})));
    EXPECT_EQ(other.saved_bytes(), 64u);
}

TEST_F(Masks, KeepTheirMemoryWhereItIsEnough) {
    expect_ok(forward({4, 4, 3, 3}));
    const void* const first = fake_run["mask"].data;
    expect_ok(forward());
    EXPECT_EQ(fake_run["mask"].data, first);
    expect_ok(backward());
    expect_relu_gradient();
}

TEST_F(Masks, OfTheBatchAreNotForConstants) {
    expect_ok(forward());
    bn_.eval();
    expect_no_forward(backward(), "call forward_add in training mode with freeze_statistics() first");
    expect_ok(forward());  // keeps none
    expect_no_forward(backward(), "by the running statistics");
    bn_.train();
    expect_ok(backward());
}

TEST_F(Masks, OfFrozenStatisticsAreReadOffTheResult) {
    BatchNormState state = bn_.state();
    state.running_mean = {1, 0, -1, 2};
    state.running_var = {1, 2, 3, 4};
    expect_ok(bn_.set_state(state));
    expect_ok(bn_.freeze_statistics());
    expect_no_forward(backward(), "freeze_statistics() first");
    for (const Extents& extents : {Extents{2, 4, 3, 3}, Extents{18, 4, 1, 1}, Extents{1, 4, 3, 6}}) {
        expect_ok(forward(extents));
        EXPECT_EQ(fake_run.names().find("mask"), std::string::npos);
        dresidual_.assign(4096, -7);
        expect_ok(backward(extents));
        expect_relu_gradient();
        EXPECT_EQ(fake_run["batch_statistics"].value, 0);
    }
    expect_no_forward(backward({1, 4, 3, 5}), "the last was of f32 planar n1_c4_s18");
    bn_.eval();  // the same function, so the same gradient
    expect_ok(backward({1, 4, 3, 6}));
    bn_.train();
    expect_ok(bn_.forward(of(x_, {1, 4, 3, 6}), of(y_, {1, 4, 3, 6})));
    expect_no_forward(backward({1, 4, 3, 6}), "freeze_statistics() first");
    bn_.train();
    expect_ok(bn_.freeze_statistics(false));
    expect_no_forward(backward({1, 4, 3, 6}), "there was none in training mode");
    expect_ok(forward());
    expect_ok(backward());
    expect_ok(bn_.freeze_statistics());
    expect_ok(forward());
    expect_ok(bn_.freeze_statistics(false));
    expect_no_forward(backward(), "by the batch's statistics");
    EXPECT_EQ(bn_.state().num_batches_tracked, 1);
}

TEST_F(Masks, ReadOffTheResultAreWhatKernelsMake) {
    constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> values = {0.0f, -0.0f, 1.0f, -1.0f, 1e-45f, -1e-45f, 6.0f, std::nextafter(6.0f, 0.0f),
                                 7.0f, inf,   -inf, nan,   -nan,   5.0f,    3e38f};
    while (values.size() < 77) values.push_back(noise(100, 0, 9)[values.size()] * 8);
    struct Case {
        Activation activation;
        double slope;
        bool (*passes)(float);
    };
    const Case cases[] = {{Activation::relu, 0, [](float v) { return v > 0; }},
                          {Activation::relu6, 0, [](float v) { return v > 0 && v < 6; }},
                          {Activation::leaky_relu, 0.5, [](float v) { return v > 0; }}};
    for (const Case& c : cases) {
        for (const DataType dtype : {DataType::f32, DataType::bf16, DataType::f16}) {
            for (const bool planar : {true, false}) {
                detail::Call call;
                call.dtype = dtype;
                call.shape =
                    planar ? detail::Shape{View::planar, 1, 2, 37} : detail::Shape{View::interleaved, 2, 37, 1};
                std::vector<float> f32(80);
                std::vector<std::uint16_t> bits(80);
                std::vector<bool> expected;
                for (std::size_t i = 0; i < 77; ++i) {
                    f32[i] = values[i];
                    bits[i] = dtype == DataType::bf16 ? to_bfloat16(values[i]).bits : to_float16(values[i]).bits;
                    const float rounded = dtype == DataType::f32    ? f32[i]
                                          : dtype == DataType::bf16 ? to_float(bfloat16{bits[i]})
                                                                    : to_float(float16{bits[i]});
                    expected.push_back(c.passes(rounded));
                }
                detail::Operand& y = call[detail::Role::out];
                y.data = dtype == DataType::f32 ? static_cast<void*>(f32.data()) : static_cast<void*>(bits.data());
                (planar ? y.channel_stride : y.outer_stride) = 40;
                const fusebn_context inline_context{[](const fusebn_context*, fusebn_task task, std::int32_t,
                                                       std::int32_t count, std::uint8_t* closure) {
                                                        for (std::int32_t i = 0; i < count; ++i)
                                                            task(nullptr, i, closure);
                                                        return 0;
                                                    },
                                                    nullptr};
                std::vector<std::uint8_t> mask(16, 0xaa);
                EXPECT_EQ(detail::mask_of_result(inline_context, call, c.activation, mask.data()), 0);
                for (std::size_t row = 0; row < 2; ++row) {
                    for (std::size_t i = 0; i < 37; ++i) {
                        EXPECT_EQ(mask[row * 8 + i / 8] >> (i % 8) & 1, expected[row * 40 + i] ? 1 : 0)
                            << to_string(c.activation) << " " << to_string(dtype) << " " << values[row * 40 + i];
                    }
                }
            }
        }
    }
}

TEST_F(Masks, OfManyRowsAreSharedOut) {
    std::vector<float> x = noise(64 * 4 * 40 * 40, 0, 5), residual = noise(x.size(), 0, 6), y(x.size()), dresidual = y;
    const Extents extents{64, 4, 40, 40};
    const int before = num_threads();
    ASSERT_TRUE(set_num_threads(3).ok());
    expect_ok(bn_.freeze_statistics());
    expect_ok(bn_.forward_add(of(x, extents), of(residual, extents), of(y, extents)));
    expect_ok(bn_.backward_add(of(x, extents), of(x, extents), of(residual, extents), of(dresidual, extents)));
    for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(dresidual[i], y[i] > 0 ? x[i] : 0) << i;
    EXPECT_TRUE(set_num_threads(before).ok());
}

// From y alone, what passed cannot be told where negative values become positive ones.
TEST_F(Masks, OfANegativeSlopeNeedTheBatch) {
    FakeLibrary leaky = generic_library(Activation::leaky_relu);
    const Extents e{2, 4, 3, 3};
    for (const double slope : {-0.5, 0.0, 0.5}) {
        BatchNorm2d bn(4, leaky.table(), with(Activation::leaky_relu, slope));
        expect_ok(bn.forward_add(of(x_, e), of(residual_, e), of(y_, e)));
        expect_ok(bn.backward_add(of(x_, e), of(dy_, e), of(dx_, e), of(dresidual_, e)));
        expect_ok(bn.freeze_statistics());
        expect_ok(bn.forward_add(of(x_, e), of(residual_, e), of(y_, e)));
        const Status s = bn.backward_add(of(x_, e), of(dy_, e), of(dx_, e), of(dresidual_, e));
        if (slope < 0) {
            expect_no_forward(s, "a slope of at least 0");
        } else {
            expect_ok(s);
            for (std::size_t i = 0; i < 72; ++i) EXPECT_EQ(dresidual_[i], y_[i] > 0 ? dy_[i] : dy_[i] * float(slope));
        }
    }
}

// One spatial element: a planar tensor runs as an interleaved one where all tensors of the call allow it, which those
// of forward and backward may do differently.
TEST_F(Masks, ChangeTheirViewWithTheTensors) {
    const Extents extents{9, 4, 1, 1}, apart{8, 2, 1, 1};
    for (const bool forward_is_dense : {true, false}) {
        expect_ok(forward(extents, forward_is_dense ? Extents() : apart));
        EXPECT_EQ(fake_run["mask"].dimensions, forward_is_dense ? 2 : 3);
        std::vector<float> dense;
        for (std::size_t i = 0; i < 36; ++i) dense.push_back(forward_is_dense ? x_[i] : x_[i * 2]);
        for (const bool backward_is_dense : {!forward_is_dense, forward_is_dense, true}) {
            for (std::size_t i = 0; i < 36; ++i) x_[backward_is_dense ? i : i * 2] = dense[i];
            dresidual_.assign(4096, -7);
            expect_ok(backward(extents, backward_is_dense ? Extents() : apart));
            EXPECT_EQ(fake_run["mask"].dimensions, backward_is_dense ? 2 : 3);
            expect_relu_gradient(36);
        }
        x_ = noise(4096, 1, 7);
    }
}

TEST_F(Masks, AreKeptByNobodyInEvaluationMode) {
    BatchNormOptions options = with(Activation::relu);
    options.track_running_stats = false;
    BatchNorm2d bn(4, library_.table(), options);
    const Extents e{2, 4, 3, 3};
    expect_ok(bn.forward_add(of(x_, e), of(residual_, e), of(y_, e)));
    const void* const kept = fake_run["mask"].data;
    const std::vector<float> y = y_;
    bn.eval();
    expect_ok(bn.forward_add(of(residual_, e), of(x_, e), of(y_, e)));
    EXPECT_NE(fake_run["mask"].data, kept) << "it is needed for backward yet";
    y_ = y;
    expect_ok(bn.backward_add(of(x_, e), of(dy_, e), of(dx_, e), of(dresidual_, e)));
    expect_relu_gradient();
}

TEST(MaskLayout, RoundsRowsUpAndDoesNotOverflow) {
    const auto expect = [](const detail::Shape& shape, std::int64_t row, std::int64_t outer, std::int64_t size,
                           std::int64_t last) {
        const detail::MaskLayout layout = detail::mask_layout(shape);
        EXPECT_EQ(layout.row, row);
        EXPECT_EQ(layout.outer_stride, outer);
        EXPECT_EQ(layout.size, size);
        EXPECT_EQ(layout.last, last);
    };
    expect({View::planar, 2, 3, 33}, 64, 192, 384, 352);
    expect({View::planar, 2, 3, 32}, 32, 96, 192, 191);
    expect({View::interleaved, 5, 3, 1}, 32, 32, 160, 130);
    constexpr std::int64_t most = FUSEBN_MAX_EXTENT;
    EXPECT_EQ(detail::mask_layout({View::planar, most, most, most}).size, std::numeric_limits<std::int64_t>::max());
}

}  // namespace
}  // namespace fusebn::test
