// Schedules of kernels as object files, made by what `fusebn build` calls.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "compiler/files.h"
#include "tuner/trial.h"

namespace fusebn {

// Nothing can be said of a kernel: what() says why.
class KernelError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

class Candidates {
public:
    // `caches`: what a CPU's defaults are made for. `jobs`: compiled at the same time; 0: one a CPU.
    Candidates(const CacheModel& caches, int jobs);

    // A batch of `schedules`, the first of them the default, with what its layer needs beside them. Those that are not
    // in it could not be compiled; `failures` says why, by the index in `schedules`, and is "" for the others. Throws
    // KernelError where the default is one of them.
    Batch batch(const ManifestKernel& kernel, InstructionSet isa, const std::vector<Schedule>& schedules,
                std::vector<std::string>& failures);

    Schedule default_of(const KernelSpec& kernel, InstructionSet isa) const;

private:
    using Wanted = std::vector<std::pair<CompiledVariant, ManifestKernel>>;
    CompiledVariant variant(const ManifestKernel& kernel, InstructionSet isa, const Schedule& schedule);
    std::vector<std::string> compile_all(const Wanted& wanted) const;

    CacheModel caches_;
    int jobs_;
    std::optional<std::string> ptxas_;
    std::string assembler_;  // its digest, once a CUDA kernel is wanted
    TemporaryFolder folder_;
};

}  // namespace fusebn
