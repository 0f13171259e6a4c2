// What a call costs beside the kernel's own work.
#pragma once

#include <string>
#include <vector>

#include "layer_case.h"

namespace fusebn::bench {

struct Overhead {
    std::string op;
    std::int64_t channels;
    double ns;  // of one call of forward
};

// A layer over the case's whole table, with every kernel replaced by one that returns at once: what is left of a call
// is the checks, the choice of the kernel, its arguments and the keeping of the statistics.
Overhead measure_overhead(const LayerCase& layer_case, const float* x, float* y);

}  // namespace fusebn::bench
