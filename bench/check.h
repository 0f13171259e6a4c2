// A kernel's results against the oracle, within the derived bound.
#pragma once

#include <string>

#include "layer_case.h"

namespace fusebn::bench {

struct Verdict {
    std::string complaint;  // empty: all values agree
    double worst = 0;       // the largest error of y, as a share of its bound
};

// One call of forward was made, with `before` as the layer's state; y is its result.
Verdict check(const LayerCase& layer_case, const float* x, const float* y, const BatchNorm& layer,
              const BatchNormState& before);

}  // namespace fusebn::bench
