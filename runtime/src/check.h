// All checks of a call's tensors, and the form that they have afterwards: one of the two views.
#pragma once

#include <cstdint>
#include <string>

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

// Strides in elements, both within int32; those of an axis of extent 1 are as if dense. Without a name there is no such
// tensor in the call, and the rest is not set: clearing it would take a tenth of a call's time.
struct Operand {
    const char* name = nullptr;
    void* data;
    std::int64_t outer_stride;
    std::int64_t channel_stride;  // interleaved: 1
    std::int64_t last_element;    // the highest offset
};

// What a tensor is to a call. Whatever their names, a call has no more: forward calls write y (out), backward calls
// read dy and write dx (out); what is added before the activation is the addend, of which backward makes addend_out.
enum class Role { x, addend, dy, out, addend_out };
inline constexpr int role_count = 5;
inline constexpr Role input_roles[] = {Role::x, Role::addend, Role::dy};
inline constexpr Role output_roles[] = {Role::out, Role::addend_out};

struct Call {
    DataType dtype = DataType::f32;
    bool opaque = false;  // the tensors' data are handles of a device, no addresses
    Shape shape;
    Operand operands[role_count];

    Operand& operator[](Role role) { return operands[static_cast<int>(role)]; }
    const Operand& operator[](Role role) const { return operands[static_cast<int>(role)]; }
};

// A tensor as the caller gave it, and the name of its parameter.
struct Given {
    Role role;
    const char* name;
    const ConstTensor* tensor;
};

// Fills `call`, or says what is wrong: null_pointer, wrong_layout, shape_mismatch, empty_tensor, too_large,
// unsupported_strides, misaligned, overlap; no_kernel for an unknown dtype. The first of the given is x, and all others
// must be as it is. `dimensions`: 1, 2 or 3, of the layer.
Status check_call(int dimensions, int features, const Given* given, int count, Call& call);

// overlap, where an output shares memory with an input in a way that a kernel cannot take, or with the other output at
// all. All of one shape, checked.
Status check_overlap(const Call& call);

// "n2_c4_s9" or "r18_c4", as in the names of kernels.
std::string extents_text(const Shape& shape);

}  // namespace fusebn::detail
