// A kernel's shape: the extents of a layout, collapsed into its view. Nothing here knows the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "compiler/spec_words.h"
#include "generators/kernel_spec.h"

namespace fusebn {

struct ShapeMistake {
    Mistake mistake;
    std::optional<std::size_t> axis;  // whose extent it is; none where it is the shape's as a whole
};

// "4 extents, in the order of NCHW: [N, C, H, W]"
std::string allowed_extents(Layout layout);

// Sets view, outer, channels and inner from rank(layout) extents in the layout's order, each in [1, max_extent] or
// any_extent. Throws ShapeMistake where docs/spec.md allows no such kernel for one of `ops`.
void set_shape(KernelSpec& kernel, Layout layout, const std::vector<std::int64_t>& extents, const std::vector<Op>& ops);

}  // namespace fusebn
