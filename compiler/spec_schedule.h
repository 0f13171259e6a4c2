// What a spec's kernels need of its targets, and the schedules that it gives them.
#pragma once

#include <string>
#include <vector>

#include "compiler/spec.h"
#include "schedules/schedule.h"

namespace fusebn {

// Throws SpecError with the place in `file` of the first schedule that cannot be read, has a key twice, or is not legal
// for its kernel and one of the spec's targets under the defaults for `caches`, whose keys it leaves as they are.
void check_schedules(const LibrarySpec& spec, const std::string& file, const CacheModel& caches);

// Throws SpecError with the place in `file` of the first kernel whose element type one of the spec's targets has not.
void check_types(const LibrarySpec& spec, const std::string& file);

// Of each schedule that none of the spec's targets takes (one with threads= is for devices, one without for CPUs),
// where it stands and what happens instead. A spec may be built for other targets than its own, so that is no mistake.
std::vector<std::string> unused_schedules(const LibrarySpec& spec, const std::string& file);

}  // namespace fusebn
