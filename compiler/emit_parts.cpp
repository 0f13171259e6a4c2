#include "compiler/emit_parts.h"

#include <llvm/AsmParser/Parser.h>
#include <llvm/Bitcode/BitcodeReader.h>
#include <llvm/Linker/Linker.h>
#include <llvm/Object/ObjectFile.h>
#include <llvm/Support/MemoryBuffer.h>
#include <llvm/Support/SourceMgr.h>
#include <llvm/Transforms/IPO/Internalize.h>

#include <stdexcept>
#include <string_view>

#include "compiler/target.h"

namespace fusebn {

namespace {

// All that a generated object may ask of the program it is linked into; all of it is libc.
constexpr std::string_view allowed_symbols[] = {"memcpy", "memset", "memmove"};

}  // namespace

void link(llvm::Module& into, std::unique_ptr<llvm::Module> module) {
    if (llvm::Linker::linkModules(into, std::move(module))) throw std::runtime_error("LLVM cannot link the modules");
}

std::unique_ptr<llvm::Module> parse(llvm::LLVMContext& context, const std::string& bitcode, const std::string& name) {
    auto buffer = llvm::MemoryBuffer::getMemBuffer(bitcode, name, false);
    auto parsed = llvm::parseBitcodeFile(buffer->getMemBufferRef(), context);
    if (!parsed) fail(name, parsed.takeError());
    (*parsed)->setModuleIdentifier(name);
    (*parsed)->setSourceFileName(name);
    return std::move(*parsed);
}

std::unique_ptr<llvm::Module> prelude(llvm::LLVMContext& context, const std::string& text, const llvm::Module& like) {
    llvm::SMDiagnostic error;
    auto module = llvm::parseAssemblyString(text, error, context);
    if (!module) throw std::runtime_error("a prelude: " + error.getMessage().str());
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

}  // namespace fusebn
