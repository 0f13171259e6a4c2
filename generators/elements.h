// Elements of tensors: stored in the spec's type, computed in f32.
#pragma once

#include <Halide.h>

#include "fusebn/types.h"

namespace fusebn {

// f32, or u16: the bits of a bf16 or f16.
Halide::Type stored_type(DataType dtype);

// Exact.
Halide::Expr to_f32(DataType dtype, Halide::Expr stored);

// To the nearest, ties to even; too large becomes infinity. A NaN stays one, of the same sign and with the upper bits
// of its payload, where its lower ones are zero (bf16: the lower half): so it is in a stored value and in what
// arithmetic makes of stored values and channel values without_payload. That saves three instructions of eight.
Halide::Expr from_f32(DataType dtype, Halide::Expr value);

// A value of a channel, in f32: NaNs become the one that invalid operations make, but for its sign.
Halide::Expr without_payload(Halide::Expr value);

}  // namespace fusebn
