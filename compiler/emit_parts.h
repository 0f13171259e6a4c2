// What the emission of a CPU's kernels and of a device's share. For files that include LLVM.
#pragma once

#include <llvm/IR/LLVMContext.h>
#include <llvm/IR/Module.h>

#include <memory>
#include <string>
#include <vector>

#include "compiler/ptx.h"
#include "fusebn/types.h"

namespace fusebn {

std::unique_ptr<llvm::Module> parse(llvm::LLVMContext& context, const std::string& bitcode, const std::string& name);

// LLVM assembly as a module of the same target as `like`.
std::unique_ptr<llvm::Module> prelude(llvm::LLVMContext& context, const std::string& text, const llvm::Module& like);

void link(llvm::Module& into, std::unique_ptr<llvm::Module> module);

void rename_entry(llvm::Module& module, const std::string& from, const std::string& to);

// The instruction set's attributes, and everything but the entries made local.
void finish(llvm::Module& module, InstructionSet isa, const std::vector<std::string>& entries);

// For device_functions of the object that this becomes; where there are none, nothing.
void keep_functions(llvm::Module& module, const std::vector<DeviceFunction>& functions);

// Throws std::runtime_error where an object needs a symbol that not every program has.
void check_undefined(const std::string& object, const std::string& symbol);

}  // namespace fusebn
