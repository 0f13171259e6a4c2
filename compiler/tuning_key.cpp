#include "compiler/tuning_key.h"

#include "compiler/files.h"
#include "compiler/job_pool.h"
#include "compiler/variant.h"
#include "fusebn/parallel.h"
#include "measure/device.h"
#include "measure/machine.h"

namespace fusebn {

TuningKey this_tuning_key() {
    const measure::Machine m = measure::this_machine();
    return {m.cpu + ", " + measure::caches_text(m), num_threads(), generator_version(), processor()};
}

TargetHere target_here(InstructionSet target) {
    if (!is_device(target)) return {this_tuning_key(), ""};
    const TemporaryFile found;
    const Job look{"looking for a device", [&] {
                       const measure::DeviceHere here = measure::find_device(target);
                       write_file(found.path(), (here.missing.empty() ? "+" + here.name : "-" + here.missing));
                   }};
    const std::string failure = run_jobs({look}, 1, [](int, const Job&) {});
    const std::string text = failure.empty() ? read_file(found.path()) : "-" + failure;
    if (text[0] == '+') return {TuningKey{text.substr(1), 0, generator_version(), ""}, ""};
    return {std::nullopt, "no device here (" + text.substr(1) + ")"};
}

std::string machine_text(const TuningKey& key) {
    if (key.threads == 0) return key.machine;
    return key.machine + ", " + std::to_string(key.threads) + (key.threads == 1 ? " thread" : " threads");
}

}  // namespace fusebn
