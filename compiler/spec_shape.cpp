#include "compiler/spec_shape.h"

#include <algorithm>

#include "compiler/spec.h"
#include "generators/numerics.h"
#include "schedules/schedule.h"

namespace fusebn {
namespace {

[[noreturn]] void refuse(const std::string& found, const std::string& allowed, std::optional<std::size_t> axis = {}) {
    throw ShapeMistake{{found, allowed}, axis};
}

// The product of the extents [begin, end); "any" where one of them is.
std::int64_t product(Layout layout, const std::vector<std::int64_t>& extents, std::size_t begin, std::size_t end) {
    std::int64_t value = 1;
    std::string names;
    bool any = false;
    for (std::size_t axis = begin; axis < end; ++axis) {
        names += (names.empty() ? "" : "*") + std::string(to_string(layout).substr(axis, 1));
        any = any || extents[axis] == any_extent;
    }
    for (std::size_t axis = begin; axis < end; ++axis) {
        if (extents[axis] == any_extent) continue;
        if (value > max_extent / extents[axis]) {
            refuse(names + " of more than " + std::to_string(max_extent),
                   "1 to " + std::to_string(max_extent) + " for the product");
        }
        value *= extents[axis];
    }
    return any ? any_extent : value;
}

void check_size(const KernelSpec& kernel, const std::vector<Op>& ops) {
    if (kernel.outer == any_extent || kernel.inner == any_extent) return;
    // Each factor is below 2^31, so a product of two fits, and the third is compared by division.
    const std::int64_t values = kernel.outer * kernel.inner;
    if (values > max_elements / kernel.channels) {
        refuse("more than " + std::to_string(max_elements) + " elements", "that many at most");
    }
    if (values > FUSEBN_MAX_CHANNEL_VALUES) {
        refuse("more than " + std::to_string(FUSEBN_MAX_CHANNEL_VALUES) + " values per channel", "that many at most");
    }
    const bool trains = std::any_of(ops.begin(), ops.end(), [](Op op) { return op != Op::inference; });
    if (values == 1 && trains) {
        refuse("one value per channel", "two or more for train_forward and backward: a single value has no variance");
    }
}

// Kernels keep values for all their channels: gamma and beta folded, in f32, or each group's sums, in f64. Halide
// counts the bytes of such an array in 32 bits, also of a block's worth more than there are channels.
constexpr std::int64_t max_scratch_bytes = (std::int64_t{1} << 31) - (1 << 16);

// Groups of chunks that a channel's sums are merged from (generators/numerics.h); of extents that are not known, one.
std::int64_t groups_of(const KernelSpec& kernel) {
    if (kernel.outer == any_extent || kernel.inner == any_extent) return 1;
    const auto pieces = [](std::int64_t whole, std::int64_t piece) { return (whole + piece - 1) / piece; };
    if (kernel.view == View::planar) return pieces(planar_chunks(kernel), numerics::planar::chunks_per_group);
    return pieces(kernel.outer, numerics::interleaved::chunk_rows * numerics::interleaved::chunks_per_group);
}

void check_channels(const KernelSpec& kernel, const std::vector<Op>& ops, std::size_t axis) {
    if (kernel.channels == any_extent) return;
    for (Op op : ops) {
        const std::int64_t bytes = op == Op::inference ? 4 : 8 * groups_of(kernel);
        const std::int64_t most = max_scratch_bytes / bytes;
        if (kernel.channels <= most) continue;
        refuse(std::to_string(kernel.channels) + " for C of " + std::string(to_string(op)),
               most > 0 ? "1 to " + std::to_string(most) + " beside these extents, as scratch memory is limited, or " +
                              "\"any\" for every extent"
                        : "\"any\" for every extent, as scratch memory is limited",
               axis);
    }
}

}  // namespace

std::string allowed_extents(Layout layout) {
    return std::to_string(rank(layout)) + " extents, in the order of " + std::string(to_string(layout)) + ": " +
           extent_order(layout);
}

void set_shape(KernelSpec& kernel, Layout layout, const std::vector<std::int64_t>& extents,
               const std::vector<Op>& ops) {
    const auto channel = static_cast<std::size_t>(channel_axis(layout));
    kernel.view = view(layout);
    kernel.channels = extents[channel];
    const auto is_any = [](std::int64_t extent) { return extent == any_extent; };
    if (kernel.channels == any_extent && !std::all_of(extents.begin(), extents.end(), is_any)) {
        refuse("\"any\" for C beside a fixed extent",
               "a number for C, or \"any\" for every extent (the generic kernel)", channel);
    }
    if (kernel.view == View::planar) {
        kernel.outer = extents[0];
        kernel.inner = product(layout, extents, 2, extents.size());
    } else {
        kernel.outer = product(layout, extents, 0, channel);
        kernel.inner = 1;
    }
    check_size(kernel, ops);
    check_channels(kernel, ops, channel);
}

}  // namespace fusebn
