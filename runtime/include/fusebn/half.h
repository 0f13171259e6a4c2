// 16-bit floating-point elements: how they are stored, and their conversions. Arithmetic is in float.
#pragma once

#include <cstdint>

namespace fusebn {

// The upper half of a binary32: 8 bits of exponent, 7 of fraction.
struct bfloat16 {
    std::uint16_t bits;
};
// IEEE 754 binary16: 5 bits of exponent, 10 of fraction.
struct float16 {
    std::uint16_t bits;
};

// Exact. A signalling NaN becomes quiet in to_float(float16).
float to_float(bfloat16 value);
float to_float(float16 value);

// To the nearest, ties to even, beyond the largest finite number infinity; a NaN becomes a quiet NaN with the sign and
// the upper bits of its payload. Kernels round so on store (but for a signalling NaN of dy that is passed on to
// dresidual as it is: in bf16 it stays one).
bfloat16 to_bfloat16(float value);
float16 to_float16(float value);

}  // namespace fusebn
