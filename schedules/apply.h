// A schedule applied to a kernel's Funcs.
#pragma once

#include "generators/batch_norm.h"
#include "schedules/schedule.h"

namespace fusebn {

void apply_planar_cpu(BatchNormFuncs& f, const Schedule& schedule);
void apply_interleaved_cpu(BatchNormFuncs& f, const Schedule& schedule);

// The one of the two that fits; checks that the schedule is legal first.
void apply_cpu(BatchNormFuncs& f, const Schedule& schedule);

// The same for a GPU.
void apply_planar_gpu(BatchNormFuncs& f, const Schedule& schedule);
void apply_interleaved_gpu(BatchNormFuncs& f, const Schedule& schedule);
void apply_gpu(BatchNormFuncs& f, const Schedule& schedule);

}  // namespace fusebn
