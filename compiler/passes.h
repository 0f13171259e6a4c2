// What the LLVM stage does to a kernel. Accesses are known by the names that Halide's TBAA tags carry.
#pragma once

#include <llvm/IR/Module.h>
#include <llvm/Target/TargetMachine.h>

#include "compiler/lower.h"

namespace fusebn {

// Repairs of what Halide 21 emits: see the definitions.
void align_stack(llvm::Module& module);
void unmask_stack(llvm::Module& module);

// Whether an access is one of the buffer's: Halide tags each with the buffer's name.
bool touches(const llvm::Instruction& access, llvm::StringRef buffer);

// Turns a buffer of one byte an element (0 or 1) into one of bits: bit i % 8 of byte i / 8 is element i. All of its
// accesses must be vectors of 8, 16, 32 or 64 elements that begin at multiples of their length; throws where one is
// not.
void pack_bits(llvm::Module& module, const std::string& mask);

// Where bf16 elements are computed with lane by lane and nothing else depends on the lanes' order, widens and narrows
// them in pairs, for registers of that size: see the definition.
void pair_halves(llvm::Module& module, unsigned register_bytes);

// Non-temporal stores to the outputs, whose rows lie at multiples of `alignment` bytes, with their fences; returns how
// many.
int stream_stores(llvm::Module& module, const std::vector<std::string>& outputs, int alignment);

// Merges readings of the same element: before the prefetches, which follow the readings.
void read_once(llvm::Module& module);

// Halide's own prefetches, which are non-temporal, as those of what is read soon: into the L1 cache.
void fetch_into_l1(llvm::Module& module);

// Prefetches of the inputs, as far ahead as `kernel` says.
void fetch_ahead(llvm::Module& module, const Lowered& kernel);

// A repair of what LLVM 22 would emit, after its optimisation: see the definition.
void scalarize_single_lanes(llvm::Module& module);

// Loads before masks, where `kernel` says so.
void load_early(llvm::Module& module, const Lowered& kernel);

// Elements of 16 bits widened, rounded and narrowed, and maxima, for registers of that size, after LLVM's
// optimisation: see the definitions.
void select_shuffles(llvm::Module& module, unsigned register_bytes);

// LLVM's own clean-up and optimisation; no unrolling or vectorising beyond the schedule's.
void optimize(llvm::Module& module, llvm::TargetMachine& machine);

}  // namespace fusebn
