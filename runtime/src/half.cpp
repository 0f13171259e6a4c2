#include "fusebn/half.h"

#include <bit>

namespace fusebn {
namespace {

// value / 2^shift to the nearest, ties to even; shift from 1 to 31, value below 2^31.
std::uint32_t rounded_shift(std::uint32_t value, int shift) {
    const std::uint32_t below_half = (1u << (shift - 1)) - 1;
    return (value + below_half + (value >> shift & 1)) >> shift;
}

constexpr std::uint32_t sign_bit = 0x80000000, infinity = 0x7f800000;  // of a float
constexpr int fraction_bits = 23, half_fraction_bits = 10;
constexpr int dropped_bits = fraction_bits - half_fraction_bits;
constexpr std::uint32_t rebias = (127 - 15) << fraction_bits;

}  // namespace

float to_float(bfloat16 value) { return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16); }

bfloat16 to_bfloat16(float value) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    constexpr std::uint32_t quiet = 0x0040;
    // The largest finite numbers round up into infinity by themselves.
    const std::uint32_t rounded = (bits & ~sign_bit) > infinity
                                      ? (bits >> 16) | quiet
                                      : (bits & sign_bit) >> 16 | rounded_shift(bits & ~sign_bit, 16);
    return {static_cast<std::uint16_t>(rounded)};
}

float to_float(float16 value) {
    const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000) << 16;
    const std::uint32_t magnitude = value.bits & 0x7fff;
    constexpr std::uint32_t half_infinity = 0x7c00, quiet = 0x00400000;
    if (magnitude > half_infinity) return std::bit_cast<float>(sign | infinity | quiet | magnitude << dropped_bits);
    if (magnitude == half_infinity) return std::bit_cast<float>(sign | infinity);
    if (magnitude >= 1u << half_fraction_bits)
        return std::bit_cast<float>(sign | ((magnitude << dropped_bits) + rebias));
    // A subnormal or zero counts units of 2^-24, which floats have as normal numbers.
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(static_cast<float>(magnitude) * 0x1p-24f));
}

float16 to_float16(float value) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = (bits & sign_bit) >> 16;
    const std::uint32_t magnitude = bits & ~sign_bit;
    constexpr std::uint32_t half_infinity = 0x7c00, quiet = 0x0200, half_fraction = 0x03ff;
    constexpr std::uint32_t overflow = 0x477ff000;      // 65520, halfway from the largest number to 2^16: even is 2^16
    constexpr std::uint32_t least_normal = 0x38800000;  // 2^-14
    constexpr std::uint32_t rounds_to_zero = 0x33000000;  // 2^-25, half the least subnormal: even is 0
    std::uint32_t half = 0;
    if (magnitude > infinity) {
        half = half_infinity | quiet | (magnitude >> dropped_bits & half_fraction);
    } else if (magnitude >= overflow) {
        half = half_infinity;
    } else if (magnitude >= least_normal) {
        half = rounded_shift(magnitude - rebias, dropped_bits);
    } else if (magnitude > rounds_to_zero) {
        // In units of 2^-24: the significand is 2^23 at an exponent field of 126 + 24.
        const std::uint32_t significand = (magnitude & 0x007fffff) | 0x00800000;
        half = rounded_shift(significand, 126 - static_cast<int>(magnitude >> fraction_bits));
    }
    return {static_cast<std::uint16_t>(sign | half)};
}

}  // namespace fusebn
