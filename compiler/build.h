// spec -> lib<name>.a, <name>.h, <name>.json
#pragma once

#include <string>

#include "compiler/manifest.h"
#include "compiler/records.h"
#include "compiler/spec.h"

namespace fusebn {

struct BuildOptions {
    std::string directory;  // where the results go; made if it is not there
    int jobs = 0;           // kernels compiled at the same time; 0: one a CPU
    CacheModel caches;
    bool quiet = false;
    RecordBook records = {};    // schedules of tuned kernels
    bool strict = false;        // a stale record is an error
    bool allow_spills = false;  // else a CUDA function that spills registers is an error
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

}  // namespace fusebn
