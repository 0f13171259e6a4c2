// `fusebn tune`: measures schedules of a spec's kernels on this machine and its devices, and keeps what it found in a
// record file.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "compiler/records.h"
#include "compiler/spec.h"

namespace fusebn {

struct TuneOptions {
    std::string records;          // JSON lines; read first, so that an earlier search goes on, then appended to
    double budget_seconds = 600;  // a batch that was begun is ended
    std::string kernels;          // parts of kernel names, separated by commas; "" for all
    bool all_targets = false;     // the spec's targets that run here; else the best of the CPU, of CUDA, and OpenCL
    int threads = 0;              // of the kernels; 0: the runtime's choice
    int jobs = 0;                 // candidates compiled at the same time; 0: one a CPU
    CacheModel caches;            // of this processor's defaults, which are to be beaten
    bool quiet = false;
};

// What came out for a kernel and target, the search of earlier calls included.
struct Tuned {
    std::string kernel;
    InstructionSet isa = InstructionSet::x86_64;
    std::string complaint;       // not empty: it could not be tuned
    std::optional<Record> best;  // nothing: the budget ended before its first batch
    int tried = 0, space = 0;    // schedules
    bool over = false;           // the search has nothing more to try
};

struct TuneResult {
    std::vector<TuningKey> keys;  // of the CPU and the devices that were tuned
    std::vector<Tuned> kernels;
    std::vector<std::string> remarks;  // targets and kernels that are not tuned, and why
};

// Says what it does, remarks first, on `out` unless quiet, and on a terminal shows a line of progress on stderr. Throws
// std::runtime_error: no kernel can be tuned, or the record file cannot be read or written.
TuneResult tune(const LibrarySpec& spec, const TuneOptions& options, std::ostream& out);

// The kernels of the result, as a table.
void print(std::ostream& out, const TuneResult& result);

}  // namespace fusebn
