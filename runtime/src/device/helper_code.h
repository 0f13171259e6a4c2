#pragma once

#include "fusebn/device.h"
#include "fusebn/kernel_abi.h"

namespace fusebn::detail {

// The text of the runtime's own kernels. Their parameters:
//   fusebn_add        float* y, const float* x, int count
//   fusebn_constants  const float* running_mean, const float* running_var, double eps, double* mean, double* inv_std,
//                     int count
//   fusebn_mask8, 16, 32   const T* y, uint8* mask, int64: rows, channels, length, strides of y (outer, channel, step)
//                     and of the mask, uint32 last. Row r is channel r % channels of r / channels; an element's byte is
//                     1 where (T)(y - 1) < last. Threads step over a row in x, over rows in y.
const fusebn_device_code& helper_code(DeviceKind kind);

}  // namespace fusebn::detail
