// What a library is to have: its kernels, and for each the variants with their schedules.
#pragma once

#include <vector>

#include "compiler/manifest.h"
#include "compiler/records.h"
#include "compiler/spec.h"

namespace fusebn {

// Whether a spec's schedule is for a target of that kind: one with threads= is a device's.
bool takes_schedule(InstructionSet isa, const std::string& schedule);

// The rows of a library: the spec's own, and for every (view, type, activation) in it one generic kernel of each
// operation, so that any shape runs.
// A variant for any processor has the schedule of the spec, else that of the cache model; one for a processor that of
// its records, else that of the cache model for it. A device's has that of the spec, the records or the model.
std::vector<ManifestKernel> plan(const LibrarySpec& spec, const CacheModel& caches, const RecordBook& records = {});

}  // namespace fusebn
