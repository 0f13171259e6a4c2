// What the LLVM stage does to a kernel. Accesses are known by the names that Halide's TBAA tags carry.
#pragma once

#include <llvm/IR/Module.h>
#include <llvm/Target/TargetMachine.h>

#include "compiler/lower.h"

namespace fusebn {

// Repairs of what Halide 21 emits: see the definitions.
void align_stack(llvm::Module& module);
void unmask_stack(llvm::Module& module);

// Non-temporal stores to y, whose rows lie at multiples of `alignment` bytes, with their fences; returns how many.
int stream_stores(llvm::Module& module, llvm::StringRef y, int alignment);

// Prefetches of x, as far ahead as `kernel` says.
void fetch_ahead(llvm::Module& module, const Lowered& kernel);

// LLVM's own clean-up and optimisation; no unrolling or vectorising beyond the schedule's.
void optimize(llvm::Module& module, llvm::TargetMachine& machine);

}  // namespace fusebn
