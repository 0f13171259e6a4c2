// The machine's copy speed: what an operation would take that did nothing but move its bytes, half of them in and half
// of them out.
//
// The copies are kernels of a table of their own, called through a layer like any other kernel: same threads, same
// cost of a call, same choice of instruction set.
#pragma once

#include <cstdint>
#include <functional>

namespace fusebn::measure {

enum class Copy {
    plain,     // stores go through the cache: the faster one where both tensors fit in it
    streaming  // stores go past the cache, whole lines at a time: the faster one where they do not
};

// The same, of what only reads: what a pass takes that makes sums of tensors. Nothing is written.
std::function<void()> make_read(const void* from, std::int64_t bytes);

// A call copies `bytes`, rounded up to whole floats; `to` starts on a cache line. Exits where the layer refuses the
// call.
std::function<void()> make_copy(Copy copy, const void* from, void* to, std::int64_t bytes);

}  // namespace fusebn::measure
