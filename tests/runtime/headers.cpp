// The public headers, which compile without a warning (see CMakeLists.txt).
#include "fusebn/batch_norm.h"
#include "fusebn/device.h"
#include "fusebn/fold.h"
#include "fusebn/half.h"
#include "fusebn/kernel_abi.h"
#include "fusebn/parallel.h"
#include "fusebn/tensor.h"
#include "fusebn/types.h"
