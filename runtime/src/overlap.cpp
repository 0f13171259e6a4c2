// Whether tensors share memory. A kernel may read an element of an input after it wrote another one of an output, so
// the two must be the same tensor, or have no element in common. Two outputs must have none in common.
#include <algorithm>
#include <cstdint>
#include <string>

#include "check.h"
#include "text.h"

namespace fusebn::detail {
namespace {

// Runs of `run` bytes that repeat every `period` bytes: whether two such patterns, `distance` bytes apart, never meet.
bool interlock(std::uint64_t distance, std::int64_t period, std::int64_t run) {
    const std::int64_t offset = static_cast<std::int64_t>(distance % static_cast<std::uint64_t>(period));
    return offset >= run && offset <= period - run;
}

enum class Shared { nothing, everything, perhaps_something };

// `a` and `b` are of one shape.
Shared shared_memory(const Shape& shape, std::int64_t element, const Operand& a, const Operand& b) {
    const auto [view, outer, channels, inner] = shape;
    const auto a_begin = reinterpret_cast<std::uintptr_t>(a.data);
    const auto b_begin = reinterpret_cast<std::uintptr_t>(b.data);
    const std::uintptr_t a_end = a_begin + static_cast<std::uintptr_t>((a.last_element + 1) * element);
    const std::uintptr_t b_end = b_begin + static_cast<std::uintptr_t>((b.last_element + 1) * element);
    if (a_end <= b_begin || b_end <= a_begin) return Shared::nothing;

    const bool same_strides = a.outer_stride == b.outer_stride && a.channel_stride == b.channel_stride;
    if (a_begin == b_begin && same_strides) return Shared::everything;

    // Slices of one buffer, such as y = buf[:, :64] and x = buf[:, 64:], interlock modulo the stride that they share.
    const std::uint64_t distance = a_begin < b_begin ? b_begin - a_begin : a_begin - b_begin;
    const std::int64_t row = view == View::planar ? inner : channels;
    const bool two_axes = view == View::planar && channels > 1 && outer > 1;
    if (!two_axes) {
        const bool by_channels = view == View::planar && channels > 1;
        const std::int64_t stride = by_channels ? a.channel_stride : a.outer_stride;
        const bool shared = stride == (by_channels ? b.channel_stride : b.outer_stride);
        if (shared && (by_channels || outer > 1) && interlock(distance, stride * element, row * element))
            return Shared::nothing;
    } else if (same_strides) {
        const bool outer_is_larger = a.outer_stride >= a.channel_stride;
        const std::int64_t large = outer_is_larger ? a.outer_stride : a.channel_stride;
        const std::int64_t small = outer_is_larger ? a.channel_stride : a.outer_stride;
        const std::int64_t small_extent = outer_is_larger ? channels : outer;
        if (interlock(distance, large * element, ((small_extent - 1) * small + row) * element)) return Shared::nothing;
        if (large % small == 0 && interlock(distance, small * element, row * element)) return Shared::nothing;
    }
    // Some that never meet are refused too: with other strides than the other's, that is more than a few divisions
    // would tell.
    return Shared::perhaps_something;
}

// "it begins 144 bytes after x, in the same range of memory"
std::string where(const Operand& tensor, const Operand& other) {
    const auto begin = reinterpret_cast<std::uintptr_t>(tensor.data);
    const auto other_begin = reinterpret_cast<std::uintptr_t>(other.data);
    const bool before = begin < other_begin;
    return sentence("it begins ", before ? other_begin - begin : begin - other_begin, " bytes ",
                    before ? "before " : "after ", other.name, ", in the same range of memory");
}

// Of handles only their equality is known: two that differ may be parts of one buffer all the same.
Status check_handles(const Call& call) {
    for (const Role output : output_roles) {
        const Operand& y = call[output];
        if (y.name == nullptr) continue;
        for (const Role role : {Role::x, Role::addend, Role::dy, Role::addend_out}) {
            const Operand& other = call[role];
            if (other.name == nullptr || role == output || other.data != y.data) continue;
            const bool same = other.outer_stride == y.outer_stride && other.channel_stride == y.channel_stride;
            if (role == Role::addend_out) {
                return Status(ErrorCode::overlap, sentence(other.name, ": it is the buffer of ", y.name,
                                                           "; both are written, so expected a buffer of its own"));
            }
            if (!same) {
                return Status(ErrorCode::overlap,
                              sentence(y.name, ": it is the buffer of ", other.name,
                                       ", by other strides; expected the same strides (in place) or another buffer"));
            }
        }
    }
    return Status();
}

}  // namespace

Status check_overlap(const Call& call) {
    if (call.opaque) return check_handles(call);
    const std::int64_t element = element_bytes(call.dtype);
    for (const Role output : output_roles) {
        const Operand& y = call[output];
        if (y.name == nullptr) continue;
        for (const Role input : input_roles) {
            const Operand& x = call[input];
            if (x.name == nullptr || shared_memory(call.shape, element, x, y) != Shared::perhaps_something) continue;
            return Status(ErrorCode::overlap,
                          sentence(y.name, ": ", where(y, x), ", and may share memory with ", x.name,
                                   "; expected the same address and strides as ", x.name,
                                   " (in place), a place outside ", x.name, "'s range, or ", x.name,
                                   "'s strides and a start from which no element is one of ", x.name, "'s"));
        }
    }
    const Operand &first = call[Role::out], &second = call[Role::addend_out];
    if (first.name == nullptr || second.name == nullptr) return Status();
    if (shared_memory(call.shape, element, first, second) == Shared::nothing) return Status();
    return Status(ErrorCode::overlap, sentence(second.name, ": ", where(second, first), ", and may share memory with ",
                                               first.name, "; both are written, so expected a tensor of its own"));
}

}  // namespace fusebn::detail
