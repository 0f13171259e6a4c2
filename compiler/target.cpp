#include "compiler/target.h"

#include <llvm/ADT/SmallVector.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Support/raw_ostream.h>

#include <mutex>
#include <stdexcept>

namespace fusebn {

IsaTraits traits(InstructionSet isa) {
    switch (isa) {
        case InstructionSet::x86_64: return {"x86-64", "+sse4.1", "128"};
        case InstructionSet::x86_64_avx2: return {"x86-64", "+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c", "256"};
        case InstructionSet::x86_64_avx512:
            return {"x86-64", "+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+avx512f,+avx512cd,+avx512vl,+avx512dq,+avx512bw",
                    "512"};
        default: return traits(InstructionSet::x86_64);  // a device's: what launches its kernels
    }
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

}  // namespace fusebn
