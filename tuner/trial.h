// One batch of a kernel's candidates, checked and timed in a process of its own: what a candidate does there, a crash
// or the end of its device's context included, is one candidate's failure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "compiler/manifest.h"
#include "fusebn/device.h"

namespace fusebn {

// An object file that compile() made.
struct CompiledVariant {
    ManifestVariant variant;
    std::string object;  // its path
};

struct Batch {
    ManifestKernel kernel;                   // without variants
    std::optional<CompiledVariant> forward;  // for backward: training forward, which keeps what it needs
    // The first is the default, which the others are timed beside.
    std::vector<CompiledVariant> candidates;
    // The second won the last final: it is in this one too.
    bool has_champion = false;
    // Of the default's results, where they were compared with the oracle before; a device's default is expected to have
    // those of the CPU's.
    std::optional<std::uint64_t> expected;
    Device device;
    int threads = 1;
    std::int64_t usable_l3 = 0;  // bytes, of a CPU (measure/usable_cache.h): which copy is beside a finalist
};

struct Trial {
    std::string failure;  // "": it was timed
    double ms = 0;
    double ratio = 0, ratio_low = 0, ratio_high = 0;  // the default's time over this one's
    double of_copy = 0;  // a copy's time over this one's; 0: not a finalist, or a device without room for a copy
    // One of the few that were timed to the end, the default included: its figures are of the final's rounds alone,
    // which chose nobody.
    bool finalist = false;
};

struct BatchResult {
    // Not empty: nothing can be said of this kernel. The default is wrong, or the tensors do not fit the memory.
    std::string complaint;
    std::uint64_t digest = 0;   // of the default's results
    std::vector<Trial> trials;  // as Batch::candidates
};

// A candidate is timed where its results are the default's, bit for bit, and those are within the oracle's bounds.
BatchResult run_batch(const Batch& batch);

}  // namespace fusebn
