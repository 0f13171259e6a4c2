// All that the module shows.
#include "onednn_module.h"

extern "C" __attribute__((visibility("default"))) const fusebn::bench::OnednnModule fusebn_onednn_module;
const fusebn::bench::OnednnModule fusebn_onednn_module = {fusebn::bench::onednn_peers, fusebn::bench::onednn_version};
