// A second oneDNN beside the one that the benchmark links. Both have functions of the same names, so it comes in a
// module of its own (onednn_module.cpp, with onednn_contender.cpp built against the other headers), whose names are
// looked up in it first.
#pragma once

#include <string>
#include <vector>

#include "onednn_contender.h"

namespace fusebn::bench {

// What the module shows, as the C name fusebn_onednn_module: it is built with this program, by the same compiler.
struct OnednnModule {
    std::vector<Peer> (*peers)(const LayerCase&, const Operands&, const BatchNormState&, double eps, int threads);
    std::string (*version)();
};

// Loads it for this process. Throws std::runtime_error with the loader's words.
void load_onednn(const std::string& module);

// Its peers, called "onednn3" and "onednn3-blocked"; none where nothing was loaded.
std::vector<Peer> loaded_onednn_peers(const LayerCase& layer_case, const Operands& operands,
                                      const BatchNormState& state, double eps, int threads);

// "3.13.2", or "" where nothing was loaded.
std::string loaded_onednn_version();

}  // namespace fusebn::bench
