#include "compiler/emit.h"

#include <llvm/AsmParser/Parser.h>
#include <llvm/Bitcode/BitcodeReader.h>
#include <llvm/Config/llvm-config.h>
#include <llvm/IR/LLVMContext.h>
#include <llvm/IR/Module.h>
#include <llvm/IR/Verifier.h>
#include <llvm/Linker/Linker.h>
#include <llvm/Object/ObjectFile.h>
#include <llvm/Support/MD5.h>
#include <llvm/Support/SourceMgr.h>
#include <llvm/Transforms/IPO/Internalize.h>
#include <llvm/Transforms/Utils/Cloning.h>

#include <memory>
#include <stdexcept>

#include "compiler/passes.h"
#include "compiler/target.h"

namespace fusebn {

namespace {

const char prelude_text[] =
#include "prelude.ll.inc"
    ;

// All that a generated object may ask of the program it is linked into; all of it is libc.
constexpr std::string_view allowed_symbols[] = {"aligned_alloc", "free", "memcpy", "memset", "memmove"};

void link(llvm::Module& into, std::unique_ptr<llvm::Module> module) {
    if (llvm::Linker::linkModules(into, std::move(module))) throw std::runtime_error("LLVM cannot link the modules");
}

std::unique_ptr<llvm::Module> prelude(llvm::LLVMContext& context, const llvm::Module& like) {
    llvm::SMDiagnostic error;
    auto module = llvm::parseAssemblyString(prelude_text, error, context);
    if (!module) throw std::runtime_error("prelude.ll: " + error.getMessage().str());
    module->setTargetTriple(like.getTargetTriple());
    module->setDataLayout(like.getDataLayout());
    return module;
}

void check_undefined(const std::string& object, const std::string& symbol) {
    auto file = llvm::object::ObjectFile::createObjectFile(llvm::MemoryBufferRef(object, symbol));
    if (!file) fail(symbol, file.takeError());
    for (const llvm::object::SymbolRef& s : (*file)->symbols()) {
        auto flags = s.getFlags();
        auto name = s.getName();
        if (!flags) fail(symbol, flags.takeError());
        if (!name) fail(symbol, name.takeError());
        if (!(*flags & llvm::object::SymbolRef::SF_Undefined) || name->empty()) continue;
        bool allowed = false;
        for (std::string_view a : allowed_symbols) allowed |= *name == llvm::StringRef(a.data(), a.size());
        if (!allowed) {
            throw std::runtime_error("the object of " + symbol + " needs the symbol '" + name->str() +
                                     "', which no program is required to have");
        }
    }
}

void rename_entry(llvm::Module& module, const std::string& from, const std::string& to) {
    llvm::Function* entry = module.getFunction(from);
    if (!entry) throw std::runtime_error("Halide emitted no function " + from);
    entry->setName(to);
    entry->setVisibility(llvm::GlobalValue::HiddenVisibility);
}

void finish(llvm::Module& module, InstructionSet isa, const std::vector<std::string>& entries) {
    const IsaTraits t = traits(isa);
    for (llvm::Function& f : module) {
        if (f.isDeclaration()) continue;
        f.addFnAttr("target-cpu", t.cpu);
        f.addFnAttr("target-features", t.features);
        f.addFnAttr("prefer-vector-width", t.vector_width);
        f.addFnAttr("min-legal-vector-width", t.vector_width);
        f.addFnAttr(llvm::Attribute::NoUnwind);
    }
    llvm::internalizeModule(module, [&](const llvm::GlobalValue& v) {
        for (const std::string& e : entries) {
            if (v.getName() == e) return true;
        }
        return false;
    });
}

unsigned register_bytes(InstructionSet isa) {
    switch (isa) {
        case InstructionSet::x86_64: return 16;
        case InstructionSet::x86_64_avx2: return 32;
        case InstructionSet::x86_64_avx512: return 64;
    }
    return 16;
}

}  // namespace

Object emit_kernel(const Lowered& kernel, InstructionSet isa, const std::string& symbol, Emit what) {
    llvm::LLVMContext context;
    auto buffer = llvm::MemoryBuffer::getMemBuffer(kernel.bitcode, symbol, false);
    auto parsed = llvm::parseBitcodeFile(buffer->getMemBufferRef(), context);
    if (!parsed) fail(symbol, parsed.takeError());
    std::unique_ptr<llvm::Module> module = std::move(*parsed);
    module->setModuleIdentifier(symbol);
    module->setSourceFileName(symbol);
    auto machine = target_machine(isa);
    module->setDataLayout(machine->createDataLayout());
    module->setTargetTriple(machine->getTargetTriple());
    link(*module, prelude(context, *module));
    align_stack(*module);
    unmask_stack(*module);

    Object object;
    std::vector<std::string> entries = {symbol};
    for (const std::string& mask : kernel.masks) pack_bits(*module, mask);
    pair_halves(*module, register_bytes(isa));
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
