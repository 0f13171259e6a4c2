// A device's variant: Halide's bitcode launches kernels whose text it holds. The text is made exact and, with a CUDA
// toolkit, assembled; both become data of the object, and the launches calls of the context's functions.
#include <llvm/IR/Constants.h>
#include <llvm/IR/Instructions.h>
#include <llvm/IR/Verifier.h>

#include <algorithm>
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

// Fills in what the functions' launches ask for: the most, where one is launched in several places.
void add_launches(const std::vector<Launch>& launches, std::vector<DeviceFunction>& functions) {
    constexpr int any = DeviceFunction::any;
    const auto most = [](int a, int b) { return a == any || b == any ? any : std::max(a, b); };
    for (DeviceFunction& f : functions) {
        for (const Launch& launch : launches) {
            if (launch.function != f.name) continue;
            f.threads = most(f.threads, launch.threads);
            f.dynamic_shared_bytes = most(f.dynamic_shared_bytes, launch.dynamic_shared_bytes);
        }
    }
}

// Of the functions that took more registers than a block of their threads can have: what it can. Not of all: ptxas
// takes a limit for a wish, and spills to come down to the next.
std::vector<std::pair<std::string, int>> register_limits(const std::vector<DeviceFunction>& functions) {
    constexpr int registers_of_a_multiprocessor = 65536, granularity = 8;
    std::vector<std::pair<std::string, int>> limits;
    for (const DeviceFunction& f : functions) {
        if (f.threads <= 0) continue;
        const int warps = (f.threads + 31) / 32 * 32;
        const int limit = registers_of_a_multiprocessor / warps / granularity * granularity;
        if (f.registers > limit) limits.emplace_back(f.name, limit);
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
                                       std::vector<DeviceFunction>& functions) {
    std::unique_ptr<llvm::Module> module = parse(context, kernel.bitcode, symbol);
    auto machine = target_machine(isa);
    module->setDataLayout(machine->createDataLayout());
    module->setTargetTriple(machine->getTargetTriple());
    llvm::GlobalVariable& source = text_of(*module, symbol);
    std::string text = exact_text(source, isa);
    std::vector<Cubin> made;
    if (is_cuda(isa) && ptxas) {
        const int sm = static_cast<int>(isa) - 1000;
        const auto assembled = [&] {
            Cubin cubin = assemble(*ptxas, text, sm);
            add_launches(kernel.launches, cubin.functions);
            return cubin;
        };
        made.push_back(assembled());
        const auto limits = register_limits(made.back().functions);
        if (!limits.empty()) {
            text = with_register_limits(text, limits);
            made.back() = assembled();
        }
        functions = made.back().functions;
    }
    // Nobody reads it any more; the prelude's functions ignore it.
    source.replaceAllUsesWith(llvm::ConstantPointerNull::get(llvm::PointerType::get(context, 0)));
    source.eraseFromParent();
    define_code(*module, text, made);
    const std::string interface = isa == InstructionSet::opencl ? "opencl" : "cuda";
    const std::string runtime_functions = std::regex_replace(prelude_text, std::regex("INTERFACE"), interface);
    link(*module, prelude(context, runtime_functions, *module));
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
    auto module = one_form(context, kernel, isa, symbol, ptxas, object.functions);
    if (unaligned) {
        entries.push_back(symbol + "_unaligned");
        std::vector<DeviceFunction> others;
        link(*module, one_form(context, *unaligned, isa, entries.back(), ptxas, others));
        for (DeviceFunction& f : others) {
            f.unaligned = true;
            object.functions.push_back(f);
        }
    }
    finish(*module, isa, entries);
    auto machine = target_machine(isa);
    optimize(*module, *machine);
    keep_functions(*module, object.functions);
    if (llvm::verifyModule(*module)) throw std::runtime_error(symbol + ": LLVM finds the module malformed");
    object.bytes = generate(*module, *machine, llvm::CodeGenFileType::ObjectFile);
    check_undefined(object.bytes, symbol);
    return object;
}

}  // namespace fusebn
