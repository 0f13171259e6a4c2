// The library's table, as an object, and the archive around it all.

#include <llvm/IR/Constants.h>
#include <llvm/IR/LLVMContext.h>
#include <llvm/IR/Module.h>
#include <llvm/Object/ArchiveWriter.h>

#include "compiler/emit.h"
#include "compiler/target.h"

namespace fusebn {

std::string emit_table(const std::string& library, const std::string& generator, const std::vector<TableRow>& rows) {
    llvm::LLVMContext context;
    llvm::Module module(library + "_table", context);
    auto machine = target_machine(InstructionSet::x86_64);
    module.setDataLayout(machine->createDataLayout());
    module.setTargetTriple(machine->getTargetTriple());

    auto* pointer = llvm::PointerType::get(context, 0);
    auto* i32 = llvm::Type::getInt32Ty(context);
    auto* entry_type = llvm::FunctionType::get(i32, {pointer}, false);
    const auto number = [&](std::int64_t v) { return llvm::ConstantInt::getSigned(i32, v); };
    const auto global = [&](llvm::Constant* value, const llvm::Twine& name) {
        auto* g =
            new llvm::GlobalVariable(module, value->getType(), true, llvm::GlobalValue::InternalLinkage, value, name);
        return g;
    };
    const auto text = [&](const std::string& s) -> llvm::Constant* {
        return global(llvm::ConstantDataArray::getString(context, s), "text");
    };
    const auto entry = [&](const std::string& symbol) -> llvm::Constant* {
        if (auto* known = module.getFunction(symbol)) return known;  // of variants with equal schedules
        auto* f = llvm::Function::Create(entry_type, llvm::GlobalValue::ExternalLinkage, symbol, module);
        f->setVisibility(llvm::GlobalValue::HiddenVisibility);
        return f;
    };
    // Field for field as in kernel_abi.h.
    auto* variant_type = llvm::StructType::get(context, {i32, i32, pointer, pointer, pointer, pointer, i32});
    auto* kernel_type = llvm::StructType::get(
        context, {pointer, i32, i32, i32, i32, i32, llvm::ArrayType::get(i32, 3), i32, i32, pointer});
    llvm::Constant* const none = llvm::ConstantPointerNull::get(pointer);
    std::vector<llvm::Constant*> kernels;
    for (const TableRow& row : rows) {
        std::vector<llvm::Constant*> variants;
        for (const TableVariant& v : row.variants) {
            variants.push_back(llvm::ConstantStruct::get(
                variant_type,
                {number(static_cast<int>(v.isa)),
                 number(v.alignment > 0 ? v.alignment : element_bytes(row.kernel.dtype)), text(v.schedule),
                 entry(v.symbol), v.alignment > 0 || v.dense ? entry(v.symbol + "_unaligned") : none,
                 v.processor.empty() ? none : text(v.processor), number(v.dense)}));
        }
        const KernelSpec& k = row.kernel;
        const std::int64_t inner = k.view == View::planar ? k.inner : 1;
        kernels.push_back(llvm::ConstantStruct::get(
            kernel_type,
            {text(kernel_name(k)), number(static_cast<int>(k.op)), number(static_cast<int>(k.view)),
             number(static_cast<int>(k.dtype)), number(static_cast<int>(k.activation)),
             number(static_cast<int>(k.residual)),
             llvm::ConstantArray::get(llvm::ArrayType::get(i32, 3),
                                      {number(k.outer), number(k.channels), number(inner)}),
             number(row.large), number(static_cast<int>(variants.size())),
             global(llvm::ConstantArray::get(llvm::ArrayType::get(variant_type, variants.size()), variants),
                    "variants")}));
    }
    auto* all = global(llvm::ConstantArray::get(llvm::ArrayType::get(kernel_type, kernels.size()), kernels), "kernels");
    auto* table = llvm::ConstantStruct::getAnon(
        {number(FUSEBN_ABI_VERSION), number(static_cast<int>(kernels.size())), text(library), text(generator), all});
    new llvm::GlobalVariable(module, table->getType(), true, llvm::GlobalValue::ExternalLinkage, table,
                             library + "_kernel_table");
    return generate(module, *machine, llvm::CodeGenFileType::ObjectFile);
}

void write_archive(const std::string& path, const std::vector<std::pair<std::string, std::string>>& members) {
    std::vector<llvm::NewArchiveMember> list;
    for (const auto& [name, bytes] : members) {
        list.emplace_back(llvm::MemoryBufferRef(bytes, name));
    }
    if (auto error = llvm::writeArchive(path, list, llvm::SymtabWritingMode::NormalSymtab, llvm::object::Archive::K_GNU,
                                        /*Deterministic=*/true, /*Thin=*/false)) {
        fail(path, std::move(error));
    }
}

}  // namespace fusebn
