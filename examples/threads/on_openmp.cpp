// fusebn's kernels on the threads of OpenMP: none of its own.
#include <omp.h>

#include <atomic>
#include <cstdio>

#include "program.h"

int main() {
    std::atomic<long> tasks{0};
    const int status = compare("OpenMP", [&](std::int32_t count, auto body, void* arg) {
        tasks += count;
#pragma omp parallel for schedule(dynamic)
        for (std::int32_t i = 0; i < count; ++i) body(arg, i);
    });
    std::printf("%ld tasks on %d threads of OpenMP\n", tasks.load(), omp_get_max_threads());
    return status != 0 || tasks == 0;
}
