// The arguments of the fake kernels, as numbers and views: the lists of kernel_abi.h.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>

#include "fake_library.h"

namespace fusebn::test {

// What an entry is for.
struct Form {
    Op op;
    Activation activation;
    Residual residual;
    DataType dtype;
    bool unaligned;
    Kind kind;
};

// A tensor, or a mask: n samples (or rows) of c channels of s elements.
struct View3 {
    std::uint8_t* data = nullptr;
    DataType dtype = DataType::f32;
    std::int64_t n = 0, c = 0, s = 0, n_stride = 0, c_stride = 0;
    bool of_bytes = false;  // of a mask: a device's

    std::int64_t offset(std::int64_t i, std::int64_t j, std::int64_t k) const {
        return i * n_stride + j * c_stride + k;
    }
    double at(std::int64_t i, std::int64_t j, std::int64_t k) const {
        const std::uint8_t* const place = data + offset(i, j, k) * element_bytes(dtype);
        float value = 0;
        std::uint16_t bits = 0;
        std::memcpy(&bits, place, sizeof(bits));
        if (dtype == DataType::f32) std::memcpy(&value, place, sizeof(value));
        return dtype == DataType::f32    ? value
               : dtype == DataType::bf16 ? to_float(bfloat16{bits})
                                         : to_float(float16{bits});
    }
    void set(std::int64_t i, std::int64_t j, std::int64_t k, double exact) const {
        std::uint8_t* const place = data + offset(i, j, k) * element_bytes(dtype);
        const auto value = static_cast<float>(exact);
        const std::uint16_t bits = dtype == DataType::bf16 ? to_bfloat16(value).bits : to_float16(value).bits;
        if (dtype == DataType::f32) std::memcpy(place, &value, sizeof(value));
        if (dtype != DataType::f32) std::memcpy(place, &bits, sizeof(bits));
    }
    bool bit(std::int64_t i, std::int64_t j, std::int64_t k) const {
        if (of_bytes) return data[offset(i, j, k)] != 0;
        return data[offset(i, j, k) / 8] >> (offset(i, j, k) % 8) & 1;
    }
    void set_bit(std::int64_t i, std::int64_t j, std::int64_t k, bool on) const {
        if (of_bytes) {
            data[offset(i, j, k)] = on ? 1 : 0;
            return;
        }
        const auto one = static_cast<std::uint8_t>(1 << (offset(i, j, k) % 8));
        // Channels run at once, and interleaved ones share bytes.
        const std::atomic_ref<std::uint8_t> byte(data[offset(i, j, k) / 8]);
        on ? byte.fetch_or(one) : byte.fetch_and(static_cast<std::uint8_t>(~one));
    }
};

struct Branch {
    View3 x;
    const float *gamma = nullptr, *beta = nullptr;
    const float *running_mean = nullptr, *running_var = nullptr;  // inference's mean and var, too
    double eps = 0, momentum = 0;
    std::int32_t ddof = 0, batch_statistics = 0;
    double *mean = nullptr, *inv_std = nullptr;
    float *new_running_mean = nullptr, *new_running_var = nullptr;  // backward: dgamma and dbeta
    View3 dx;
};

struct Arguments {
    Form form{};
    const fusebn_context* context = nullptr;
    Branch branch[2];
    View3 y, dy, residual, mask, dresidual;
    double slope = 0;
    std::int32_t sums = 0;
    int branches() const { return form.residual == Residual::batch_norm ? 2 : 1; }
    bool has_mask() const { return saves_mask(form.activation, form.residual); }
};

// Takes them in their order, and notes each in fake_run.
Arguments read_arguments(const Form& form, void** argv);

}  // namespace fusebn::test
