// The schedules that a CPU kernel may have, and a model of which are worth trying first.
#pragma once

#include <vector>

#include "schedules/schedule.h"

namespace fusebn {

// Every combination of the values that the tuner tries, of those that are legal; with `base`, whose values are among
// them. The kernel's extents are known.
std::vector<Schedule> schedule_space(const KernelSpec& spec, const Schedule& base);

// How long a call should take, in bytes of memory traffic that would take as long: a model of what is read from where,
// how well the tasks balance and what they cost. It ranks schedules; it does not foretell times.
double predicted_cost(const KernelSpec& spec, const Schedule& schedule, const CacheModel& caches, int threads);

// How many of the keys differ.
int distance(const Schedule& a, const Schedule& b);

}  // namespace fusebn
