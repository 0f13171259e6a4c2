// A kernel's results against the oracle, within the derived bound.
#pragma once

#include <string>

#include "measure/workload.h"

namespace fusebn::measure {

struct Verdict {
    std::string complaint;  // empty: all values agree
    double worst = 0;       // the largest error of y or dx, as a share of its bound
};

// One call of workload.run() was made after prepare(). Of backward the gradient is checked, by the statistics that the
// forward call kept; those are checked where training is.
Verdict check(const LayerCase& layer_case, const Workload& workload);

}  // namespace fusebn::measure
