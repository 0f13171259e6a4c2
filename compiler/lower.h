// KernelSpec + Schedule -> LLVM bitcode, through Halide.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "compiler/ptx.h"
#include "generators/kernel_spec.h"
#include "schedules/schedule.h"

namespace fusebn {

// What a device function is launched with; a number that is known at run time only is DeviceFunction::any.
struct Launch {
    std::string function;
    int threads;               // of a block
    int dynamic_shared_bytes;  // of a block
};

struct Lowered {
    std::string bitcode;  // of Halide's LLVM; defines `entry` (all other functions are internal or Halide's runtime's)
    std::string entry;    // takes void**
    // What the schedule asks of the LLVM stage. Accesses are known by the names in their TBAA tags.
    std::vector<std::string> inputs, outputs;  // tensors
    // Tensors of single bits: Halide takes them for one byte an element.
    std::vector<std::string> masks;
    // Stores to the outputs go past the caches, their rows lying at multiples of so many bytes; 0: they do not.
    int stream_alignment = 0;
    // The form for tensors whose channels have gaps between them, where this one takes none; else null.
    std::shared_ptr<const Lowered> apart = {};
    // Inputs are fetched into the L2 cache so many bytes ahead of where they are read to make a chunk's sums and to
    // make the outputs, and those of them that no sum reads.
    struct Fetch {
        std::int64_t bytes = 0;  // 0: not at all
        int asks = 1;            // how often each line is asked for
    };
    Fetch fetch_in_sum, fetch_in_apply, fetch_unsummed;
    std::vector<std::string> unsummed;
    // What is selected by a mask is loaded before the mask is known.
    bool early_in_apply = false, early_in_sum = false;
    std::vector<Launch> launches = {};
};

// Lowers a kernel for an instruction set. `large`: 64-bit offsets, for tensors of more than 2^31 - 1 elements.
// Throws ScheduleError, or std::runtime_error with Halide's reason.
Lowered lower(const KernelSpec& spec, const Schedule& schedule, InstructionSet isa, bool large);

// The same algorithm, looped by one of Halide's own autoschedulers: what fusebn's schedules are measured beside.
// `plugin` is the shared library that has it. Of known extents, for a CPU. Throws std::runtime_error with Halide's
// reason where it finds no schedule, or one that says other than the algorithm.
struct Autoscheduler {
    std::string name;  // "Mullapudi2016", "Li2018", "Adams2019"
    std::string plugin;
    int threads;
};
Lowered lower_autoscheduled(const KernelSpec& spec, const Autoscheduler& autoscheduler, InstructionSet isa, bool large);

// The loops of the kernel as Halide prints them after lowering.
std::string lowered_statement(const KernelSpec& spec, const Schedule& schedule, InstructionSet isa, bool large);

}  // namespace fusebn
