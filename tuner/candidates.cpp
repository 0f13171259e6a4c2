#include "tuner/candidates.h"

#include <algorithm>
#include <filesystem>
#include <thread>

#include "compiler/emit.h"
#include "compiler/job_pool.h"
#include "compiler/variant.h"

namespace fusebn {

Candidates::Candidates(const CacheModel& caches, int jobs)
    : caches_(caches), jobs_(jobs > 0 ? jobs : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()))) {}

Schedule Candidates::default_of(const KernelSpec& kernel, InstructionSet isa) const {
    return is_device(isa) ? default_gpu_schedule(kernel, gpu_model(isa)) : default_schedule(kernel, caches_);
}

Batch Candidates::batch(const ManifestKernel& kernel, InstructionSet isa, const std::vector<Schedule>& schedules,
                        std::vector<std::string>& failures) {
    Batch batch;
    batch.kernel = kernel;
    Wanted wanted;
    for (const Schedule& schedule : schedules) wanted.emplace_back(variant(kernel, isa, schedule), kernel);
    if (kernel.kernel.op == Op::backward) {
        ManifestKernel forward = kernel;
        forward.kernel.op = Op::train_forward;
        batch.forward = variant(forward, isa, default_of(forward.kernel, isa));
        wanted.emplace_back(*batch.forward, forward);
    }
    failures = compile_all(wanted);
    if (!failures.front().empty()) throw KernelError(failures.front());
    if (batch.forward && !failures.back().empty()) throw KernelError(failures.back());
    failures.resize(schedules.size());
    for (std::size_t i = 0; i < schedules.size(); ++i) {
        if (failures[i].empty()) batch.candidates.push_back(wanted[i].first);
    }
    return batch;
}

CompiledVariant Candidates::variant(const ManifestKernel& k, InstructionSet isa, const Schedule& schedule) {
    if (is_cuda(isa) && assembler_.empty()) {
        ptxas_ = find_ptxas();
        assembler_ = assembler_digest(ptxas_);
    }
    CompiledVariant v;
    v.variant = {isa, schedule, "tuned", symbol_name("tuned", k.kernel, isa), 0};
    v.object = folder_ / (digest(object_key(k, v.variant, assembler_)) + ".o");
    return v;
}

// The reasons of those that failed.
std::vector<std::string> Candidates::compile_all(const Wanted& wanted) const {
    std::vector<std::string> failures(wanted.size());
    std::vector<Job> jobs;
    std::vector<std::size_t> of;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        const auto& [v, kernel] = wanted[i];
        if (std::filesystem::exists(v.object)) continue;
        of.push_back(i);
        jobs.push_back({v.variant.symbol, [&v = v, &kernel = kernel, this] {
                            write_file(v.object, compile(kernel, v.variant, ptxas_));
                        }});
    }
    const std::vector<std::string> reasons = run_all_jobs(jobs, jobs_);
    for (std::size_t i = 0; i < reasons.size(); ++i) failures[of[i]] = reasons[i];
    return failures;
}

}  // namespace fusebn
