// What one kernel computes: its row.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>

#include "fusebn/types.h"

namespace fusebn {

inline constexpr std::int64_t any_extent = FUSEBN_ANY;  // known at run time only

inline constexpr std::int64_t max_extent = FUSEBN_MAX_EXTENT;

struct KernelSpec {
    Op op = Op::inference;
    View view = View::planar;
    DataType dtype = DataType::f32;
    Activation activation = Activation::none;
    Residual residual = Residual::none;
    // planar: outer = N, channels = C, inner = S.  interleaved: outer = R, channels = C, inner = 1.
    std::int64_t outer = any_extent;
    std::int64_t channels = any_extent;
    std::int64_t inner = any_extent;

    bool generic() const { return outer == any_extent && channels == any_extent; }
    auto key() const { return std::make_tuple(op, view, dtype, activation, residual, outer, channels, inner); }
};
inline bool operator==(const KernelSpec& a, const KernelSpec& b) { return a.key() == b.key(); }
inline bool operator<(const KernelSpec& a, const KernelSpec& b) { return a.key() < b.key(); }

// Whether its tensors may have more than 2^31 - 1 elements: it then has 64-bit offsets.
bool needs_large(const KernelSpec& spec);

// "bn_train_forward_f32_planar_n32_c64_s3136_relu", "bn_inference_f32_interleaved_rany_c64_add_relu"
std::string kernel_name(const KernelSpec& spec);

}  // namespace fusebn
