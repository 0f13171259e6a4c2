// What every kernel is checked against: plain loops in double, and how far a kernel may be from them.
//
//   y = act( gamma * (x - mean) / sqrt(var + eps) + beta  [+ residual] ), and its gradient
//
// A double carries 29 bits more than the f32 values that kernels compute with, so the oracle's own error is of no
// account.
#pragma once

#include "activation.h"
#include "backward.h"
#include "backward_bounds.h"
#include "bounds.h"
#include "forward.h"
#include "tensor.h"
