// 16-bit floats against definitions in double: every value, and every rounding that can go wrong.
#include "fusebn/half.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace fusebn::test {
namespace {

// A type with this many bits of exponent and fraction, by IEEE 754's definition.
struct Format {
    int exponent_bits, fraction_bits;

    std::uint32_t infinity() const { return ((1u << exponent_bits) - 1) << fraction_bits; }
    double value(std::uint32_t magnitude) const {  // finite, without its sign
        const int exponent = static_cast<int>(magnitude >> fraction_bits), bias = (1 << (exponent_bits - 1)) - 1;
        const double fraction = magnitude & ((1u << fraction_bits) - 1);
        const double one = std::ldexp(1.0, fraction_bits);
        return exponent == 0 ? std::ldexp(fraction, 1 - bias - fraction_bits)
                             : std::ldexp(one + fraction, exponent - bias - fraction_bits);
    }
    // The nearest, by search; what comes after the largest finite value stands for infinity.
    std::uint32_t nearest(double magnitude) const {
        const std::uint32_t most = infinity();
        std::uint32_t below = 0, above = most;  // value(below) <= magnitude < value(above)
        if (magnitude >= value(most)) return most;
        while (above - below > 1) {
            const std::uint32_t middle = (below + above) / 2;
            (value(middle) <= magnitude ? below : above) = middle;
        }
        const double to_below = magnitude - value(below), to_above = value(above) - magnitude;
        if (to_below != to_above) return to_below < to_above ? below : above;
        return below % 2 == 0 ? below : above;
    }
};
constexpr Format bf16{8, 7}, f16{5, 10};

template <class Half>
struct Type;
template <>
struct Type<bfloat16> {
    static constexpr Format format = bf16;
    static bfloat16 from(float v) { return to_bfloat16(v); }
};
template <>
struct Type<float16> {
    static constexpr Format format = f16;
    static float16 from(float v) { return to_float16(v); }
};

template <class Half>
class Halves : public testing::Test {};
using Types = testing::Types<bfloat16, float16>;
TYPED_TEST_SUITE(Halves, Types);

TYPED_TEST(Halves, OfEveryPatternComeBack) {
    constexpr Format format = Type<TypeParam>::format;
    for (std::uint32_t pattern = 0; pattern < 65536; ++pattern) {
        const TypeParam half{static_cast<std::uint16_t>(pattern)};
        const std::uint32_t magnitude = pattern & 0x7fff;
        const float value = to_float(half);
        ASSERT_EQ(std::signbit(value), pattern >= 0x8000) << pattern;
        if (magnitude > format.infinity()) {
            ASSERT_TRUE(std::isnan(value)) << pattern;
            // Quiet, with the payload that it had.
            const std::uint32_t quiet = 1u << (format.fraction_bits - 1);
            ASSERT_EQ(Type<TypeParam>::from(value).bits, pattern | quiet);
            if (format.fraction_bits == 10) {
                ASSERT_NE(std::bit_cast<std::uint32_t>(value) & 0x00400000, 0u) << pattern;
            }
            continue;
        }
        const double exact =
            magnitude == format.infinity() ? std::numeric_limits<double>::infinity() : format.value(magnitude);
        ASSERT_EQ(std::abs(static_cast<double>(value)), exact) << pattern;
        ASSERT_EQ(Type<TypeParam>::from(value).bits, pattern);
    }
}

template <class Half>
void expect_nearest(float value) {
    constexpr Format format = Type<Half>::format;
    const std::uint32_t sign = std::signbit(value) ? 0x8000 : 0;
    ASSERT_EQ(Type<Half>::from(value).bits, sign | format.nearest(std::abs(static_cast<double>(value))))
        << value << " " << std::hex << std::bit_cast<std::uint32_t>(value);
}

TYPED_TEST(Halves, AreTheNearestAroundEveryTie) {
    constexpr Format format = Type<TypeParam>::format;
    for (std::uint32_t magnitude = 0; magnitude < format.infinity(); ++magnitude) {
        const double low = format.value(magnitude), high = format.value(magnitude + 1);
        const auto tie = static_cast<float>((low + high) / 2);  // exact: one bit more than a half has
        if (std::isinf(tie)) continue;                          // above bfloat16's last
        for (const float sign : {1.0f, -1.0f}) {
            expect_nearest<TypeParam>(sign * tie);
            expect_nearest<TypeParam>(sign * std::nextafter(tie, 0.0f));
            expect_nearest<TypeParam>(sign * std::nextafter(tie, std::numeric_limits<float>::infinity()));
        }
    }
}

TYPED_TEST(Halves, AreTheNearestOfAllFloats) {
    // Every 1021st: a prime, so that all low bits occur.
    for (std::uint32_t pattern = 0; pattern < 0x7f800000; pattern += 1021) {
        expect_nearest<TypeParam>(std::bit_cast<float>(pattern));
        expect_nearest<TypeParam>(std::bit_cast<float>(pattern | 0x80000000));
        if (testing::Test::HasFatalFailure()) return;
    }
    const float largest = std::numeric_limits<float>::max(), least = std::numeric_limits<float>::denorm_min();
    for (const float value : {0.0f, -0.0f, largest, -largest, least, -least, 65504.0f, 65519.996f, 65520.0f, 65536.0f,
                              0x1p-24f, 0x1p-25f, 0x1.000002p-25f, 0x1p-14f, 0x1.ffcp-15f, 0x1.ffep-15f}) {
        expect_nearest<TypeParam>(value);
    }
}

TYPED_TEST(Halves, KeepInfinitiesAndTheSignAndPayloadOfNaNs) {
    constexpr Format format = Type<TypeParam>::format;
    const auto from = [](std::uint32_t pattern) -> std::uint32_t {
        return Type<TypeParam>::from(std::bit_cast<float>(pattern)).bits;
    };
    EXPECT_EQ(from(0x7f800000), format.infinity());
    EXPECT_EQ(from(0xff800000), 0x8000 | format.infinity());
    const int dropped = 23 - format.fraction_bits;
    const std::uint32_t quiet = 1u << (format.fraction_bits - 1);
    for (std::uint32_t fraction = 1; fraction < 0x800000; fraction += 1009) {
        const std::uint32_t expected = format.infinity() | quiet | fraction >> dropped;
        ASSERT_EQ(from(0x7f800000 | fraction), expected) << fraction;
        ASSERT_EQ(from(0xff800000 | fraction), 0x8000 | expected) << fraction;
    }
    EXPECT_EQ(from(0x7f800001), format.infinity() | quiet) << "a payload of low bits alone is a NaN yet";
}

}  // namespace
}  // namespace fusebn::test
