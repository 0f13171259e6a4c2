// Vectors of neighbours in memory that Halide does not find to be ones.
#pragma once

#include <Halide.h>

#include <memory>

namespace fusebn {

// Reads and writes as one vector what lies side by side though the index says so only after arithmetic: of joined rows
// (schedules/schedule.h) each element is named by s and c, which Halide finds by division, so it would gather and
// scatter.
std::unique_ptr<Halide::Internal::IRMutator> neighbours_together();

}  // namespace fusebn
