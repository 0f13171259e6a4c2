// Masks of one bit an element, which Halide has no words for: it is told of bytes.

#include <llvm/Analysis/ValueTracking.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/IntrinsicInst.h>

#include <algorithm>
#include <stdexcept>

#include "compiler/passes.h"

namespace fusebn {

namespace {

// An access to a vector of the mask's elements.
struct Access {
    llvm::Instruction* instruction;
    llvm::Value* address;
    llvm::FixedVectorType* vector;     // <n x i8>; null: a single element, loaded
    llvm::Value* stored = nullptr;     // null: a load
    llvm::Value* predicate = nullptr;  // <n x i1>; null: all
};

Access access_of(llvm::Instruction& i, const std::string& mask) {
    Access a{&i, nullptr, nullptr};
    llvm::Type* type = i.getType();
    if (auto* load = llvm::dyn_cast<llvm::LoadInst>(&i)) {
        a.address = load->getPointerOperand();
    } else if (auto* store = llvm::dyn_cast<llvm::StoreInst>(&i)) {
        a.address = store->getPointerOperand();
        a.stored = store->getValueOperand();
    } else if (auto* masked = llvm::dyn_cast<llvm::IntrinsicInst>(&i)) {
        if (masked->getIntrinsicID() == llvm::Intrinsic::masked_load) {
            a.address = masked->getArgOperand(0);
            a.predicate = masked->getArgOperand(1);
        } else if (masked->getIntrinsicID() == llvm::Intrinsic::masked_store) {
            a.stored = masked->getArgOperand(0);
            a.address = masked->getArgOperand(1);
            a.predicate = masked->getArgOperand(2);
        }
    }
    if (a.stored) type = a.stored->getType();
    a.vector = llvm::dyn_cast<llvm::FixedVectorType>(type);
    const unsigned lanes = a.vector ? a.vector->getNumElements() : 0;
    const bool one = a.address && !a.vector && !a.stored && type->isIntegerTy(8);
    if (one) return a;
    if (!a.address || !a.vector || !a.vector->getElementType()->isIntegerTy(8) ||
        (lanes != 8 && lanes != 16 && lanes != 32 && lanes != 64)) {
        throw std::runtime_error("an access to " + mask + " is no vector of 8, 16, 32 or 64 elements");
    }
    return a;
}

// Whether what is loaded lies whole bytes from the buffer's start, of which Halide was told that it and its rows do.
bool starts_a_byte(const llvm::Instruction& i) {
    const auto* load = llvm::dyn_cast<llvm::LoadInst>(&i);
    const llvm::Align known = load ? load->getAlign() : llvm::cast<llvm::CallBase>(i).getParamAlign(0).valueOrOne();
    return known.value() >= 8;
}

// A word from the bit `distance` on, of which the bytes at `address` have the first: no bytes but its own are read.
llvm::Value* word_from(llvm::IRBuilder<>& builder, llvm::Value* address, llvm::Value* distance, llvm::Type* word,
                       llvm::Value* wanted) {
    auto* type = word->getScalarType();
    auto* both = builder.getIntNTy(2 * type->getIntegerBitWidth());
    auto* shift = builder.CreateAnd(distance, 7);
    auto* crosses = builder.CreateZExt(builder.CreateIsNotNull(shift), builder.getInt64Ty());
    const auto load = [&](llvm::Value* from) {
        const llvm::Align byte(1);
        llvm::Value* v = wanted ? static_cast<llvm::Value*>(builder.CreateMaskedLoad(
                                      word, from, byte, wanted, llvm::Constant::getNullValue(word)))
                                : builder.CreateAlignedLoad(word, from, byte);
        return builder.CreateZExt(builder.CreateBitCast(v, type), both);
    };
    auto* low = load(address);
    auto* high = load(builder.CreateGEP(builder.getInt8Ty(), address, crosses));
    auto* all =
        builder.CreateOr(low, builder.CreateShl(high, builder.CreateZExtOrTrunc(builder.CreateShl(crosses, 3), both)));
    return builder.CreateTrunc(builder.CreateLShr(all, builder.CreateZExtOrTrunc(shift, both)), type);
}

// Elements count from the buffer's start, so the byte is an eighth as far from it. Under a predicate, words of 32 bits
// (or all, where there are fewer) are accessed that have an element at all: a row ends with a whole word. What lies
// past a row's last element in its last word may be written, and means nothing.
void pack(const Access& a) {
    llvm::IRBuilder<> builder(a.instruction);
    auto* start = const_cast<llvm::Value*>(llvm::getUnderlyingObject(a.address, 0));
    auto* distance = builder.CreateSub(builder.CreatePtrToInt(a.address, builder.getInt64Ty()),
                                       builder.CreatePtrToInt(start, builder.getInt64Ty()));
    auto* address = builder.CreateGEP(builder.getInt8Ty(), start, builder.CreateAShr(distance, 3));
    const llvm::Align byte(1);
    if (!a.vector) {
        auto* bits = builder.CreateAlignedLoad(builder.getInt8Ty(), address, byte);
        auto* place = builder.CreateTrunc(builder.CreateAnd(distance, 7), builder.getInt8Ty());
        a.instruction->replaceAllUsesWith(builder.CreateAnd(builder.CreateLShr(bits, place), 1));
        a.instruction->eraseFromParent();
        return;
    }
    const unsigned lanes = a.vector->getNumElements(), word_bits = std::min(lanes, 32u);
    auto* words = llvm::FixedVectorType::get(builder.getIntNTy(word_bits), lanes / word_bits);
    auto* flags = llvm::FixedVectorType::get(builder.getInt1Ty(), lanes);
    llvm::Value* wanted = nullptr;
    if (a.predicate) {
        wanted = builder.CreateICmpNE(builder.CreateBitCast(a.predicate, words), llvm::Constant::getNullValue(words));
    }
    if (a.stored) {
        auto* value = builder.CreateBitCast(builder.CreateTrunc(a.stored, flags), words);
        if (wanted) {
            builder.CreateMaskedStore(value, address, byte, wanted);
        } else {
            builder.CreateAlignedStore(value, address, byte);
        }
    } else if (!starts_a_byte(*a.instruction)) {
        if (lanes != word_bits) throw std::runtime_error("64 elements of a mask that may start within a byte");
        auto* bits = word_from(builder, address, distance, words, wanted);
        a.instruction->replaceAllUsesWith(builder.CreateZExt(builder.CreateBitCast(bits, flags), a.vector));
    } else {
        llvm::Value* value = wanted ? static_cast<llvm::Value*>(builder.CreateMaskedLoad(
                                          words, address, byte, wanted, llvm::Constant::getNullValue(words)))
                                    : builder.CreateAlignedLoad(words, address, byte);
        a.instruction->replaceAllUsesWith(builder.CreateZExt(builder.CreateBitCast(value, flags), a.vector));
    }
    a.instruction->eraseFromParent();
}

}  // namespace

void pack_bits(llvm::Module& module, const std::string& mask) {
    std::vector<Access> accesses;
    for (llvm::Function& function : module) {
        for (llvm::BasicBlock& block : function) {
            for (llvm::Instruction& i : block) {
                if (i.mayReadOrWriteMemory() && touches(i, mask)) accesses.push_back(access_of(i, mask));
            }
        }
    }
    if (accesses.empty()) throw std::runtime_error("no access to " + mask + " was found");
    for (const Access& a : accesses) pack(a);
}

}  // namespace fusebn
