// Who runs the parallel loops of the kernels. With the built-in pool no setting here changes a result by a bit: its
// threads take the calling thread's floating-point mode (rounding, flushing of subnormals). With set_parallel_for that
// holds where the threads of the caller's own pool are in that mode too.
//
// Each shared library that holds the runtime has a pool and settings of its own; so has the executable.
#pragma once

#include <cstdint>
#include <functional>

#include "fusebn/types.h"

namespace fusebn {

// Calls body(arg, i) for every i in [0, count), on any threads, and returns when all are done. A very long loop of a
// kernel comes in several calls.
using ParallelFor = std::function<void(std::int32_t count, void (*body)(void* arg, std::int32_t index), void* arg)>;

// Runs the kernels' parallel loops on the caller's own pool; fusebn then has no thread of its own (those it had are
// joined). An empty function gives back the built-in pool. Not to be called while a kernel runs. The function must not
// throw, leave out an index or call the body with one outside [0, count), which then does nothing: the layer's call
// fails with invalid_argument. What is in y (or dx) is then undefined; the layer's running statistics, their count and
// its gradients are as they were. Its threads must be in the calling thread's floating-point mode, or results depend on
// which thread ran what.
//   fusebn::set_parallel_for([](std::int32_t count, auto body, void* arg) {
//       #pragma omp parallel for
//       for (std::int32_t i = 0; i < count; ++i) body(arg, i);
//   });
void set_parallel_for(ParallelFor parallel_for);

// Threads of the built-in pool, the calling one included. The pool starts at the first kernel that runs in parallel.
// Default: FUSEBN_NUM_THREADS, or the CPUs that the affinity mask allows. A cgroup's CPU quota is not looked at: in a
// container that has one, set the number. invalid_argument: count < 1 or > 1024, or from within a parallel loop or
// the function given to set_parallel_for; unchanged. Not to be called while a kernel runs.
Status set_num_threads(int count);
int num_threads();

// The best instruction set that this CPU and operating system support, or the one that FUSEBN_CPU names
// (x86-64, x86-64-avx2 or avx2, x86-64-avx512 or avx512), where that is supported.
InstructionSet instruction_set();

// Uses no instruction set above this one from now on (for tests). unsupported_cpu: not available here; unchanged.
Status set_instruction_set(InstructionSet isa);
bool supports(InstructionSet isa);

// This CPU as a library's variants name it, "AuthenticAMD family 25 model 17", or what FUSEBN_PROCESSOR says instead
// (such a name, or how it begins: "GenuineIntel"). Of a kernel's variants for one instruction set a layer takes the one
// that names most of it; they differ in schedule alone, so in speed and not in a bit. "" where there is no CPUID.
const char* processor();

}  // namespace fusebn
