// How elements of 16 bits become 32 and 16 again, where nothing depends on the order of a vector's lanes.

#include <llvm/ADT/STLExtras.h>
#include <llvm/ADT/SetVector.h>
#include <llvm/Analysis/VectorUtils.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/IntrinsicInst.h>
#include <llvm/IR/PatternMatch.h>

#include <numeric>
#include <vector>

#include "compiler/passes.h"

namespace fusebn {

namespace {

using namespace llvm::PatternMatch;

bool is_uniform(llvm::Value* value) { return llvm::getSplatValue(value) != nullptr; }

bool is_by_lane(const llvm::Instruction& i) {
    if (const auto* call = llvm::dyn_cast<llvm::IntrinsicInst>(&i)) {
        return llvm::isTriviallyVectorizable(call->getIntrinsicID());
    }
    if (const auto* cast = llvm::dyn_cast<llvm::BitCastInst>(&i)) {
        const auto* from = llvm::dyn_cast<llvm::FixedVectorType>(cast->getSrcTy());
        const auto* to = llvm::dyn_cast<llvm::FixedVectorType>(cast->getDestTy());
        return from && to && from->getNumElements() == to->getNumElements();
    }
    return i.isBinaryOp() || i.isUnaryOp() || i.isCast() || llvm::isa<llvm::CmpInst, llvm::SelectInst>(i);
}

// A vector of bf16 made f32, computed with lane by lane, and rounded to bf16 again.
struct Chain {
    llvm::TruncInst* rounded;                     // trunc(bits >> 16)
    llvm::Value* bits = nullptr;                  // <n x i32>
    llvm::SetVector<llvm::Instruction*> widened;  // zext << 16
    llvm::SetVector<llvm::Instruction*> between;  // from those to `bits`
};

unsigned lanes_of(const llvm::Value* value) {
    const auto* type = llvm::dyn_cast<llvm::FixedVectorType>(value->getType());
    return type ? type->getNumElements() : 0;
}

bool counts_from(llvm::ArrayRef<int> mask, int begin) {
    return llvm::all_of(llvm::enumerate(mask),
                        [&](const auto& at) { return at.value() == begin + static_cast<int>(at.index()); });
}

// Halide takes wide comparisons and selections apart, into slices as wide as a register: the slices that `value` is put
// together from, in order, or itself.
void take_apart(llvm::Value* value, std::vector<llvm::Value*>& slices, Chain& chain) {
    auto* joined = llvm::dyn_cast<llvm::ShuffleVectorInst>(value);
    const unsigned half_lanes = joined ? lanes_of(joined->getOperand(0)) : 0;
    if (!joined || lanes_of(joined) != 2 * half_lanes || !counts_from(joined->getShuffleMask(), 0)) {
        return slices.push_back(value);
    }
    chain.between.insert(joined);
    for (llvm::Value* half : joined->operands()) take_apart(half, slices, chain);
}

// Whether lane i of the slices, one behind the other, depends on lane i of widened elements and on what is the same in
// every lane, in every lane alike. A vector that is not taken apart is one slice.
bool collect(const std::vector<llvm::Value*>& slices, Chain& chain) {
    const auto all = [&](const auto& condition) { return llvm::all_of(slices, condition); };
    if (all([&](llvm::Value* v) {
            return is_uniform(v) && llvm::getSplatValue(v) == llvm::getSplatValue(slices[0]);
        })) {
        return true;
    }
    if (!all([](llvm::Value* v) { return llvm::isa<llvm::Instruction>(v); })) return false;
    const unsigned lanes = lanes_of(slices[0]);
    if (!all([&](llvm::Value* v) { return lanes_of(v) == lanes; })) return false;
    auto* first = llvm::cast<llvm::Instruction>(slices[0]);

    if (slices.size() == 1) {
        llvm::Value* element = nullptr;
        if (chain.between.contains(first) || chain.widened.contains(first)) return true;
        if (lanes == lanes_of(chain.rounded) && first->getType()->getScalarType()->isIntegerTy(32) &&
            match(first, m_Shl(m_ZExt(m_Value(element)), m_SpecificInt(16))) &&
            element->getType()->getScalarType()->isIntegerTy(16)) {
            chain.widened.insert(first);
            return true;
        }
        std::vector<llvm::Value*> parts;
        take_apart(first, parts, chain);
        if (parts.size() > 1) return collect(parts, chain);
    } else if (auto* slice = llvm::dyn_cast<llvm::ShuffleVectorInst>(first)) {
        llvm::Value* const whole = slice->getOperand(0);
        int begin = 0;
        for (llvm::Value* v : slices) {
            auto* part = llvm::dyn_cast<llvm::ShuffleVectorInst>(v);
            if (!part || part->getOperand(0) != whole || !counts_from(part->getShuffleMask(), begin)) return false;
            chain.between.insert(part);
            begin += static_cast<int>(lanes);
        }
        return begin == static_cast<int>(lanes_of(whole)) && collect({whole}, chain);
    }
    if (!is_by_lane(*first)) return false;
    for (llvm::Value* v : slices) {
        auto* i = llvm::cast<llvm::Instruction>(v);
        const auto* call = llvm::dyn_cast<llvm::CallInst>(i);
        if (!first->isSameOperationAs(i)) return false;
        if (call && call->getCalledOperand() != llvm::cast<llvm::CallInst>(first)->getCalledOperand()) return false;
        chain.between.insert(i);
    }
    const auto* call = llvm::dyn_cast<llvm::CallInst>(first);
    const unsigned count = call ? call->arg_size() : first->getNumOperands();
    for (unsigned operand = 0; operand < count; ++operand) {
        std::vector<llvm::Value*> of;
        for (llvm::Value* v : slices) of.push_back(llvm::cast<llvm::Instruction>(v)->getOperand(operand));
        if (!collect(of, chain)) return false;
    }
    return true;
}

// Whether the lanes' order is seen nowhere else.
bool is_closed(const Chain& chain) {
    const auto used_inside = [&](const llvm::Instruction* i) {
        return llvm::all_of(i->users(), [&](const llvm::User* user) {
            auto* by = const_cast<llvm::Instruction*>(llvm::cast<llvm::Instruction>(user));
            return chain.between.contains(by) || (by == chain.rounded->getOperand(0) && i == chain.bits);
        });
    };
    return llvm::all_of(chain.widened, used_inside) && llvm::all_of(chain.between, used_inside);
}

}  // namespace

// Two neighbours are a word of 32 bits: its upper half is one of them as f32, and shifted up its lower half the other.
// So a vector is taken as all even elements and then all odd ones: a shift and an `and` for two registers, where
// widening in order takes two shuffles at least (shuffles.cpp); rounded, an `and`, a shift and an `or` (with
// AVX-512 the shift and one operation, shuffles.cpp), where narrowing takes two shifts and two shuffles. In the cache
// inference is 1.08 to 1.17 times as fast for it, train_forward and backward 1.05. Done where one result and no mask
// comes of it, and where halves of the vector are whole registers of `register_bytes`.
void pair_halves(llvm::Module& module, unsigned register_bytes) {
    for (llvm::Function& function : module) {
        std::vector<Chain> chains;
        for (llvm::BasicBlock& block : function) {
            for (llvm::Instruction& i : block) {
                auto* trunc = llvm::dyn_cast<llvm::TruncInst>(&i);
                const auto* type = trunc ? llvm::dyn_cast<llvm::FixedVectorType>(trunc->getType()) : nullptr;
                if (!type || !type->getElementType()->isIntegerTy(16)) continue;
                const unsigned lanes = type->getNumElements();
                Chain chain{trunc, nullptr, {}, {}};
                if (lanes % 2 != 0 || lanes / 2 * 4 % register_bytes != 0) continue;
                if (!match(trunc->getOperand(0), m_OneUse(m_LShr(m_Value(chain.bits), m_SpecificInt(16))))) continue;
                if (collect({chain.bits}, chain) && !chain.widened.empty() && is_closed(chain)) {
                    chains.push_back(chain);
                }
            }
        }
        for (const Chain& chain : chains) {
            const unsigned lanes = llvm::cast<llvm::FixedVectorType>(chain.rounded->getType())->getNumElements();
            auto* words = llvm::FixedVectorType::get(llvm::Type::getInt32Ty(module.getContext()), lanes / 2);
            std::vector<int> order(lanes);
            std::iota(order.begin(), order.end(), 0);
            const llvm::ArrayRef<int> all(order);
            for (llvm::Instruction* widened : chain.widened) {
                llvm::IRBuilder<> builder(widened);
                auto* pairs =
                    builder.CreateBitCast(llvm::cast<llvm::ZExtInst>(widened->getOperand(0))->getOperand(0), words);
                widened->replaceAllUsesWith(builder.CreateShuffleVector(builder.CreateShl(pairs, 16),
                                                                        builder.CreateAnd(pairs, 0xffff0000), all));
            }
            llvm::IRBuilder<> builder(chain.rounded);
            auto* even = builder.CreateShuffleVector(chain.bits, all.take_front(lanes / 2));
            auto* odd = builder.CreateShuffleVector(chain.bits, all.take_back(lanes / 2));
            auto* pairs = builder.CreateOr(builder.CreateLShr(even, 16), builder.CreateAnd(odd, 0xffff0000));
            chain.rounded->replaceAllUsesWith(builder.CreateBitCast(pairs, chain.rounded->getType()));
        }
    }
}

}  // namespace fusebn
