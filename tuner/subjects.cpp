#include "tuner/subjects.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <stdexcept>

#include "compiler/plan.h"
#include "compiler/ptx.h"
#include "fusebn/parallel.h"
#include "tuner/gpu_space.h"
#include "tuner/space.h"

namespace fusebn {

namespace {

bool has_part(const std::string& name, const std::string& parts) {
    if (parts.empty()) return true;
    std::istringstream in(parts);
    for (std::string part; std::getline(in, part, ',');) {
        if (name.find(part) != std::string::npos) return true;
    }
    return false;
}

struct Target {
    InstructionSet isa;
    TuningKey key;
};

// Those of the spec's that are tuned here: all, or the best of the CPU's, the best of CUDA's, and OpenCL.
std::vector<Target> tuned_targets(const LibrarySpec& spec, bool all, std::vector<std::string>& remarks) {
    std::vector<Target> here;
    std::string absent;
    for (const InstructionSet isa : spec.targets) {
        TargetHere found;
        if (is_device(isa) || (supports(isa) && isa <= instruction_set())) {
            found = target_here(isa);
        } else if (all) {
            found.missing = "this CPU does not run it";
        }
        if (!found.key) {
            if (found.missing.empty()) continue;
            remarks.push_back(std::string(to_string(isa)) + ": " + found.missing + "; not tuned");
            absent += "\n  " + std::string(to_string(isa)) + ": " + found.missing;
            continue;
        }
        const auto is_worse = [&](const Target& other) {
            return is_device(other.isa) == is_device(isa) && is_cuda(other.isa) == is_cuda(isa);
        };
        if (!all) here.erase(std::remove_if(here.begin(), here.end(), is_worse), here.end());
        here.push_back({isa, *found.key});
    }
    if (!here.empty()) return here;
    throw std::runtime_error(
        "none of the spec's targets can be tuned on this machine; tune them on one that runs them, or others here "
        "(--targets x86-64, say):" +
        (absent.empty() ? "\n  the spec's are of better CPUs" : absent));
}

// The tensors, and a copy's two.
bool fits_memory(double bytes) {
    return 2.5 * bytes <= static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

Search search_of(const KernelSpec& s, InstructionSet isa, const Schedule& base, const CacheModel& caches, int threads) {
    if (is_device(isa)) {
        const GpuModel gpu = gpu_model(isa);
        return Search(base, gpu_schedule_space(s, base, gpu),
                      [&](const Schedule& one) { return predicted_gpu_cost(s, one, gpu); });
    }
    return Search(base, schedule_space(s, base),
                  [&](const Schedule& one) { return predicted_cost(s, one, caches, threads); });
}

}  // namespace

std::vector<Subject> subjects_of(const LibrarySpec& spec, const TuneOptions& options,
                                 std::vector<std::string>& remarks) {
    std::vector<Subject> subjects;
    const std::vector<Target> targets = tuned_targets(spec, options.all_targets, remarks);
    LibrarySpec narrowed = spec;
    narrowed.targets.clear();
    for (const Target& target : targets) narrowed.targets.push_back(target.isa);
    int at_run_time = 0, given = 0;
    for (const ManifestKernel& k : plan(narrowed, options.caches)) {
        const std::string name = kernel_name(k.kernel);
        if (!has_part(name, options.kernels)) continue;
        const KernelSpec& s = k.kernel;
        if (s.outer == any_extent || s.channels == any_extent || s.inner == any_extent) {
            ++at_run_time;
            continue;
        }
        for (const ManifestVariant& v : k.variants) {
            if (!v.processor.empty()) continue;  // the one for any has the default for `caches`
            const auto target =
                std::find_if(targets.begin(), targets.end(), [&](const Target& t) { return t.isa == v.isa; });
            if (v.origin == "spec") {
                ++given;
                continue;
            }
            ManifestKernel bare = k;
            bare.variants.clear();
            const TuningKey& key = target->key;
            Subject subject{bare, v.isa, key, search_of(s, v.isa, v.schedule, options.caches, key.threads), {}, {}, 0};
            subject.outcome.kernel = name;
            subject.outcome.isa = v.isa;
            subject.bytes = static_cast<double>(s.outer) * static_cast<double>(s.channels) *
                            static_cast<double>(s.inner) * traffic(s).tensors() * element_bytes(s.dtype);
            if (!fits_memory(subject.bytes)) {
                subject.outcome.complaint = "its tensors do not fit this machine's memory";
            }
            subjects.push_back(std::move(subject));
        }
    }
    const auto on_cuda = [](const Target& target) { return is_cuda(target.isa); };
    if (std::any_of(targets.begin(), targets.end(), on_cuda) && !find_ptxas()) {
        remarks.push_back("no ptxas was found: CUDA's kernels are tried as the driver compiles them");
    }
    if (at_run_time > 0) {
        remarks.push_back(std::to_string(at_run_time) +
                          " kernels keep their defaults: their extents are known at run time only");
    }
    if (given > 0) {
        remarks.push_back(std::to_string(given) + " variants keep the schedule that the spec gives them");
    }
    if (subjects.empty()) {
        throw std::runtime_error("there is nothing to tune: " +
                                 (options.kernels.empty()
                                      ? std::string("the spec has no kernel of known extents without a schedule")
                                      : "no such kernel's name has \"" + options.kernels + "\" in it"));
    }
    std::stable_sort(subjects.begin(), subjects.end(),
                     [](const Subject& a, const Subject& b) { return a.bytes > b.bytes; });
    return subjects;
}

int resume(std::vector<Subject>& subjects, const std::string& records, std::vector<std::string>& remarks) {
    int resumed = 0;
    if (!std::filesystem::exists(records)) return resumed;
    const RecordFile file = read_records(records);
    if (file.is_foreign) {
        throw std::runtime_error("--records: found no record in " + records +
                                 "; allowed: what `fusebn tune` wrote, an empty file, or a name not in use");
    }
    for (Subject& s : subjects) {
        int generation = -1;
        for (const Record& r : file.records) {
            if (r.isa != s.isa || r.kernel != s.name() || machine_text(r.key) != machine_text(s.key) ||
                r.key.generator != s.key.generator || r.beside != to_text(s.search.base())) {
                continue;
            }
            if (r.kind == Record::Kind::best) {
                s.outcome.best = r;
                continue;
            }
            if (generation >= 0 && r.generation != generation) s.search.end_generation();
            generation = r.generation;
            if (r.failure.empty()) {
                s.search.measured(r.schedule, r.ratio);
            } else {
                s.search.failed(r.schedule);
            }
        }
        if (generation >= 0) {
            s.search.end_generation();
            ++resumed;
        }
    }
    if (!file.unreadable.empty()) {
        remarks.push_back(records + ": " + std::to_string(file.unreadable.size()) +
                          " lines are no records, and were passed over");
    }
    return resumed;
}

}  // namespace fusebn
