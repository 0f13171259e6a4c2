#include "compiler/passes.h"

#include <llvm/Analysis/ValueTracking.h>
#include <llvm/IR/Constants.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/IntrinsicInst.h>
#include <llvm/IR/IntrinsicsX86.h>
#include <llvm/Passes/PassBuilder.h>

#include <set>

namespace fusebn {

namespace {

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

}  // namespace

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
int stream_stores(llvm::Module& module, llvm::StringRef buffer, int alignment) {
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
                // The runtime has seen to the alignment of the rows, and vectors are powers of two. LLVM takes a store
                // apart into pieces that are aligned.
                store->setAlignment(llvm::Align(std::min<uint64_t>(static_cast<uint64_t>(alignment), bytes)));
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

}  // namespace fusebn
