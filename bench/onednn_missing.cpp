// Built in the place of onednn_contender.cpp where there is no oneDNN.
#include "onednn_contender.h"

namespace fusebn::bench {

std::vector<Peer> onednn_peers(const LayerCase&, const Operands&, const BatchNormState&, double, int) { return {}; }

std::string onednn_version() { return ""; }

}  // namespace fusebn::bench
