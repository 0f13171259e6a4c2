// Elements of tensors: stored in the spec's type, computed in f32.
#pragma once

#include <Halide.h>

#include "fusebn/types.h"

namespace fusebn {

// f32, or u16: the bits of a bf16 or f16.
Halide::Type stored_type(DataType dtype);

// Exact.
Halide::Expr to_f32(DataType dtype, Halide::Expr stored);

// To the nearest, ties to even; too large becomes infinity. A NaN becomes a quiet one, of the same sign and with the
// upper bits of its payload.
Halide::Expr from_f32(DataType dtype, Halide::Expr value);

}  // namespace fusebn
