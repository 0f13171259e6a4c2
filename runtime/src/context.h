// What kernels are given to run on.
#pragma once

#include <cstdint>

#include "fusebn/kernel_abi.h"

namespace fusebn::detail {

// The values of a loop that the function given to set_parallel_for left by an exception, or did not run as it was to.
inline constexpr int loop_threw = -1000;
inline constexpr int loop_incomplete = -1001;

// What was wrong with this thread's last loop that was incomplete.
struct IncompleteLoop {
    std::int32_t run, count;  // tasks: that were run, and that there are
    std::int32_t outside;     // an index that there is not, which was asked for; 0: none was
};
IncompleteLoop last_incomplete_loop() noexcept;

// The context for a kernel that starts now. Its loops allocate nothing once the pool has started.
const fusebn_context* kernel_context() noexcept;

// FUSEBN_NUM_THREADS: its value, or 0 where it is not a number from 1 to max_threads.
int parse_thread_count(const char* text) noexcept;

}  // namespace fusebn::detail
