// What the functions of CUDA's variants take, as text for people.
#pragma once

#include <ostream>
#include <string>

#include "compiler/manifest.h"

namespace fusebn {

// " 48 registers   1024 + 70144 bytes shared     0 spilled   512 threads  _kernel_dx_s0_c_block_id_x (unaligned)":
// registers and spilled bytes of a thread, shared memory of a block, static and as its launch asks for.
std::string to_text(const DeviceFunction& function);

// A line for each variant with its worst function: the one that spills the most; where none does, the one of the first
// entry with the most registers. With `all` a line for every function. Nothing where nothing was assembled.
void report_functions(std::ostream& out, const Manifest& manifest, bool all);

// Throws std::runtime_error with the functions that spill, at most ten of them, and what to do about it.
void refuse_spills(const Manifest& manifest);

}  // namespace fusebn
