// fusebn's kernels on the threads of oneTBB: none of its own.
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <atomic>
#include <cstdio>

#include "program.h"

int main() {
    std::atomic<long> tasks{0};
    const int status = compare("oneTBB", [&](std::int32_t count, auto body, void* arg) {
        tasks += count;
        tbb::parallel_for(std::int32_t{0}, count, [=](std::int32_t i) { body(arg, i); });
    });
    std::printf("%ld tasks on %d threads of oneTBB\n", tasks.load(), tbb::this_task_arena::max_concurrency());
    return status != 0 || tasks == 0;
}
