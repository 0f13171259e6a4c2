// All checks of a call's tensors, and the form that they have afterwards: one of the two views.
#pragma once

#include <cstdint>

#include "fusebn/tensor.h"
#include "fusebn/types.h"

namespace fusebn::detail {

inline constexpr std::int64_t max_kernel_extent = FUSEBN_MAX_EXTENT;
inline constexpr std::int64_t max_channel_values = FUSEBN_MAX_CHANNEL_VALUES;

// planar: outer = n, channels = c, inner = s.  interleaved: outer = r, channels = c, inner = 1.
struct Shape {
    View view = View::planar;
    std::int64_t outer = 0, channels = 0, inner = 0;
};

// Strides in elements, both within int32; those of an axis of extent 1 are as if dense.
struct Operand {
    void* data = nullptr;
    std::int64_t outer_stride = 0;
    std::int64_t channel_stride = 0;  // interleaved: 1
    std::int64_t last_element = 0;    // the highest offset
};

struct Call {
    DataType dtype = DataType::f32;
    Shape shape;
    Operand x, y;
};

// Fills `call`, or says what is wrong: null_pointer, wrong_layout, shape_mismatch, empty_tensor, too_large,
// unsupported_strides, misaligned, overlap; no_kernel for an unknown dtype. `dimensions`: 1, 2 or 3, of the layer.
Status check_call(int dimensions, int features, const ConstTensor& x, const ConstTensor& y, Call& call);

// overlap, where x and y (of one shape, checked) share memory in a way that a kernel cannot take.
Status check_overlap(const Call& call);

}  // namespace fusebn::detail
