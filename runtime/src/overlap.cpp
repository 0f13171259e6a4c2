// Whether x and y share memory. A kernel may read an element of x after it wrote another one of y, so they must be
// the same tensor, or have no element in common.
#include <algorithm>
#include <cstdint>

#include "check.h"
#include "text.h"

namespace fusebn::detail {
namespace {

// Runs of `run` bytes that repeat every `period` bytes: whether two such patterns, `distance` bytes apart, never meet.
bool interlock(std::uint64_t distance, std::int64_t period, std::int64_t run) {
    const std::int64_t offset = static_cast<std::int64_t>(distance % static_cast<std::uint64_t>(period));
    return offset >= run && offset <= period - run;
}

}  // namespace

Status check_overlap(const Call& call) {
    const auto [view, outer, channels, inner] = call.shape;
    const Operand &x = call.x, &y = call.y;
    const std::int64_t element = element_bytes(call.dtype);
    const auto x_begin = reinterpret_cast<std::uintptr_t>(x.data);
    const auto y_begin = reinterpret_cast<std::uintptr_t>(y.data);
    const std::uintptr_t x_end = x_begin + static_cast<std::uintptr_t>((x.last_element + 1) * element);
    const std::uintptr_t y_end = y_begin + static_cast<std::uintptr_t>((y.last_element + 1) * element);
    if (x_end <= y_begin || y_end <= x_begin) return Status();

    const bool same_strides = x.outer_stride == y.outer_stride && x.channel_stride == y.channel_stride;
    if (x_begin == y_begin && same_strides) return Status();

    // Slices of one buffer, such as y = buf[:, :64] and x = buf[:, 64:], interlock modulo the stride that they share.
    const std::uint64_t distance = x_begin < y_begin ? y_begin - x_begin : x_begin - y_begin;
    const std::int64_t row = view == View::planar ? inner : channels;
    const bool two_axes = view == View::planar && channels > 1 && outer > 1;
    if (!two_axes) {
        const bool by_channels = view == View::planar && channels > 1;
        const std::int64_t stride = by_channels ? x.channel_stride : x.outer_stride;
        const bool shared = stride == (by_channels ? y.channel_stride : y.outer_stride);
        if (shared && (by_channels || outer > 1) && interlock(distance, stride * element, row * element))
            return Status();
    } else if (same_strides) {
        const bool outer_is_larger = x.outer_stride >= x.channel_stride;
        const std::int64_t large = outer_is_larger ? x.outer_stride : x.channel_stride;
        const std::int64_t small = outer_is_larger ? x.channel_stride : x.outer_stride;
        const std::int64_t small_extent = outer_is_larger ? channels : outer;
        if (interlock(distance, large * element, ((small_extent - 1) * small + row) * element)) return Status();
        if (large % small == 0 && interlock(distance, small * element, row * element)) return Status();
    }
    // Some that never meet are refused too: with other strides than x's, that is more than a few divisions would tell.
    return Status(ErrorCode::overlap,
                  sentence("y: it begins ", distance, " bytes ", y_begin < x_begin ? "before" : "after",
                           " x, in the same range of memory, and may share memory with x; expected the same address "
                           "and strides as x (in place), a place outside x's range, or x's strides and a start from "
                           "which no element is one of x's"));
}

}  // namespace fusebn::detail
