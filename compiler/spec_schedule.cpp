#include "compiler/spec_schedule.h"

#include <algorithm>
#include <set>
#include <sstream>
#include <utility>

#include "compiler/plan.h"
#include "compiler/spec_words.h"

namespace fusebn {

namespace {

void check_keys(const std::string& text) {
    std::set<std::string> keys;
    std::istringstream in(text);
    for (std::string item; in >> item;) {
        const std::string key = item.substr(0, item.find('='));
        if (keys.insert(key).second) continue;
        throw ScheduleError("schedule." + shown(key) + ": found twice in " + in_quotes(text) + "; allowed: once");
    }
}

}  // namespace

void check_schedules(const LibrarySpec& spec, const std::string& file, const CacheModel& caches) {
    for (const SpecKernel& k : spec.kernels) {
        if (k.schedule.empty()) continue;
        try {
            parse_schedule(k.schedule, {});
            check_keys(k.schedule);
            plan({spec.name, spec.targets, {k}}, caches);  // with the defaults of each target, as build() has it
        } catch (const ScheduleError& e) {
            throw SpecError(file + ":" + std::to_string(k.schedule_line) + ":" + std::to_string(k.schedule_column) +
                            ": kernel." + e.what());
        }
    }
}

void check_types(const LibrarySpec& spec, const std::string& file) {
    const auto& targets = spec.targets;
    if (std::find(targets.begin(), targets.end(), InstructionSet::opencl) == targets.end()) return;
    for (const SpecKernel& k : spec.kernels) {
        if (k.kernel.dtype != DataType::f16) continue;
        throw SpecError(file + ":" + std::to_string(k.line) +
                        ":1: kernel.dtype: found \"f16\" with the target opencl; allowed with it: f32, bf16");
    }
}

std::vector<std::string> unused_schedules(const LibrarySpec& spec, const std::string& file) {
    std::vector<std::string> unused;
    std::set<std::pair<int, int>> seen;  // places: a row of several operations is several kernels
    for (const SpecKernel& k : spec.kernels) {
        if (k.schedule.empty() || !seen.insert({k.schedule_line, k.schedule_column}).second) continue;
        const bool used = std::any_of(spec.targets.begin(), spec.targets.end(),
                                      [&](InstructionSet isa) { return takes_schedule(isa, k.schedule); });
        if (used) continue;
        const bool for_devices = !takes_schedule(InstructionSet::x86_64, k.schedule);
        unused.push_back(file + ":" + std::to_string(k.schedule_line) + ":" + std::to_string(k.schedule_column) +
                         ": kernel.schedule: " + in_quotes(k.schedule) + " is for " +
                         (for_devices ? "devices (threads=), and no target is one"
                                      : "CPUs (no threads=), and all targets are devices") +
                         "; the defaults or records are used");
    }
    return unused;
}

}  // namespace fusebn
