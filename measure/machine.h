// What a number was measured on.
#pragma once

#include <cstdint>
#include <string>

namespace fusebn::measure {

struct Machine {
    std::string cpu;                      // "AMD EPYC (family 25, model 17)"
    std::string isa;                      // what fusebn's kernels use
    std::int64_t l1 = 0, l2 = 0, l3 = 0;  // bytes: data cache and second level of a core, third level
    int threads = 0;                      // of fusebn and of every contender
};

Machine this_machine();

// "L1 32 KB, L2 1024 KB, L3 32 MB"
std::string caches_text(const Machine& machine);

// "AMD EPYC (family 25, model 17), x86-64-avx512, 2 threads, L1 32 KB, L2 1024 KB, L3 32 MB"
std::string to_string(const Machine& machine);

}  // namespace fusebn::measure
