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
    auto machine = target_machine(isa);
    const auto form_of = [&](const Lowered& of) {
        std::unique_ptr<llvm::Module> form = parse(context, of.bitcode, symbol);
        form->setDataLayout(machine->createDataLayout());
        form->setTargetTriple(machine->getTargetTriple());
        link(*form, prelude(context, prelude_text, *form));
        align_stack(*form);
        unmask_stack(*form);
        for (const std::string& mask : of.masks) pack_bits(*form, mask);
        pair_halves(*form, register_bytes(isa));
        read_once(*form);
        fetch_into_l1(*form);
        fetch_ahead(*form, of);
        finish(*form, isa, {of.entry});
        return form;
    };
    const std::unique_ptr<llvm::Module> module = form_of(kernel);

    Object object;
    std::vector<std::string> entries = {symbol};
    Lowered forms = kernel;
    if (kernel.stream_alignment > 0 || kernel.apart) {
        // Two forms of the kernel in one object: the second is for tensors that do not lie as the first needs them.
        const Lowered& other = kernel.apart ? *kernel.apart : kernel;
        auto unaligned = kernel.apart ? form_of(other) : llvm::CloneModule(*module);
        forms.outputs.insert(forms.outputs.end(), other.outputs.begin(), other.outputs.end());
        rename_entry(*module, kernel.entry, symbol);
        rename_entry(*unaligned, other.entry, symbol + "_unaligned");
        entries.push_back(symbol + "_unaligned");
        if (kernel.stream_alignment > 0 && stream_stores(*module, kernel.outputs, kernel.stream_alignment) == 0) {
            throw std::runtime_error(symbol + ": store=stream, but no vector store to an output was found");
        }
        link(*module, std::move(unaligned));
    } else {
        rename_entry(*module, kernel.entry, symbol);
    }
    finish(*module, isa, entries);
    optimize(*module, *machine);
    scalarize_single_lanes(*module);
    select_shuffles(*module, register_bytes(isa));
    load_early(*module, forms);
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
