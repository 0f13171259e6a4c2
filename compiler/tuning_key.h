// What a measurement depends on beside the kernel and its schedule: where it was made, and by which versions.
#pragma once

#include <optional>
#include <string>

#include "fusebn/types.h"

namespace fusebn {

struct TuningKey {
    // Of a CPU, processor and caches: "AMD EPYC (family 25, model 17), L1 32 KB, L2 1024 KB, L3 32 MB"; of a device,
    // its name: "NVIDIA H100 80GB HBM3".
    std::string machine;
    int threads = 1;        // 0: a device's
    std::string generator;  // generator_version()
    std::string processor;  // of a CPU, as kernel_abi.h names it; "": a device's
};

// The key of this machine's CPU, with as many threads as the runtime uses.
TuningKey this_tuning_key();

// What runs the kernels of a target here: the CPU, whichever of its instruction sets that is, or the first device of
// the target's kind. A device is looked for in a process of its own, as its driver does not outlive a fork.
struct TargetHere {
    std::optional<TuningKey> key;
    std::string missing;  // where there is no key: "no device here (CUDA cannot be loaded ..)"
};
TargetHere target_here(InstructionSet target);

// "AMD EPYC (family 25, model 17), L1 32 KB, L2 1024 KB, L3 32 MB, 2 threads", "NVIDIA H100 80GB HBM3"
std::string machine_text(const TuningKey& key);

}  // namespace fusebn
