#include "compiler/emit.h"

#include <llvm/Config/llvm-config.h>
#include <llvm/IR/LLVMContext.h>
#include <llvm/IR/Module.h>
#include <llvm/IR/Verifier.h>
#include <llvm/Object/ObjectFile.h>
#include <llvm/Support/MD5.h>
#include <llvm/Transforms/Utils/Cloning.h>

#include <memory>
#include <stdexcept>

#include "compiler/emit_parts.h"
#include "compiler/passes.h"
#include "compiler/target.h"

namespace fusebn {

namespace {

const char prelude_text[] =
#include "prelude.ll.inc"
    ;

unsigned register_bytes(InstructionSet isa) {
    switch (isa) {
        case InstructionSet::x86_64: return 16;
        case InstructionSet::x86_64_avx2: return 32;
        case InstructionSet::x86_64_avx512: return 64;
        default: return 16;
    }
}

}  // namespace

Object emit_kernel(const Lowered& kernel, InstructionSet isa, const std::string& symbol, Emit what) {
    llvm::LLVMContext context;
    std::unique_ptr<llvm::Module> module = parse(context, kernel.bitcode, symbol);
    auto machine = target_machine(isa);
    module->setDataLayout(machine->createDataLayout());
    module->setTargetTriple(machine->getTargetTriple());
    link(*module, prelude(context, prelude_text, *module));
    align_stack(*module);
    unmask_stack(*module);

    Object object;
    std::vector<std::string> entries = {symbol};
    for (const std::string& mask : kernel.masks) pack_bits(*module, mask);
    pair_halves(*module, register_bytes(isa));
    read_once(*module);
    fetch_into_l1(*module);
    fetch_ahead(*module, kernel);
    if (kernel.stream_alignment > 0) {
        // Two forms of the kernel in one object: the second is for a y that does not lie as the first needs it.
        finish(*module, isa, {kernel.entry});
        auto unaligned = llvm::CloneModule(*module);
        rename_entry(*module, kernel.entry, symbol);
        rename_entry(*unaligned, kernel.entry, symbol + "_unaligned");
        entries.push_back(symbol + "_unaligned");
        if (stream_stores(*module, kernel.outputs, kernel.stream_alignment) == 0) {
            throw std::runtime_error(symbol + ": store=stream, but no vector store to an output was found");
        }
        link(*module, std::move(unaligned));
        object.streams = true;
    } else {
        rename_entry(*module, kernel.entry, symbol);
    }
    finish(*module, isa, entries);
    optimize(*module, *machine);
    scalarize_single_lanes(*module);
    select_shuffles(*module, register_bytes(isa));
    load_early(*module, kernel);
    if (llvm::verifyModule(*module)) throw std::runtime_error(symbol + ": LLVM finds the module malformed");

    if (what == Emit::assembly) {
        object.assembly = generate(*module, *machine, llvm::CodeGenFileType::AssemblyFile);
    } else {
        object.bytes = generate(*module, *machine, llvm::CodeGenFileType::ObjectFile);
        check_undefined(object.bytes, symbol);
    }
    return object;
}

bool defines(const std::string& object, const std::string& symbol) {
    auto file = llvm::object::ObjectFile::createObjectFile(llvm::MemoryBufferRef(object, symbol));
    if (!file) {
        llvm::consumeError(file.takeError());
        return false;
    }
    for (const llvm::object::SymbolRef& s : (*file)->symbols()) {
        auto flags = s.getFlags();
        auto name = s.getName();
        const bool found = flags && name && *name == symbol && !(*flags & llvm::object::SymbolRef::SF_Undefined);
        if (!flags) llvm::consumeError(flags.takeError());
        if (!name) llvm::consumeError(name.takeError());
        if (found) return true;
    }
    return false;
}

std::string digest(const std::string& text) {
    llvm::MD5 md5;
    md5.update(text);
    llvm::MD5::MD5Result result;
    md5.final(result);
    return std::string(result.digest().str());
}

std::string llvm_version() { return LLVM_VERSION_STRING; }

}  // namespace fusebn
