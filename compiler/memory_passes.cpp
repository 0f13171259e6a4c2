// How kernels meet the memory: streaming stores, prefetches and loads under masks.

#include <llvm/IR/Constants.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/IntrinsicInst.h>
#include <llvm/IR/IntrinsicsX86.h>

#include <algorithm>
#include <map>
#include <set>

#include "compiler/passes.h"

namespace fusebn {

namespace {

bool touches_any(const llvm::Instruction& access, const std::vector<std::string>& buffers) {
    return llvm::any_of(buffers, [&](const std::string& name) { return touches(access, name); });
}

// Lanes of a masked store whose mask is known to be the first so many, if they are whole 16-byte pieces, the smallest
// non-temporal vectors; else 0.
int lanes_in_pieces(const llvm::IntrinsicInst& store) {
    constexpr int piece_bytes = 16;
    const auto* mask = llvm::dyn_cast<llvm::Constant>(store.getArgOperand(2));
    const auto* vector = llvm::cast<llvm::FixedVectorType>(store.getArgOperand(0)->getType());
    if (!mask) return 0;
    const unsigned all = vector->getNumElements();
    const auto is = [&](unsigned lane, bool set) {
        const llvm::Constant* one = mask->getAggregateElement(lane);
        return one && (set ? one->isOneValue() : one->isNullValue());
    };
    unsigned lanes = 0;
    while (lanes < all && is(lanes, true)) ++lanes;
    for (unsigned lane = lanes; lane < all; ++lane) {
        if (!is(lane, false)) return 0;
    }
    return lanes * vector->getScalarSizeInBits() / 8 % piece_bytes == 0 ? static_cast<int>(lanes) : 0;
}

// The masked store of what is left of a row, in the largest pieces that lie at multiples of their size.
void store_in_pieces(llvm::IntrinsicInst& masked, int lanes, int alignment) {
    llvm::Value* const value = masked.getArgOperand(0);
    const auto* type = llvm::cast<llvm::FixedVectorType>(value->getType());
    const int element = static_cast<int>(type->getScalarSizeInBits()) / 8;
    llvm::IRBuilder<> builder(&masked);
    for (int first = 0, piece = alignment / element; first < lanes; first += piece) {
        while (piece > lanes - first) piece /= 2;
        llvm::SmallVector<int> lanes_of_piece;
        for (int lane = first; lane < first + piece; ++lane) lanes_of_piece.push_back(lane);
        auto* address = builder.CreateConstGEP1_64(builder.getInt8Ty(), masked.getArgOperand(1), first * element);
        builder.CreateStore(builder.CreateShuffleVector(value, lanes_of_piece), address)->copyMetadata(masked);
    }
    masked.eraseFromParent();
}

}  // namespace

// Makes every vector store to an output non-temporal, what is left of a row with them. Such stores are weakly ordered,
// so each function that has one fences before it returns: whoever then learns that the task is done sees its stores.
// Returns how many there are.
int stream_stores(llvm::Module& module, const std::vector<std::string>& outputs, int alignment) {
    auto& context = module.getContext();
    auto* yes = llvm::MDNode::get(
        context, llvm::ConstantAsMetadata::get(llvm::ConstantInt::get(llvm::Type::getInt32Ty(context), 1)));
    int count = 0;
    for (llvm::Function& function : module) {
        for (llvm::BasicBlock& block : function) {
            for (llvm::Instruction& i : llvm::make_early_inc_range(block)) {
                auto* masked = llvm::dyn_cast<llvm::IntrinsicInst>(&i);
                if (!masked || masked->getIntrinsicID() != llvm::Intrinsic::masked_store) continue;
                const int lanes = touches_any(i, outputs) ? lanes_in_pieces(*masked) : 0;
                if (lanes > 0) store_in_pieces(*masked, lanes, alignment);
            }
        }
        bool streams = false;
        for (llvm::BasicBlock& block : function) {
            for (llvm::Instruction& i : block) {
                auto* store = llvm::dyn_cast<llvm::StoreInst>(&i);
                if (!store || !store->getValueOperand()->getType()->isVectorTy() || !touches_any(*store, outputs))
                    continue;
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

void fetch_into_l1(llvm::Module& module) {
    constexpr int locality = 2, into_l1 = 3;
    for (llvm::Function& function : module) {
        for (llvm::BasicBlock& block : function) {
            for (llvm::Instruction& i : block) {
                auto* fetch = llvm::dyn_cast<llvm::IntrinsicInst>(&i);
                if (!fetch || fetch->getIntrinsicID() != llvm::Intrinsic::prefetch) continue;
                // It may lie beyond the tensor, and other addresses may be made from it.
                for (auto* at = llvm::dyn_cast<llvm::GetElementPtrInst>(fetch->getArgOperand(0)); at;
                     at = llvm::dyn_cast<llvm::GetElementPtrInst>(at->getPointerOperand())) {
                    at->setNoWrapFlags(llvm::GEPNoWrapFlags::none());
                }
                auto* const type = fetch->getArgOperand(locality)->getType();
                fetch->setArgOperand(locality, llvm::ConstantInt::get(type, into_l1));
            }
        }
    }
}

// Wherever a vector of an input is loaded to make an output, or to make a chunk's sums, fetches the line that many
// bytes further on into the L2 cache, `asks` times a line and reading (at different places in it, so that LLVM
// does not take them for one). A distance that leads nowhere (past the last channel, or over a gap between channels)
// costs a fetch and changes nothing: a prefetch never faults.
void fetch_ahead(llvm::Module& module, const Lowered& kernel) {
    constexpr int line = 64;
    const auto stores_output = [&](const llvm::Instruction& i) {
        return llvm::isa<llvm::StoreInst>(i) && touches_any(i, kernel.outputs);
    };
    for (llvm::Function& function : module) {
        for (llvm::BasicBlock& block : function) {
            const bool apply = llvm::any_of(block, stores_output);
            const auto fetch_of = [&](const llvm::LoadInst& load) -> Lowered::Fetch {
                if (!load.getType()->isVectorTy() || !touches_any(load, kernel.inputs)) return {};
                if (!apply) return kernel.fetch_in_sum;
                return touches_any(load, kernel.unsummed) ? kernel.fetch_unsummed : kernel.fetch_in_apply;
            };
            // The line of byte `b` of a load, among those of its base.
            using Line = std::pair<const llvm::Value*, std::int64_t>;
            const auto& layout = module.getDataLayout();
            const auto line_of = [&](const llvm::LoadInst& load, std::int64_t b) {
                llvm::APInt offset(64, 0);
                const llvm::Value* base =
                    load.getPointerOperand()->stripAndAccumulateConstantOffsets(layout, offset, true);
                const std::int64_t at = offset.getSExtValue() + b;
                return Line{base, at >= 0 ? at / line : (at + 1) / line - 1};
            };
            const auto size_of = [&](const llvm::LoadInst& load) {
                return static_cast<std::int64_t>(layout.getTypeStoreSize(load.getType()));
            };
            // A block that reads a quarter of a line comes to it four times, and asks each time.
            std::map<Line, std::int64_t> covered;
            for (const llvm::Instruction& i : block) {
                const auto* load = llvm::dyn_cast<llvm::LoadInst>(&i);
                if (!load || fetch_of(*load).bytes == 0) continue;
                for (std::int64_t b = 0; b < size_of(*load); b += line) {
                    covered[line_of(*load, b)] += std::min<std::int64_t>(line, size_of(*load) - b);
                }
            }
            std::set<Line> fetched;
            for (llvm::Instruction& i : llvm::make_early_inc_range(block)) {
                auto* load = llvm::dyn_cast<llvm::LoadInst>(&i);
                if (!load) continue;
                const auto [distance, most] = fetch_of(*load);
                if (distance == 0) continue;
                const std::int64_t bytes = size_of(*load);
                llvm::IRBuilder<> builder(load);
                for (std::int64_t b = 0; b < bytes; b += line) {
                    const Line wanted = line_of(*load, b);
                    if (!fetched.insert(wanted).second) continue;
                    const auto asks = std::clamp<std::int64_t>(most * covered[wanted] / line, 1, most);
                    for (std::int64_t ask = 0; ask < asks; ++ask) {
                        auto* address = builder.CreateGEP(builder.getInt8Ty(), load->getPointerOperand(),
                                                          builder.getInt64(distance + b + line / most * ask));
                        constexpr int read = 0, into_l2 = 2, data = 1;
                        builder.CreateIntrinsic(
                            llvm::Intrinsic::prefetch, {address->getType()},
                            {address, builder.getInt32(read), builder.getInt32(into_l2), builder.getInt32(data)});
                    }
                }
            }
        }
    }
}

namespace {

// Or only shuffled, widened or shifted since.
bool is_loaded(const llvm::Value* value) {
    const auto* i = llvm::dyn_cast<llvm::Instruction>(value);
    if (!i) return false;
    if (llvm::isa<llvm::LoadInst>(i)) return true;
    const bool moves = llvm::isa<llvm::ShuffleVectorInst, llvm::CastInst>(i) || i->isShift() ||
                       i->getOpcode() == llvm::Instruction::And;
    return moves && is_loaded(i->getOperand(0));
}

bool is_zero(const llvm::Value* value) {
    const auto* constant = llvm::dyn_cast<llvm::Constant>(value);
    return constant && constant->isNullValue();
}

}  // namespace

// AVX-512 can load under a mask, and LLVM makes one such load of a load and a selection between it and zero. It cannot
// begin before the mask is known: the gradient of a relu would wait for x to arrive, and then for itself. A fence in
// between leaves them two instructions.
void load_early(llvm::Module& module, const Lowered& kernel) {
    for (llvm::Function& function : module) {
        for (llvm::BasicBlock& block : function) {
            const bool apply = llvm::any_of(block, [&](const llvm::Instruction& i) {
                return llvm::isa<llvm::StoreInst>(i) && touches_any(i, kernel.outputs);
            });
            if (!(apply ? kernel.early_in_apply : kernel.early_in_sum)) continue;
            for (llvm::Instruction& i : block) {
                auto* select = llvm::dyn_cast<llvm::SelectInst>(&i);
                if (!select || !select->getType()->isVectorTy() || !select->getType()->isFPOrFPVectorTy()) continue;
                const unsigned loaded = is_zero(select->getFalseValue()) ? 1 : 2;
                llvm::Value* const value = select->getOperand(loaded);
                if (!is_zero(select->getOperand(3 - loaded)) || !is_loaded(value)) continue;
                llvm::IRBuilder<> builder(select);
                select->setOperand(loaded, builder.CreateArithmeticFence(value, value->getType()));
            }
        }
    }
}

}  // namespace fusebn
