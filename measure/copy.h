// What operations would take that did nothing but move their bytes: the machine's speed.
//
// They are kernels of a table of their own, called through a layer like any other kernel: same threads, same cost of a
// call, same choice of instruction set.
#pragma once

#include <cstdint>
#include <functional>

#include "measure/workload.h"

namespace fusebn::measure {

enum class Copy {
    plain,     // stores go through the cache: mostly the faster one where all tensors fit in it
    streaming  // stores go past the cache, whole lines at a time: mostly the faster one where they do not
};

// Which of two calls that differ in their stores alone takes less time: near the size of a cache no rule says it.
Copy faster(const std::function<void()>& plain, const std::function<void()>& streaming);

// A call copies `bytes`: half of what moves goes in and half of it out. `to` starts on a cache line. Exits where the
// layer refuses the call.
std::function<void()> make_copy(Copy copy, const void* from, void* to, std::int64_t bytes);

// The same, of what only reads: what a pass takes that makes sums of tensors. Nothing is written.
std::function<void()> make_read(const void* from, std::int64_t bytes);

// The passes of training or backward without what they compute: the reading that sums need, then the reading and the
// writing that applies them (of a mask neither). Where a kernel is as fast, what it is short of the limit is not its
// arithmetic's doing. Planar tensors go channel by channel where two slabs fit in `l3` bytes, else, as interleaved
// ones, everything is read before anything is written. No software prefetches, by which a kernel may be the faster one.
// The results start on a cache line and hold nonsense afterwards.
std::function<void()> make_passes(const LayerCase& c, const Operands& operands, Copy stores, std::int64_t l3);

}  // namespace fusebn::measure
