// Copies are called through a layer, like kernels: as rows of a table of their own.
#pragma once

#include "fusebn/kernel_abi.h"

namespace fusebn::measure {

// The row of an inference of f32 tensors of any extents.
template <int count>
constexpr fusebn_kernel copy_row(const char* name, const fusebn_variant (&variants)[count]) {
    return {name,
            FUSEBN_OP_INFERENCE,
            FUSEBN_VIEW_PLANAR,
            FUSEBN_DTYPE_F32,
            FUSEBN_ACTIVATION_NONE,
            FUSEBN_RESIDUAL_NONE,
            {FUSEBN_ANY, FUSEBN_ANY, FUSEBN_ANY},
            0,
            count,
            variants};
}

}  // namespace fusebn::measure
