// What kernels are given to run on.
#pragma once

#include "fusebn/kernel_abi.h"

namespace fusebn::detail {

// The value of a loop that the function given to set_parallel_for left by an exception.
inline constexpr int loop_threw = -1000;

// The context for a kernel that starts now. Its loops allocate nothing once the pool has started.
const fusebn_context* kernel_context() noexcept;

// FUSEBN_NUM_THREADS: its value, or 0 where it is not a number from 1 to max_threads.
int parse_thread_count(const char* text) noexcept;

}  // namespace fusebn::detail
