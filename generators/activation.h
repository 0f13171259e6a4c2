// Activations and their derivatives, in f32.
#pragma once

#include <Halide.h>

#include "fusebn/types.h"

namespace fusebn {

// act(v). NaN stays NaN. `slope`: leaky_relu's.
Halide::Expr activate(Activation activation, Halide::Expr v, Halide::Expr slope);

// act'(v) * dy; at a kink the derivative from the left. Where v is NaN relu, relu6 and leaky_relu pass dy on, as
// PyTorch does.
Halide::Expr activation_gradient(Activation activation, Halide::Expr v, Halide::Expr dy, Halide::Expr slope);

// Of relu, relu6 and leaky_relu: whether dy passes as it is, and the gradient from that bit alone.
Halide::Expr passes(Activation activation, Halide::Expr v);
Halide::Expr masked_gradient(Activation activation, Halide::Expr passed, Halide::Expr dy, Halide::Expr slope);

}  // namespace fusebn
