// What a call costs beside the kernel's own work.
#pragma once

#include <string>
#include <vector>

#include "measure/layer_case.h"
#include "measure/workload.h"

namespace fusebn::bench {

using namespace measure;

struct Overhead {
    std::string op;
    std::int64_t channels;
    double ns;  // of one call of forward or backward; -1: it was refused
};

// For each operation, of the kernels with the fewest and with the most channels: a layer over the case's whole table,
// with every kernel replaced by one that returns at once. What is left of a call is the checks, the choice of the
// kernel, its arguments and the keeping of the statistics or gradients.
std::vector<Overhead> measure_overheads(const std::vector<LayerCase>& cases, Workspace& workspace);

}  // namespace fusebn::bench
