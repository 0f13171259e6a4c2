// A device's variant: Halide's bitcode launches kernels whose text it holds. The text is made exact and, with a CUDA
// toolkit, assembled; both become data of the object, and the launches calls of the context's functions.
#include <llvm/IR/Constants.h>
#include <llvm/IR/Instructions.h>
#include <llvm/IR/Verifier.h>

#include <regex>
#include <stdexcept>

#include "compiler/emit.h"
#include "compiler/emit_parts.h"
#include "compiler/passes.h"
#include "compiler/target.h"

namespace fusebn {

namespace {

const char prelude_text[] =
#include "device_prelude.ll.inc"
    ;

llvm::GlobalVariable& text_of(llvm::Module& module, const std::string& symbol) {
    for (llvm::GlobalVariable& g : module.globals()) {
        if (g.getName().contains("gpu_source_kernels") && g.hasInitializer()) return g;
    }
    throw std::runtime_error(symbol + ": Halide emitted no device code");
}

// The functions that are launched with a number of threads that is known.
std::vector<std::pair<std::string, int>> launched(llvm::Module& module) {
    std::vector<std::pair<std::string, int>> all;
    llvm::Function* run = module.getFunction("halide_cuda_run");
    if (!run) return all;
    for (llvm::User* user : run->users()) {
        auto* call = llvm::dyn_cast<llvm::CallInst>(user);
        if (!call) continue;
        auto* name = llvm::dyn_cast<llvm::GlobalVariable>(call->getArgOperand(2)->stripPointerCasts());
        if (!name || !name->hasInitializer()) continue;
        int threads = 1;
        bool known = true;
        for (unsigned i = 6; i < 9; ++i) {
            auto* extent = llvm::dyn_cast<llvm::ConstantInt>(call->getArgOperand(i));
            known = known && extent;
            if (extent) threads *= static_cast<int>(extent->getZExtValue());
        }
        const auto text = llvm::cast<llvm::ConstantDataArray>(name->getInitializer())->getAsCString();
        if (known) all.emplace_back(text.str(), threads);
    }
    return all;
}

// Of the functions that took more registers than a block of their threads can have: what it can. Not of all: ptxas
// takes a limit for a wish, and spills to come down to the next.
std::vector<std::pair<std::string, int>> register_limits(const Cubin& cubin,
                                                         const std::vector<std::pair<std::string, int>>& threads) {
    constexpr int registers_of_a_multiprocessor = 65536, granularity = 8;
    std::vector<std::pair<std::string, int>> limits;
    for (const auto& [name, count] : threads) {
        const int warps = (count + 31) / 32 * 32;
        const int most = registers_of_a_multiprocessor / warps / granularity * granularity;
        for (const DeviceFunction& f : cubin.functions) {
            if (f.name == name && f.registers > most) limits.emplace_back(name, most);
        }
    }
    return limits;
}

llvm::Constant* data(llvm::Module& module, const std::string& bytes, const llvm::Twine& name, unsigned alignment) {
    auto* value = llvm::ConstantDataArray::getString(module.getContext(), bytes, /*AddNull=*/true);
    auto* g = new llvm::GlobalVariable(module, value->getType(), true, llvm::GlobalValue::InternalLinkage, value, name);
    g->setAlignment(llvm::Align(alignment));
    return g;
}

// Field for field as in kernel_abi.h.
void define_code(llvm::Module& module, const std::string& text, const std::vector<Cubin>& cubins) {
    llvm::LLVMContext& context = module.getContext();
    auto* pointer = llvm::PointerType::get(context, 0);
    auto* i32 = llvm::Type::getInt32Ty(context);
    const auto number = [&](std::size_t v) { return llvm::ConstantInt::get(i32, v); };
    auto* image_type = llvm::StructType::get(context, {i32, i32, pointer});
    std::vector<llvm::Constant*> images;
    for (const Cubin& cubin : cubins) {
        images.push_back(llvm::ConstantStruct::get(
            image_type, {number(static_cast<std::size_t>(cubin.sm)), number(cubin.bytes.size()),
                         data(module, cubin.bytes, "cubin", 16)}));
    }
    auto* all = llvm::ConstantArray::get(llvm::ArrayType::get(image_type, images.size()), images);
    auto* image_array =
        new llvm::GlobalVariable(module, all->getType(), true, llvm::GlobalValue::InternalLinkage, all, "images");
    auto* code = llvm::ConstantStruct::getAnon(
        {data(module, text, "text", 1), number(text.size()), number(images.size()), image_array});
    new llvm::GlobalVariable(module, code->getType(), true, llvm::GlobalValue::ExternalLinkage, code,
                             "fusebn_device_code");
}

std::string exact_text(const llvm::GlobalVariable& source, InstructionSet isa) {
    std::string text = llvm::cast<llvm::ConstantDataArray>(source.getInitializer())->getRawDataValues().str();
    while (!text.empty() && text.back() == '\0') text.pop_back();
    return is_cuda(isa) ? without_contraction(text) : text;
}

// One form of a kernel, its entry called `symbol`.
std::unique_ptr<llvm::Module> one_form(llvm::LLVMContext& context, const Lowered& kernel, InstructionSet isa,
                                       const std::string& symbol, const std::optional<std::string>& ptxas,
                                       std::vector<Cubin>& cubins) {
    std::unique_ptr<llvm::Module> module = parse(context, kernel.bitcode, symbol);
    auto machine = target_machine(isa);
    module->setDataLayout(machine->createDataLayout());
    module->setTargetTriple(machine->getTargetTriple());
    llvm::GlobalVariable& source = text_of(*module, symbol);
    std::string text = exact_text(source, isa);
    std::vector<Cubin> made;
    if (is_cuda(isa) && ptxas) {
        const int sm = static_cast<int>(isa) - 1000;
        made.push_back(assemble(*ptxas, text, sm));
        const auto limits = register_limits(made.back(), launched(*module));
        if (!limits.empty()) made.back() = assemble(*ptxas, text = with_register_limits(text, limits), sm);
    }
    // Nobody reads it any more; the prelude's functions ignore it.
    source.replaceAllUsesWith(llvm::ConstantPointerNull::get(llvm::PointerType::get(context, 0)));
    source.eraseFromParent();
    define_code(*module, text, made);
    cubins.insert(cubins.end(), made.begin(), made.end());
    const std::string interface = isa == InstructionSet::opencl ? "opencl" : "cuda";
    const std::string functions = std::regex_replace(prelude_text, std::regex("INTERFACE"), interface);
    link(*module, prelude(context, functions, *module));
    rename_entry(*module, kernel.entry, symbol);
    finish(*module, isa, {symbol});
    return module;
}

}  // namespace

std::string device_text(const Lowered& kernel, InstructionSet isa, const std::string& symbol) {
    llvm::LLVMContext context;
    const auto module = parse(context, kernel.bitcode, symbol);
    return exact_text(text_of(*module, symbol), isa);
}

DeviceObject emit_device_kernel(const Lowered& kernel, const Lowered* unaligned, InstructionSet isa,
                                const std::string& symbol, const std::optional<std::string>& ptxas) {
    llvm::LLVMContext context;
    DeviceObject object;
    std::vector<std::string> entries = {symbol};
    std::vector<Cubin> cubins;
    auto module = one_form(context, kernel, isa, symbol, ptxas, cubins);
    if (unaligned) {
        entries.push_back(symbol + "_unaligned");
        link(*module, one_form(context, *unaligned, isa, entries.back(), ptxas, cubins));
    }
    finish(*module, isa, entries);
    auto machine = target_machine(isa);
    optimize(*module, *machine);
    if (llvm::verifyModule(*module)) throw std::runtime_error(symbol + ": LLVM finds the module malformed");
    object.bytes = generate(*module, *machine, llvm::CodeGenFileType::ObjectFile);
    check_undefined(object.bytes, symbol);
    for (Cubin& cubin : cubins) {
        object.functions.insert(object.functions.end(), cubin.functions.begin(), cubin.functions.end());
    }
    return object;
}

}  // namespace fusebn
