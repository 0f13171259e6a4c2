// The peer: oneDNN's batch normalisation, on the same tensors.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "measure/workload.h"

namespace fusebn::bench {

using namespace measure;

struct Peer {
    std::string name;
    std::function<void()> run;
    // Brings y or dx of the last run into `out`, in the case's layout.
    std::function<void(void* out)> fetch;
    // Reads y or dx of the last run, on the library's own threads: those of another one would take turns with them.
    // Null where its threads are not known.
    std::function<void()> read;
    // Of the last run, a value a channel: training's variance, backward's gradients. Null of other operations. They
    // live as long as `run`.
    const float *var = nullptr, *dgamma = nullptr, *dbeta = nullptr;
};

// "onednn" in the case's layout, on the operands themselves, and "onednn-blocked" in the layout of oneDNN's own choice
// (blocks of 8 or 16 channels), on copies. What is reordered, and the forward call whose mask and statistics backward
// takes, is done here, outside of what is timed. Empty where the benchmark was built without oneDNN, and for what
// oneDNN 2 cannot do: fuse what is added, or another activation than ReLU, or train in f16. `state` has to stay.
std::vector<Peer> onednn_peers(const LayerCase& layer_case, const Operands& operands, const BatchNormState& state,
                               double eps, int threads);

// "2.6.3", or "" where the benchmark was built without oneDNN.
std::string onednn_version();

}  // namespace fusebn::bench
