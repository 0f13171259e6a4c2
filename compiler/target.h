// LLVM's view of an instruction set. For files that include LLVM.
#pragma once

#include <llvm/IR/Module.h>
#include <llvm/Support/CodeGen.h>
#include <llvm/Support/Error.h>
#include <llvm/Target/TargetMachine.h>

#include <memory>
#include <string>

#include "fusebn/types.h"

namespace fusebn {

struct IsaTraits {
    const char* cpu;
    const char* features;  // no more than the runtime asks the CPU for
    const char* vector_width;
};
IsaTraits traits(InstructionSet isa);

std::unique_ptr<llvm::TargetMachine> target_machine(InstructionSet isa);

// The module's code as an object file or as assembly.
std::string generate(llvm::Module& module, llvm::TargetMachine& machine, llvm::CodeGenFileType type);

// Throws std::runtime_error: what, and LLVM's reason.
[[noreturn]] void fail(const std::string& what, llvm::Error error);

}  // namespace fusebn
