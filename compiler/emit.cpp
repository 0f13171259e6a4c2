#include "compiler/emit.h"

#include <llvm/ADT/SmallVector.h>
#include <llvm/ADT/StringSet.h>
#include <llvm/Analysis/ValueTracking.h>
#include <llvm/AsmParser/Parser.h>
#include <llvm/Bitcode/BitcodeReader.h>
#include <llvm/Config/llvm-config.h>
#include <llvm/IR/Constants.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/IntrinsicInst.h>
#include <llvm/IR/IntrinsicsX86.h>
#include <llvm/IR/LLVMContext.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/IR/Module.h>
#include <llvm/IR/Verifier.h>
#include <llvm/Linker/Linker.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Object/ArchiveWriter.h>
#include <llvm/Object/ObjectFile.h>
#include <llvm/Passes/PassBuilder.h>
#include <llvm/Support/MD5.h>
#include <llvm/Support/SourceMgr.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Target/TargetMachine.h>
#include <llvm/Transforms/IPO/GlobalDCE.h>
#include <llvm/Transforms/IPO/Internalize.h>
#include <llvm/Transforms/Utils/Cloning.h>

#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>

namespace fusebn {

namespace {

const char prelude_text[] =
#include "prelude.ll.inc"
    ;

// All that a generated object may ask of the program it is linked into; all of it is libc.
constexpr std::string_view allowed_symbols[] = {"aligned_alloc", "free", "memcpy", "memset", "memmove"};

struct IsaTraits {
    const char* cpu;
    const char* features;
    const char* vector_width;
};

IsaTraits traits(InstructionSet isa) {
    switch (isa) {
        case InstructionSet::x86_64: return {"x86-64", "+sse4.1", "128"};
        case InstructionSet::x86_64_avx2: return {"x86-64", "+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2", "256"};
        case InstructionSet::x86_64_avx512:
            return {"x86-64",
                    "+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+avx512f,+avx512cd,+avx512vl,+avx512dq,+avx512bw",
                    "512"};
    }
    return {};
}

[[noreturn]] void fail(const std::string& what, llvm::Error error) {
    throw std::runtime_error(what + ": " + llvm::toString(std::move(error)));
}

std::unique_ptr<llvm::TargetMachine> target_machine(InstructionSet isa) {
    static std::once_flag once;
    std::call_once(once, [] {
        LLVMInitializeX86TargetInfo();
        LLVMInitializeX86Target();
        LLVMInitializeX86TargetMC();
        LLVMInitializeX86AsmPrinter();
    });
    const llvm::Triple triple("x86_64-unknown-linux-gnu");
    std::string error;
    const llvm::Target* target = llvm::TargetRegistry::lookupTarget(triple, error);
    if (!target) throw std::runtime_error("LLVM has no x86-64 target: " + error);
    llvm::TargetOptions options;
    options.AllowFPOpFusion = llvm::FPOpFusion::Strict;  // a contraction would change bits between instruction sets
    options.FunctionSections = true;
    const IsaTraits t = traits(isa);
    return std::unique_ptr<llvm::TargetMachine>(target->createTargetMachine(
        triple, t.cpu, t.features, options, llvm::Reloc::PIC_, std::nullopt, llvm::CodeGenOptLevel::Aggressive));
}

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

// Halide tags each access with the name of its buffer: the access type, or one of its parents, is called `name`.
bool touches(const llvm::Instruction& access, llvm::StringRef name) {
    const llvm::MDNode* tag = access.getMetadata(llvm::LLVMContext::MD_tbaa);
    const llvm::MDNode* type = tag ? llvm::dyn_cast<llvm::MDNode>(tag->getOperand(1)) : nullptr;
    while (type && type->getNumOperands() > 0) {
        const auto* text = llvm::dyn_cast<llvm::MDString>(type->getOperand(0));
        if (text && text->getString() == name) return true;
        type = type->getNumOperands() > 1 ? llvm::dyn_cast<llvm::MDNode>(type->getOperand(1)) : nullptr;
    }
    return false;
}

// Halide 21 takes its stack buffers to lie on whole vectors, and its masked accesses say so; its own optimiser has by
// then made a buffer of a single element into a variable that need not. Gives each the alignment that its accesses
// count on.
void align_stack(llvm::Module& module) {
    for (llvm::Function& function : module) {
        for (llvm::BasicBlock& block : function) {
            for (llvm::Instruction& i : block) {
                llvm::Value* address = nullptr;
                llvm::MaybeAlign alignment;
                if (auto* masked = llvm::dyn_cast<llvm::IntrinsicInst>(&i)) {
                    const bool load = masked->getIntrinsicID() == llvm::Intrinsic::masked_load;
                    if (!load && masked->getIntrinsicID() != llvm::Intrinsic::masked_store) continue;
                    const unsigned argument = load ? 0 : 1;
                    address = masked->getArgOperand(argument);
                    alignment = masked->getParamAlign(argument);
                } else if ((address = llvm::getLoadStorePointerOperand(&i))) {
                    alignment = llvm::getLoadStoreAlignment(&i);
                }
                if (!address || !alignment) continue;
                auto* buffer =
                    llvm::dyn_cast<llvm::AllocaInst>(const_cast<llvm::Value*>(llvm::getUnderlyingObject(address)));
                if (buffer && buffer->getAlign() < *alignment) buffer->setAlignment(*alignment);
            }
        }
    }
}

// A masked access to a whole vector of the stack becomes a plain one and a select. A processor cannot forward a masked
// store to the load that follows, and the optimiser keeps only plain accesses in registers: an accumulator that takes a
// ragged vector would go through memory at every turn.
void unmask_stack(llvm::Module& module) {
    const auto& layout = module.getDataLayout();
    const auto whole = [&](llvm::Value* address, llvm::Type* vector) {
        llvm::APInt offset(64, 0);
        auto* buffer =
            llvm::dyn_cast<llvm::AllocaInst>(address->stripAndAccumulateConstantOffsets(layout, offset, true));
        if (!buffer || offset.isNegative()) return false;
        const auto size = buffer->getAllocationSize(layout);
        return size && !size->isScalable() &&
               offset.getZExtValue() + layout.getTypeStoreSize(vector).getFixedValue() <= size->getFixedValue();
    };
    for (llvm::Function& function : module) {
        for (llvm::BasicBlock& block : function) {
            for (llvm::Instruction& i : llvm::make_early_inc_range(block)) {
                auto* masked = llvm::dyn_cast<llvm::IntrinsicInst>(&i);
                if (!masked) continue;
                llvm::IRBuilder<> builder(masked);
                if (masked->getIntrinsicID() == llvm::Intrinsic::masked_load &&
                    whole(masked->getArgOperand(0), masked->getType())) {
                    auto* load = builder.CreateAlignedLoad(masked->getType(), masked->getArgOperand(0),
                                                           masked->getParamAlign(0));
                    masked->replaceAllUsesWith(
                        builder.CreateSelect(masked->getArgOperand(1), load, masked->getArgOperand(2)));
                    masked->eraseFromParent();
                } else if (masked->getIntrinsicID() == llvm::Intrinsic::masked_store &&
                           whole(masked->getArgOperand(1), masked->getArgOperand(0)->getType())) {
                    llvm::Value* value = masked->getArgOperand(0);
                    auto* before =
                        builder.CreateAlignedLoad(value->getType(), masked->getArgOperand(1), masked->getParamAlign(1));
                    builder.CreateAlignedStore(builder.CreateSelect(masked->getArgOperand(2), value, before),
                                               masked->getArgOperand(1), masked->getParamAlign(1));
                    masked->eraseFromParent();
                }
            }
        }
    }
}

// Makes every vector store to `buffer` non-temporal. Such stores are weakly ordered, so each function that has one
// fences before it returns: whoever then learns that the task is done sees its stores. Returns how many there are.
int stream_stores(llvm::Module& module, llvm::StringRef buffer) {
    auto& context = module.getContext();
    auto* yes = llvm::MDNode::get(
        context, llvm::ConstantAsMetadata::get(llvm::ConstantInt::get(llvm::Type::getInt32Ty(context), 1)));
    int count = 0;
    for (llvm::Function& function : module) {
        bool streams = false;
        for (llvm::BasicBlock& block : function) {
            for (llvm::Instruction& i : block) {
                auto* store = llvm::dyn_cast<llvm::StoreInst>(&i);
                if (!store || !store->getValueOperand()->getType()->isVectorTy() || !touches(*store, buffer)) continue;
                const auto bytes = module.getDataLayout().getTypeStoreSize(store->getValueOperand()->getType());
                store->setMetadata(llvm::LLVMContext::MD_nontemporal, yes);
                // Rows of y are whole lines (the runtime has seen to it), and vectors are powers of two.
                store->setAlignment(llvm::Align(std::min<uint64_t>(64, bytes)));
                streams = true;
                ++count;
            }
        }
        if (!streams) continue;
        for (llvm::BasicBlock& block : function) {
            if (!llvm::isa<llvm::ReturnInst>(block.getTerminator())) continue;
            llvm::IRBuilder<> builder(block.getTerminator());
            builder.CreateIntrinsic(llvm::Intrinsic::x86_sse_sfence, {});
        }
    }
    return count;
}

// Wherever a vector of x is loaded to make y, or to make a chunk's first sum, fetches the line that many bytes further
// on into the L2 cache, once a line. A distance that leads nowhere (past the last channel, or over a gap between
// channels) costs a fetch and changes nothing: a prefetch never faults.
void fetch_ahead(llvm::Module& module, const Lowered& kernel) {
    constexpr int line = 64;
    const auto stores_y = [&](const llvm::Instruction& i) {
        return llvm::isa<llvm::StoreInst>(i) && touches(i, kernel.y_name);
    };
    // The chunk's second reading, from the cache, takes differences to the pivot.
    const auto takes_difference = [](const llvm::User* user) {
        const auto* operation = llvm::dyn_cast<llvm::Instruction>(user);
        return operation && operation->getOpcode() == llvm::Instruction::FSub;
    };
    for (llvm::Function& function : module) {
        for (llvm::BasicBlock& block : function) {
            const bool apply = llvm::any_of(block, stores_y);
            const std::int64_t distance = apply ? kernel.fetch_in_apply : kernel.fetch_in_sum;
            if (distance == 0) continue;
            const auto is_wanted = [&](const llvm::LoadInst& load) {
                return load.getType()->isVectorTy() && touches(load, kernel.x_name) &&
                       (apply || llvm::none_of(load.users(), takes_difference));
            };
            std::set<std::pair<const llvm::Value*, std::int64_t>> fetched;
            for (llvm::Instruction& i : llvm::make_early_inc_range(block)) {
                auto* load = llvm::dyn_cast<llvm::LoadInst>(&i);
                if (!load || !is_wanted(*load)) continue;
                const auto& layout = module.getDataLayout();
                llvm::APInt offset(64, 0);
                const llvm::Value* base =
                    load->getPointerOperand()->stripAndAccumulateConstantOffsets(layout, offset, true);
                const auto bytes = static_cast<std::int64_t>(layout.getTypeStoreSize(load->getType()));
                llvm::IRBuilder<> builder(load);
                for (std::int64_t b = 0; b < bytes; b += line) {
                    const std::int64_t at = offset.getSExtValue() + b;
                    if (!fetched.insert({base, at >= 0 ? at / line : (at + 1) / line - 1}).second) continue;
                    auto* address = builder.CreateGEP(builder.getInt8Ty(), load->getPointerOperand(),
                                                      builder.getInt64(distance + b));
                    constexpr int read = 0, into_l2 = 2, data = 1;
                    builder.CreateIntrinsic(
                        llvm::Intrinsic::prefetch, {address->getType()},
                        {address, builder.getInt32(read), builder.getInt32(into_l2), builder.getInt32(data)});
                }
            }
        }
    }
}

void optimize(llvm::Module& module, llvm::TargetMachine& machine) {
    llvm::LoopAnalysisManager loops;
    llvm::FunctionAnalysisManager functions;
    llvm::CGSCCAnalysisManager sccs;
    llvm::ModuleAnalysisManager modules;
    llvm::PipelineTuningOptions tuning;
    tuning.LoopVectorization = false;  // the schedule has vectorised what it wanted vectors for
    tuning.LoopUnrolling = false;
    llvm::PassBuilder builder(&machine, tuning);
    builder.registerModuleAnalyses(modules);
    builder.registerCGSCCAnalyses(sccs);
    builder.registerFunctionAnalyses(functions);
    builder.registerLoopAnalyses(loops);
    builder.crossRegisterProxies(loops, functions, sccs, modules);
    builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O2).run(module, modules);
}

std::string generate(llvm::Module& module, llvm::TargetMachine& machine, llvm::CodeGenFileType type) {
    llvm::SmallVector<char, 0> bytes;
    llvm::raw_svector_ostream out(bytes);
    llvm::legacy::PassManager passes;
    if (machine.addPassesToEmitFile(passes, out, nullptr, type)) {
        throw std::runtime_error("LLVM cannot emit this kind of file");
    }
    passes.run(module);
    return std::string(bytes.begin(), bytes.end());
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
            throw std::runtime_error(symbol + ": the object needs the symbol '" + name->str() +
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
    fetch_ahead(*module, kernel);
    if (kernel.stream) {
        // Two forms of the kernel in one object: the second is for a y that does not lie on whole lines.
        finish(*module, isa, {kernel.entry});
        auto unaligned = llvm::CloneModule(*module);
        rename_entry(*module, kernel.entry, symbol);
        rename_entry(*unaligned, kernel.entry, symbol + "_unaligned");
        entries.push_back(symbol + "_unaligned");
        if (stream_stores(*module, kernel.y_name) == 0) {
            throw std::runtime_error(symbol + ": store=stream, but no vector store to " + kernel.y_name + " was found");
        }
        link(*module, std::move(unaligned));
        object.streams = true;
    } else {
        rename_entry(*module, kernel.entry, symbol);
    }
    finish(*module, isa, entries);
    optimize(*module, *machine);
    if (llvm::verifyModule(*module)) throw std::runtime_error(symbol + ": LLVM finds the module malformed");

    if (what == Emit::assembly) {
        object.assembly = generate(*module, *machine, llvm::CodeGenFileType::AssemblyFile);
    } else {
        object.bytes = generate(*module, *machine, llvm::CodeGenFileType::ObjectFile);
        check_undefined(object.bytes, symbol);
    }
    return object;
}

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
        auto* f = llvm::Function::Create(entry_type, llvm::GlobalValue::ExternalLinkage, symbol, module);
        f->setVisibility(llvm::GlobalValue::HiddenVisibility);
        return f;
    };
    // Field for field as in kernel_abi.h.
    auto* variant_type = llvm::StructType::get(context, {i32, i32, pointer, pointer, pointer});
    auto* kernel_type =
        llvm::StructType::get(context, {pointer, i32, i32, i32, i32, llvm::ArrayType::get(i32, 3), i32, i32, pointer});
    std::vector<llvm::Constant*> kernels;
    for (const TableRow& row : rows) {
        std::vector<llvm::Constant*> variants;
        for (const TableVariant& v : row.variants) {
            variants.push_back(llvm::ConstantStruct::get(
                variant_type,
                {number(static_cast<int>(v.isa)), number(v.streams ? 64 : element_bytes(row.kernel.dtype)),
                 text(v.schedule), entry(v.symbol),
                 v.streams ? entry(v.symbol + "_unaligned") : llvm::ConstantPointerNull::get(pointer)}));
        }
        const KernelSpec& k = row.kernel;
        const std::int64_t inner = k.view == View::planar ? k.inner : 1;
        kernels.push_back(llvm::ConstantStruct::get(
            kernel_type,
            {text(kernel_name(k)), number(static_cast<int>(k.op)), number(static_cast<int>(k.view)),
             number(static_cast<int>(k.dtype)), number(static_cast<int>(k.activation)),
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

std::string digest(const std::string& text) {
    llvm::MD5 md5;
    md5.update(text);
    llvm::MD5::MD5Result result;
    md5.final(result);
    return std::string(result.digest().str());
}

std::string llvm_version() { return LLVM_VERSION_STRING; }

}  // namespace fusebn
