// The peer: oneDNN's batch normalisation, on the same tensors.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "layer_case.h"

namespace fusebn::bench {

struct Peer {
    std::string name;
    std::function<void()> run;
    // Brings the result of the last run into `y`, in the case's layout.
    std::function<void(float* y)> fetch;
};

// "onednn" in the case's layout, on x and y themselves, and "onednn-blocked" in the layout of oneDNN's own choice
// (blocks of 8 or 16 channels), on copies; x is reordered here, outside of what is timed. Empty where the benchmark was
// built without oneDNN. `state` has to stay.
std::vector<Peer> onednn_peers(const LayerCase& layer_case, const float* x, float* y, const BatchNormState& state,
                               double eps, int threads);

// "2.6.3", or "" where the benchmark was built without oneDNN.
std::string onednn_version();

}  // namespace fusebn::bench
