// Activations and their derivatives, in f32.
#pragma once

#include <Halide.h>

#include "fusebn/types.h"

namespace fusebn {

// act(v). NaN stays NaN. `slope`: leaky_relu's.
Halide::Expr activate(Activation activation, Halide::Expr v, Halide::Expr slope);

// act'(v) * dy; at a kink that of the outer side (below 0 or -3, above 3 or 6). Where v is NaN, relu, relu6 and
// hardswish let nothing pass, leaky_relu what it lets pass below zero.
Halide::Expr activation_gradient(Activation activation, Halide::Expr v, Halide::Expr dy, Halide::Expr slope);

// Of relu, relu6 and leaky_relu: whether dy passes as it is, and the gradient from that bit alone.
Halide::Expr passes(Activation activation, Halide::Expr v);
Halide::Expr masked_gradient(Activation activation, Halide::Expr passed, Halide::Expr dy, Halide::Expr slope);

}  // namespace fusebn
