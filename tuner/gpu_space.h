// The schedules that a GPU's kernel may have, and a model of which are worth trying first.
#pragma once

#include <vector>

#include "schedules/schedule.h"

namespace fusebn {

// As schedule_space() of a CPU: one launch with a channel's slabs in shared memory, where they fit, and several by
// rows; threads, vectors, accesses at once, channels and rows of a block. With `base`, the first. The kernel's extents
// are known.
std::vector<Schedule> gpu_schedule_space(const KernelSpec& spec, const Schedule& base, const GpuModel& gpu);

// How long a call should take, in bytes of memory traffic that would take as long: what moves, what the threads that
// fit a multiprocessor have on its way at once, how the blocks balance, and what blocks and launches cost to begin. It
// ranks schedules; it does not foretell times.
double predicted_gpu_cost(const KernelSpec& spec, const Schedule& schedule, const GpuModel& gpu);

}  // namespace fusebn
