#include "compiler/plan.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "compiler/variant.h"

namespace fusebn {

namespace {

// The schedule of a kernel for a target, and where it is from. `processor`: "" for any.
std::pair<Schedule, std::string> choose(const SpecKernel& k, InstructionSet isa, const std::string& processor,
                                        const CacheModel& caches, const RecordBook& records) {
    const Schedule fallback =
        is_device(isa) ? default_gpu_schedule(k.kernel, gpu_model(isa)) : default_schedule(k.kernel, caches);
    if (!k.schedule.empty() && takes_schedule(isa, k.schedule)) {
        return {spec_schedule(k.schedule, k.kernel, fallback), "spec"};
    }
    const std::optional<RecordBook::Entry> entry = records.find(k.kernel, isa, processor);
    // A file that somebody edited, or another version's idea of what is legal.
    if (!entry || !is_legal(entry->record.schedule, k.kernel)) return {fallback, entry ? "stale" : "default"};
    return {entry->record.schedule, entry->stale ? "stale" : "tuned"};
}

// The variants of a kernel for a target: one for any processor, and those for others whose schedule differs from it or
// was tuned. `processors`: a name after those that it begins with.
void add_variants(ManifestKernel& row, const std::string& library, const SpecKernel& k, InstructionSet isa,
                  const std::set<std::string>& processors, const CacheModel& caches, const RecordBook& records) {
    const std::size_t first = row.variants.size();
    const auto add = [&](const Schedule& schedule, const std::string& origin, const std::string& processor) {
        ManifestVariant v{isa, schedule, origin, symbol_name(library, k.kernel, isa, processor)};
        v.processor = processor;
        for (std::size_t i = first; i < row.variants.size(); ++i) {
            if (row.variants[i].schedule == schedule) v.symbol = row.variants[i].symbol;
        }
        row.variants.push_back(v);
    };
    const auto [schedule, origin] = choose(k, isa, "", caches, records);
    add(schedule, origin, "");
    if (is_device(isa) || origin == "spec") return;
    for (const std::string& processor : processors) {
        const auto [its, from] = choose(k, isa, processor, model_for(processor, caches), records);
        // What that processor would take otherwise.
        const auto other = std::find_if(row.variants.rbegin(), row.variants.rend(), [&](const ManifestVariant& v) {
            return v.isa == isa && is_for_processor(v.processor, processor);
        });
        if (from != "default" || !(its == other->schedule)) add(its, from, processor);
    }
}

}  // namespace

bool takes_schedule(InstructionSet isa, const std::string& schedule) {
    return is_device(isa) == (schedule.find("threads=") != std::string::npos);
}

std::vector<ManifestKernel> plan(const LibrarySpec& spec, const CacheModel& caches, const RecordBook& records) {
    std::vector<SpecKernel> kernels;
    std::set<KernelSpec> present;
    std::set<std::tuple<Op, View, DataType, Activation, Residual>> kinds;
    for (SpecKernel k : spec.kernels) {
        // With one element to a row, planar is interleaved, and the runtime takes it for that: a library must not have
        // both, or a call's bits would depend on which it has.
        if (k.kernel.view == View::planar && k.kernel.inner == 1 && k.kernel.channels != any_extent) {
            k.kernel.view = View::interleaved;
        }
        // A library that can train has the generic kernels of training too.
        for (const auto& op : op_names) {
            if (op.value == Op::backward && k.kernel.op != Op::backward) continue;
            for (View view : {k.kernel.view, View::interleaved}) {
                kinds.insert({op.value, view, k.kernel.dtype, k.kernel.activation, k.kernel.residual});
            }
        }
        if (present.insert(k.kernel).second) kernels.push_back(k);
    }
    for (const auto& [op, view, dtype, activation, residual] : kinds) {
        SpecKernel generic;
        generic.kernel = {op,       view,       dtype,      activation,
                          residual, any_extent, any_extent, view == View::planar ? any_extent : 1};
        if (present.insert(generic.kernel).second) kernels.push_back(generic);
    }
    // The table's order: fixed extents, then those with an extent known at run time, then the generic ones.
    const auto freedom = [](const KernelSpec& k) {
        return (k.outer == any_extent) + (k.inner == any_extent) + 4 * (k.channels == any_extent);
    };
    std::stable_sort(kernels.begin(), kernels.end(),
                     [&](const SpecKernel& a, const SpecKernel& b) { return freedom(a.kernel) < freedom(b.kernel); });

    std::set<std::string> processors = records.processors();
    processors.insert(std::begin(modelled_processors), std::end(modelled_processors));
    std::vector<ManifestKernel> rows;
    for (const SpecKernel& k : kernels) {
        ManifestKernel row{k.kernel, needs_large(k.kernel), {}};
        for (InstructionSet isa : spec.targets) {
            add_variants(row, spec.name, k, isa, processors, caches, records);
        }
        rows.push_back(row);
    }
    return rows;
}

}  // namespace fusebn
