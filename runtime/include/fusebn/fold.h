// A batch norm in evaluation mode, folded into the convolution or linear layer before it.
#pragma once

#include <cstdint>

#include "fusebn/batch_norm.h"

namespace fusebn {

// With scale = gamma / sqrt(running_var + eps):
//
//   folded_weight[c][i] = scale[c] * weight[c][i]
//   folded_bias[c]      = beta[c] + (bias[c] - running_mean[c]) * scale[c]
//
// so that layer.eval() after the convolution (without its activation, which stays) and the folded convolution alone are
// the same function. Computed in double, rounded once.
//   weight   [features][inputs], f32: OIHW with inputs = I * H * W (per group: I / groups), or a linear layer's
//            [out][in]. Channels last in memory ([inputs][features], HWIO, a transposed linear layer):
//            ChannelAxis::last.
//   bias     [features], or null for none; it is folded, so it is redundant beside the layer's beta from then on
//   folded_weight, folded_bias   may be exactly weight and bias
// All are the host's, of a layer on a device too.
// Fails with invalid_argument (inputs, a layer that tracks no running statistics), null_pointer, misaligned, overlap,
// launch_failed (a state that cannot be read from its device), or the layer's status(); the outputs are untouched then.
enum class ChannelAxis { first, last };
Status fold_batch_norm(const BatchNorm& layer, const float* weight, const float* bias, std::int64_t inputs,
                       float* folded_weight, float* folded_bias, ChannelAxis axis = ChannelAxis::first);

}  // namespace fusebn
