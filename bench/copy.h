// The machine's copy speed, as the floor of an operation that reads x once and writes y once.
//
// The copies are kernels of a table of their own, called through a layer like any other kernel: same threads, same
// cost of a call, same choice of instruction set.
#pragma once

#include <cstdint>
#include <functional>

namespace fusebn::bench {

enum class Copy {
    plain,     // stores go through the cache: the faster one where x and y fit in it
    streaming  // stores go past the cache, whole lines at a time: the faster one where they do not
};

// A call copies `elements` from x to y; y starts on a cache line. Exits where the layer refuses the call.
std::function<void()> make_copy(Copy copy, const float* x, float* y, std::int64_t elements);

}  // namespace fusebn::bench
