// What a build made, as data: every kernel, its schedule, targets, versions and sizes. Written as <name>.json beside
// the library; `fusebn inspect` reads it back.
#pragma once

#include <string>
#include <vector>

#include "compiler/ptx.h"
#include "compiler/spec.h"
#include "schedules/schedule.h"

namespace fusebn {

struct ManifestVariant {
    InstructionSet isa = InstructionSet::x86_64;
    Schedule schedule;
    // "default", "spec" or "tuned"; "stale" of a record by other versions of fusebn, Halide or LLVM.
    std::string origin;
    std::string symbol;
    std::int64_t object_bytes = 0;
    std::vector<DeviceFunction> functions = {};  // of a CUDA variant that was assembled; else none
    std::string processor = {};                  // as in kernel_abi.h; "": any
};

struct ManifestKernel {
    KernelSpec kernel;
    bool large = false;                     // 64-bit offsets
    std::vector<ManifestVariant> variants;  // in the order of kernel_abi.h; of equal schedules with one symbol
};

struct Manifest {
    std::string name, generator;
    std::string digest;  // of everything that the library's bytes depend on
    std::string ptxas;   // the version that assembled the CUDA variants; "" where none was
    CacheModel caches;
    std::vector<ManifestKernel> kernels;
    std::int64_t library_bytes = 0;
    std::string library_digest;  // of the library's bytes; "" where they were not looked at
};

std::string to_json(const Manifest& manifest);

// Throws std::runtime_error: the key's path ("kernels[0].variants"), what was found and what was expected.
Manifest manifest_from_json(const std::string& text);

}  // namespace fusebn
