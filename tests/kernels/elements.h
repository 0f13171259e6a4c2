// The elements of a dense tensor, of any type.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "fusebn/half.h"
#include "oracle/tensor.h"

namespace kernels {

class Elements {
public:
    Elements() = default;
    Elements(fusebn::DataType dtype, std::size_t size)
        : dtype_(dtype), size_(size), bytes_(size * static_cast<std::size_t>(fusebn::element_bytes(dtype))) {}

    fusebn::DataType dtype() const { return dtype_; }
    std::size_t size() const { return size_; }
    const void* data() const { return bytes_.data(); }
    void* data() { return bytes_.data(); }

    // 16 bits are the lower ones.
    std::uint32_t bits(std::size_t i) const {
        std::uint32_t b = 0;
        std::memcpy(&b, at(i), width());
        return b;
    }
    void set_bits(std::size_t i, std::uint32_t bits) { std::memcpy(at(i), &bits, width()); }

    double value(std::size_t i) const { return oracle::element(data(), dtype_, static_cast<std::int64_t>(i)); }
    // To the nearest of the type.
    void set(std::size_t i, float value) { set_bits(i, bits_of(value)); }

    bool operator==(const Elements& other) const = default;

private:
    std::size_t width() const { return static_cast<std::size_t>(fusebn::element_bytes(dtype_)); }
    const std::uint8_t* at(std::size_t i) const { return bytes_.data() + i * width(); }
    std::uint8_t* at(std::size_t i) { return bytes_.data() + i * width(); }
    std::uint32_t bits_of(float value) const {
        switch (dtype_) {
            case fusebn::DataType::f32: break;
            case fusebn::DataType::bf16: return fusebn::to_bfloat16(value).bits;
            case fusebn::DataType::f16: return fusebn::to_float16(value).bits;
        }
        std::uint32_t bits = 0;
        std::memcpy(&bits, &value, sizeof bits);
        return bits;
    }

    fusebn::DataType dtype_ = fusebn::DataType::f32;
    std::size_t size_ = 0;
    std::vector<std::uint8_t> bytes_;
};

}  // namespace kernels
