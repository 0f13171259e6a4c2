// A kernel called through fusebn/kernel_abi.h itself, for what the layers keep to themselves.
#pragma once

#include "kernels/case.h"

namespace kernels {

struct Direct {
    int code = 0;
    Elements y;
    std::vector<std::uint8_t> mask;
    std::int64_t mask_row = 0, mask_outer = 0;  // strides in bits, of a row's next one (planar: c) and of the outermost
    bool rest_of_mask_untouched = true, y_untouched = true, was_refused_memory = false;

    bool bit(std::int64_t o, std::int64_t c, std::int64_t s) const {
        const std::int64_t at = o * mask_outer + (mask_row != 0 ? c * mask_row + s : c);
        return (mask[static_cast<std::size_t>(at / 8)] >> (at % 8) & 1) != 0;
    }
};

// A train_forward row with residual = "add" and a mask, in its variant for `isa` (or the best below).
// `memory`: false: it is given no working memory.
Direct train_forward_add(const fusebn_kernel& row, fusebn::InstructionSet isa, const Case& c, const Inputs& inputs,
                         bool memory = true);

}  // namespace kernels
