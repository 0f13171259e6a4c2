#include "tuner/subjects.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <stdexcept>

#include "compiler/build.h"
#include "fusebn/parallel.h"

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

std::vector<InstructionSet> tuned_targets(const LibrarySpec& spec, bool all) {
    std::vector<InstructionSet> here;
    for (InstructionSet isa : spec.targets) {
        if (!is_device(isa) && supports(isa) && isa <= instruction_set()) here.push_back(isa);
    }
    if (here.empty()) throw std::runtime_error("none of the spec's targets is a CPU's that this machine runs");
    if (!all) here.erase(here.begin(), here.end() - 1);
    return here;
}

}  // namespace

std::vector<Subject> subjects_of(const LibrarySpec& spec, const TuneOptions& options, int threads,
                                 std::vector<std::string>& remarks) {
    std::vector<Subject> subjects;
    LibrarySpec narrowed = spec;
    narrowed.targets = tuned_targets(spec, options.all_targets);
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
            if (v.origin == "spec") {
                ++given;
                continue;
            }
            ManifestKernel bare = k;
            bare.variants.clear();
            Subject subject{bare, v.isa, Search(s, v.schedule, options.caches, threads), {}, {}, 0};
            subject.outcome.kernel = name;
            subject.outcome.isa = v.isa;
            subject.bytes = static_cast<double>(s.outer) * static_cast<double>(s.channels) *
                            static_cast<double>(s.inner) * traffic(s).tensors() * element_bytes(s.dtype);
            const double memory =
                static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
            // The tensors, and a copy's two.
            if (2.5 * subject.bytes > memory) {
                subject.outcome.complaint = "its tensors do not fit this machine's memory";
            }
            subjects.push_back(std::move(subject));
        }
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

int resume(std::vector<Subject>& subjects, const std::string& records, const TuningKey& key,
           std::vector<std::string>& remarks) {
    int resumed = 0;
    if (!std::filesystem::exists(records)) return resumed;
    const RecordFile file = read_records(records);
    for (Subject& s : subjects) {
        int generation = -1;
        for (const Record& r : file.records) {
            if (r.isa != s.isa || r.kernel != s.name() || machine_text(r.key) != machine_text(key) ||
                r.key.generator != key.generator || r.beside != to_text(s.search.base())) {
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
