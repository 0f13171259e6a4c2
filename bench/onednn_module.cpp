// All that the module shows.
#include "onednn_module.h"

#include <cstdlib>

// PyPI's oneDNN is built for SYCL alone, whose CPU is an OpenCL device of Intel's beside it. Before any of it is used.
__attribute__((constructor)) static void name_the_device() {
    setenv("OCL_ICD_FILENAMES", FUSEBN_ONEDNN3 "/lib/libintelocl.so", 0);
}

extern "C" __attribute__((visibility("default"))) const fusebn::bench::OnednnModule fusebn_onednn_module;
const fusebn::bench::OnednnModule fusebn_onednn_module = {fusebn::bench::onednn_peers, fusebn::bench::onednn_version};
