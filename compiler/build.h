// spec -> lib<name>.a, <name>.h, <name>.json
#pragma once

#include <string>

#include "compiler/manifest.h"
#include "compiler/spec.h"

namespace fusebn {

struct BuildOptions {
    std::string directory;  // where the results go; made if it is not there
    int jobs = 0;           // kernels compiled at the same time; 0: one a CPU
    CacheModel caches;
    bool quiet = false;
};

struct BuildResult {
    Manifest manifest;
    int compiled = 0;         // objects
    int reused = 0;           // objects that an earlier build had made
    bool up_to_date = false;  // nothing was written
    bool ptx_alone = false;   // there are CUDA variants, but no ptxas: the driver will compile them
};

// Builds a library. Objects are kept in <directory>/<name>.objects by a digest of all they depend on, so a changed spec
// compiles what changed and an unchanged one nothing. Throws std::runtime_error with the kernel's name and the reason;
// the library, header and manifest of an earlier build are left as they were then.
BuildResult build(const LibrarySpec& spec, const BuildOptions& options);

// The rows of a library: the spec's own, and for every (view, type, activation) in it one generic kernel of each
// operation, so that any shape runs.
std::vector<ManifestKernel> plan(const LibrarySpec& spec, const CacheModel& caches);

// "fusebn 0.1.0, Halide 21.0.0, LLVM 22.1.8"
std::string generator_version();

}  // namespace fusebn
