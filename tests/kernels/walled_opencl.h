// An OpenCL loader for tests whose buffers lie in host memory and end at a page that nothing may touch: a kernel that
// PoCL runs in this process meets it where it reads or writes beyond a buffer. FUSEBN_LIBOPENCL names it.
#pragma once

#include <cstddef>

namespace kernels {

// What touched memory beyond a buffer first, since it was last asked; bytes of the buffer, and where beyond its begin.
struct Beyond {
    int times = 0;  // buffers that were overrun
    std::size_t bytes = 0, offset = 0;
};

}  // namespace kernels

extern "C" kernels::Beyond fusebn_touched_beyond();
