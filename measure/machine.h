// What a number was measured on.
#pragma once

#include <cstdint>
#include <string>

namespace fusebn::measure {

struct Machine {
    std::string cpu;  // "AMD EPYC (family 25, model 17)"
    std::string isa;  // what fusebn's kernels use
    // Bytes, as the machine states them: data cache and second level of a core, third level.
    std::int64_t l1 = 0, l2 = 0, l3 = 0;
    std::int64_t l3_usable = 0;  // what measure_caches() found of l3, 0 before
    int threads = 0;             // of fusebn and of every contender
};

Machine this_machine();

// Sets l3_usable (usable_cache.h), in a second or a few.
void measure_caches(Machine& machine);

// "L1 32 KB, L2 1024 KB, L3 32 MB"
std::string caches_text(const Machine& machine);

// "AMD EPYC (family 25, model 17), x86-64-avx512, 2 threads, L1 32 KB, L2 1024 KB, L3 32 MB", and ", of which 16 MB are
// usable" where that was measured and is less
std::string to_string(const Machine& machine);

}  // namespace fusebn::measure
