// What `fusebn tune` tunes: a spec's kernels for the targets at hand, CPU's and devices', each with its search.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "compiler/manifest.h"
#include "tuner/search.h"
#include "tuner/tune.h"

namespace fusebn {

// A kernel for a target, and its search.
struct Subject {
    ManifestKernel kernel;  // without variants
    InstructionSet isa;
    TuningKey key;
    Search search;
    std::optional<std::uint64_t> digest;  // of a CPU's default's results, once they were checked
    Tuned outcome;
    double bytes = 0;  // of its tensors: the largest ones are tuned first

    std::string name() const { return outcome.kernel; }
};

// The largest first. `remarks`: targets and kernels that are not tuned, and why. Throws std::runtime_error where there
// are none.
std::vector<Subject> subjects_of(const LibrarySpec& spec, const TuneOptions& options,
                                 std::vector<std::string>& remarks);

// Tells the searches what earlier ones of the same key, beside the same defaults, found; how many there were.
int resume(std::vector<Subject>& subjects, const std::string& records, std::vector<std::string>& remarks);

}  // namespace fusebn
