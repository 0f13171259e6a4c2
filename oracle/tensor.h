// A tensor of any element type, as the oracle reads it.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "fusebn/types.h"

namespace oracle {

// The value of a binary floating-point number with a sign, `exponent` and `fraction` bits. Exact.
inline double decode(std::uint32_t bits, int exponent_bits, int fraction_bits) {
    const int top = (1 << exponent_bits) - 1, bias = top / 2;
    const bool negative = (bits >> (exponent_bits + fraction_bits)) != 0;
    const int exponent = static_cast<int>(bits >> fraction_bits) & top;
    const auto fraction = static_cast<double>(bits & ((1u << fraction_bits) - 1));
    double magnitude = 0;
    if (exponent == top) {
        magnitude = fraction == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
    } else if (exponent == 0) {
        magnitude = std::ldexp(fraction, 1 - bias - fraction_bits);
    } else {
        magnitude = std::ldexp(std::ldexp(1.0, fraction_bits) + fraction, exponent - bias - fraction_bits);
    }
    return negative ? -magnitude : magnitude;
}

inline double element(const void* data, fusebn::DataType dtype, std::int64_t i) {
    if (dtype == fusebn::DataType::f32) return static_cast<double>(static_cast<const float*>(data)[i]);
    std::uint16_t bits = 0;
    std::memcpy(&bits, static_cast<const char*>(data) + i * static_cast<std::int64_t>(sizeof bits), sizeof bits);
    return dtype == fusebn::DataType::bf16 ? decode(bits, 8, 7) : decode(bits, 5, 10);
}

// In either view: planar x[outer][channels][inner], interleaved x[outer][channels] (inner = 1). Strides in elements.
struct Tensor {
    const void* data = nullptr;
    fusebn::DataType dtype = fusebn::DataType::f32;
    fusebn::View view = fusebn::View::planar;
    std::int64_t outer = 0, channels = 0, inner = 0;
    std::int64_t outer_stride = 0, channel_stride = 0;

    double at(std::int64_t o, std::int64_t c, std::int64_t i) const {
        return element(data, dtype, o * outer_stride + c * channel_stride + i);
    }
    std::int64_t count() const { return outer * inner; }  // values in a channel
};

// A stride of 0 is the dense one.
inline Tensor planar(const void* x, fusebn::DataType dtype, std::int64_t N, std::int64_t C, std::int64_t S,
                     std::int64_t n_stride = 0, std::int64_t c_stride = 0) {
    if (c_stride == 0) c_stride = S;
    return {x, dtype, fusebn::View::planar, N, C, S, n_stride != 0 ? n_stride : C * c_stride, c_stride};
}
inline Tensor interleaved(const void* x, fusebn::DataType dtype, std::int64_t R, std::int64_t C,
                          std::int64_t r_stride = 0) {
    return {x, dtype, fusebn::View::interleaved, R, C, 1, r_stride != 0 ? r_stride : C, 1};
}
inline Tensor planar(const float* x, std::int64_t N, std::int64_t C, std::int64_t S, std::int64_t n_stride = 0,
                     std::int64_t c_stride = 0) {
    return planar(x, fusebn::DataType::f32, N, C, S, n_stride, c_stride);
}
inline Tensor interleaved(const float* x, std::int64_t R, std::int64_t C, std::int64_t r_stride = 0) {
    return interleaved(x, fusebn::DataType::f32, R, C, r_stride);
}

}  // namespace oracle
