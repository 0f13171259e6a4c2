#include "compiler/spec_schedule.h"

#include <set>
#include <sstream>

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

}  // namespace fusebn
