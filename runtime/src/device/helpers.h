// The runtime's own kernels: what a layer does on the CPU beside its kernels, on a device.
#pragma once

#include <cstdint>

#include "check.h"
#include "device/launcher.h"
#include "fusebn/types.h"

namespace fusebn::detail {

// All are queued on the launcher's stream; pointers are the device's.

// Loads what the others need.
Status prepare_helpers(Launcher& launcher);

// y[i] += x[i]
Status add(Launcher& launcher, float* y, const float* x, int count);

// The running statistics as backward takes constant ones: mean in f64, and 1 / sqrt(var + eps), each operation in f64
// and rounded as IEEE 754 says, so to the bits of the CPU.
Status constant_statistics(Launcher& launcher, const float* running_mean, const float* running_var, double eps,
                           double* mean, double* inv_std, int count);

// Writes the mask of act(bn(x) + residual) from the activation's result, as mask_of_result of mask.h does; slope >= 0.
Status mask_of_result(Launcher& launcher, const Call& call, Activation activation, std::uint8_t* mask);

// The mask of tensors with one spatial element in the other view of the same elements.
Status change_mask_view(Launcher& launcher, const Shape& shape, const std::uint8_t* from, View wanted,
                        std::uint8_t* to);

}  // namespace fusebn::detail
