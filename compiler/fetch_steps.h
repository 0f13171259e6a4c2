// Prefetches that an interleaved kernel's sums make for themselves, in Halide's statements.
#pragma once

#include <Halide.h>

#include <memory>
#include <string>
#include <vector>

namespace fusebn {

// In every loop over a row's vectors that reads a step (generators/numerics.h) of an input, fetches of its share of the
// step that is so many further on, in the order of memory: line after line, where the loop itself goes down its columns
// of eight rows. Of a loop whose length is not known (a block of channels, of which the last is narrower), of what it
// reads itself; of a last vector that is not whole, which Halide takes out of the loop, nothing. The addresses may lie
// beyond the tensor. They are Halide's prefetches, non-temporal ones; fetch_into_l1 brings them into the L1 cache.
std::unique_ptr<Halide::Internal::IRMutator> fetch_steps(std::vector<std::string> inputs, int steps);

}  // namespace fusebn
