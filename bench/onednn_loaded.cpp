#include <dlfcn.h>

#include <filesystem>
#include <stdexcept>

#include "onednn_module.h"

namespace fusebn::bench {
namespace {

const OnednnModule* loaded = nullptr;

}  // namespace

void load_onednn(const std::string& module) {
    void* const handle = dlopen(std::filesystem::absolute(module).c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    void* const shown = handle != nullptr ? dlsym(handle, "fusebn_onednn_module") : nullptr;
    if (shown == nullptr) throw std::runtime_error(dlerror());
    loaded = static_cast<const OnednnModule*>(shown);
}

std::vector<Peer> loaded_onednn_peers(const LayerCase& layer_case, const Operands& operands,
                                      const BatchNormState& state, double eps, int threads) {
    if (loaded == nullptr) return {};
    std::vector<Peer> peers = loaded->peers(layer_case, operands, state, eps, threads);
    for (Peer& peer : peers) peer.name.replace(0, std::string("onednn").size(), "onednn3");
    return peers;
}

std::string loaded_onednn_version() { return loaded != nullptr ? loaded->version() : ""; }

}  // namespace fusebn::bench
