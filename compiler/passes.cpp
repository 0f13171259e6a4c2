#include "compiler/passes.h"

#include <llvm/Analysis/ValueTracking.h>
#include <llvm/IR/Constants.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/IntrinsicInst.h>
#include <llvm/Passes/PassBuilder.h>
#include <llvm/Transforms/Scalar/EarlyCSE.h>

#include <optional>

namespace fusebn {

// The access type, or one of its parents, is called `name`.
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

// A masked access of which a single, known lane is wanted becomes a scalar one. LLVM 22 does so itself, and where it
// has made a truncation part of the store, forgets it: of a bf16 it would store four bytes, two of them behind the row.
void scalarize_single_lanes(llvm::Module& module) {
    const auto single_lane = [](const llvm::Value* mask) -> std::optional<unsigned> {
        const auto* constant = llvm::dyn_cast<llvm::Constant>(mask);
        const auto* type = llvm::dyn_cast<llvm::FixedVectorType>(mask->getType());
        std::optional<unsigned> lane;
        for (unsigned i = 0; constant && type && i < type->getNumElements(); ++i) {
            const llvm::Constant* bit = constant->getAggregateElement(i);
            if (!bit || !(bit->isNullValue() || bit->isOneValue()) || (bit->isOneValue() && lane)) return std::nullopt;
            if (bit->isOneValue()) lane = i;
        }
        return lane;
    };
    for (llvm::Function& function : module) {
        for (llvm::BasicBlock& block : function) {
            for (llvm::Instruction& i : llvm::make_early_inc_range(block)) {
                auto* masked = llvm::dyn_cast<llvm::IntrinsicInst>(&i);
                const bool load = masked && masked->getIntrinsicID() == llvm::Intrinsic::masked_load;
                if (!load && !(masked && masked->getIntrinsicID() == llvm::Intrinsic::masked_store)) continue;
                const auto lane = single_lane(masked->getArgOperand(load ? 1 : 2));
                if (!lane) continue;
                llvm::IRBuilder<> builder(masked);
                llvm::Value* vector = masked->getArgOperand(load ? 2 : 0);
                auto* element = llvm::cast<llvm::VectorType>(vector->getType())->getElementType();
                auto* address = builder.CreateConstGEP1_32(element, masked->getArgOperand(load ? 0 : 1), *lane);
                const llvm::Align alignment(element->getScalarSizeInBits() / 8);
                if (load) {
                    auto* value = builder.CreateAlignedLoad(element, address, alignment);
                    masked->replaceAllUsesWith(builder.CreateInsertElement(vector, value, *lane));
                } else {
                    builder.CreateAlignedStore(builder.CreateExtractElement(vector, *lane), address, alignment);
                }
                masked->eraseFromParent();
            }
        }
    }
}

namespace {

struct Analyses {
    llvm::LoopAnalysisManager loops;
    llvm::FunctionAnalysisManager functions;
    llvm::CGSCCAnalysisManager sccs;
    llvm::ModuleAnalysisManager modules;

    explicit Analyses(llvm::PassBuilder& builder) {
        builder.registerModuleAnalyses(modules);
        builder.registerCGSCCAnalyses(sccs);
        builder.registerFunctionAnalyses(functions);
        builder.registerLoopAnalyses(loops);
        builder.crossRegisterProxies(loops, functions, sccs, modules);
    }
};

}  // namespace

// Two results of one element each have their own reading of it. One is enough, and two would be fetched for twice;
// LLVM's optimisation comes after the prefetches, which keep it from seeing that they are the same.
void read_once(llvm::Module& module) {
    llvm::PassBuilder builder;
    Analyses analyses(builder);
    llvm::FunctionPassManager passes;
    passes.addPass(llvm::EarlyCSEPass(/*UseMemorySSA=*/true));
    for (llvm::Function& function : module) {
        if (!function.isDeclaration()) passes.run(function, analyses.functions);
    }
}

void optimize(llvm::Module& module, llvm::TargetMachine& machine) {
    llvm::PipelineTuningOptions tuning;
    tuning.LoopVectorization = false;  // the schedule has vectorised what it wanted vectors for
    tuning.LoopUnrolling = false;
    llvm::PassBuilder builder(&machine, tuning);
    Analyses analyses(builder);
    builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O2).run(module, analyses.modules);
}

}  // namespace fusebn
