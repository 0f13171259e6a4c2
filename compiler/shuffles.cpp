// Elements of 16 bits widened and narrowed by one shuffle of words, rounded by masks, and maxima that LLVM does not
// see: what its own instruction selection has more instructions for (docs/performance.md). After the optimisation,
// which would make shifts of these shuffles again.

#include <llvm/Analysis/VectorUtils.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/InlineAsm.h>
#include <llvm/IR/IntrinsicsX86.h>
#include <llvm/IR/PatternMatch.h>

#include <numeric>
#include <optional>
#include <vector>

#include "compiler/passes.h"

namespace fusebn {

namespace {

using namespace llvm::PatternMatch;

using Values = llvm::SmallVector<llvm::Value*>;

unsigned lanes_of(const llvm::Value* value) {
    const auto* type = llvm::dyn_cast<llvm::FixedVectorType>(value->getType());
    return type ? type->getNumElements() : 0;
}

bool has_elements(const llvm::Value* value, unsigned bits) {
    return lanes_of(value) > 0 && value->getType()->getScalarType()->isIntegerTy(bits);
}

llvm::Value* slice(llvm::IRBuilder<>& builder, llvm::Value* value, unsigned begin, unsigned lanes) {
    std::vector<int> mask(lanes);
    std::iota(mask.begin(), mask.end(), static_cast<int>(begin));
    return builder.CreateShuffleVector(value, mask);
}

// Lanes of `load` from `begin` on.
struct Loaded {
    llvm::LoadInst* load;
    unsigned begin;
};

// What `value` has in `lanes` lanes from `begin` on, where one load read them; vectors may be put together from
// several.
std::optional<Loaded> loaded(llvm::Value* value, unsigned begin, unsigned lanes) {
    while (auto* shuffle = llvm::dyn_cast<llvm::ShuffleVectorInst>(value)) {
        const llvm::ArrayRef<int> run = shuffle->getShuffleMask().slice(begin, lanes);
        const unsigned of = lanes_of(shuffle->getOperand(0));
        if (run.front() < 0) return std::nullopt;
        const auto first = static_cast<unsigned>(run.front());
        for (unsigned k = 0; k < lanes; ++k) {
            if (run[k] != run.front() + static_cast<int>(k)) return std::nullopt;
        }
        if (first / of != (first + lanes - 1) / of) return std::nullopt;
        value = shuffle->getOperand(first / of);
        begin = first % of;
    }
    auto* load = llvm::dyn_cast<llvm::LoadInst>(value);
    if (!load || !load->isSimple()) return std::nullopt;
    return Loaded{load, begin};
}

// Lanes of 16 bits of a load, read where it stands.
llvm::Value* read(const Loaded& from, unsigned lanes) {
    llvm::IRBuilder<> builder(from.load);
    auto* address = builder.CreateConstGEP1_32(builder.getInt16Ty(), from.load->getPointerOperand(), from.begin);
    auto* type = llvm::FixedVectorType::get(builder.getInt16Ty(), lanes);
    const llvm::Align alignment = llvm::commonAlignment(from.load->getAlign(), 2 * from.begin);
    auto* part = builder.CreateAlignedLoad(type, address, alignment);
    part->copyMetadata(*from.load);
    return part;
}

// A mask of every other one of 32 words, made once in a function, of which LLVM does not know what it is: of a
// permutation and a constant mask it makes a permutation of two registers, one of them zeros, which takes Intel's
// processors three operations where the masked one takes one.
class OddWords {
public:
    explicit OddWords(llvm::Function& function) : function_(function) {}
    llvm::Value* mask() {
        if (mask_) return mask_;
        llvm::IRBuilder<> builder(&*function_.getEntryBlock().getFirstInsertionPt());
        auto* const type = llvm::FunctionType::get(builder.getInt32Ty(), {builder.getInt32Ty()}, false);
        auto* const bits =
            builder.CreateCall(type, llvm::InlineAsm::get(type, "", "=r,0", false), {builder.getInt32(0xaaaaaaaa)});
        bits->setDoesNotAccessMemory();
        bits->setDoesNotThrow();
        return mask_ = builder.CreateBitCast(bits, llvm::FixedVectorType::get(builder.getInt1Ty(), 32));
    }

private:
    llvm::Function& function_;
    llvm::Value* mask_ = nullptr;
};

// zext << 16 of a register's lanes. AVX2: sixteen bytes in both halves of a register, which a load does alone, and a
// shuffle within each. AVX-512: a permutation of words, every other one zero.
llvm::Value* widened(llvm::IRBuilder<>& builder, llvm::Value* half, unsigned register_bytes, OddWords& odd) {
    const int lanes = static_cast<int>(lanes_of(half)), bytes = static_cast<int>(register_bytes);
    std::vector<int> wide;
    llvm::SmallVector<llvm::Constant*> from;
    llvm::Value* made = nullptr;
    if (register_bytes == 32) {
        constexpr int sixteen = 16, zero = 0x80;
        auto* const as_bytes = builder.CreateBitCast(half, llvm::FixedVectorType::get(builder.getInt8Ty(), sixteen));
        for (int i = 0; i < bytes; ++i) {
            wide.push_back(i % sixteen);
            from.push_back(builder.getInt8(static_cast<std::uint8_t>(i % 4 < 2 ? zero : i / 4 * 2 + i % 2)));
        }
        made = builder.CreateIntrinsic(llvm::Intrinsic::x86_avx2_pshuf_b,
                                       {builder.CreateShuffleVector(as_bytes, wide), llvm::ConstantVector::get(from)});
    } else {
        for (int i = 0; i < bytes / 2; ++i) {
            wide.push_back(i < lanes ? i : llvm::PoisonMaskElem);
            from.push_back(builder.getInt16(static_cast<std::uint16_t>(i / 2)));
        }
        made = builder.CreateIntrinsic(llvm::Intrinsic::x86_avx512_permvar_hi_512,
                                       {builder.CreateShuffleVector(half, wide), llvm::ConstantVector::get(from)});
        made = builder.CreateSelect(odd.mask(), made, llvm::Constant::getNullValue(made->getType()));
    }
    return builder.CreateBitCast(made, llvm::FixedVectorType::get(builder.getInt32Ty(), lanes_of(half)));
}

// zext << 16 of what was loaded, or null.
llvm::Value* widen(llvm::Instruction& i, unsigned register_bytes, OddWords& odd) {
    const unsigned lanes = register_bytes / 4;
    llvm::Value* half = nullptr;
    if (!has_elements(&i, 32) || !match(&i, m_Shl(m_ZExt(m_Value(half)), m_SpecificInt(16)))) return nullptr;
    if (!has_elements(half, 16) || lanes_of(half) % lanes != 0) return nullptr;
    std::vector<Loaded> parts;
    for (unsigned begin = 0; begin < lanes_of(half); begin += lanes) {
        const auto part = loaded(half, begin, lanes);
        if (!part) return nullptr;
        parts.push_back(*part);
    }
    llvm::IRBuilder<> builder(&i);
    Values made;
    for (const Loaded& part : parts) made.push_back(widened(builder, read(part, lanes), register_bytes, odd));
    return llvm::concatenateVectors(builder, made);
}

// trunc(bits >> 16) by a permutation of the words of two registers (AVX-512), or null.
llvm::Value* narrow(llvm::Instruction& i) {
    constexpr unsigned lanes = 16, words = 32;
    llvm::Value* bits = nullptr;
    if (!has_elements(&i, 16) || !match(&i, m_Trunc(m_LShr(m_Value(bits), m_SpecificInt(16))))) return nullptr;
    if (!has_elements(bits, 32) || lanes_of(bits) % words != 0) return nullptr;
    llvm::IRBuilder<> builder(&i);
    auto* const as_words = llvm::FixedVectorType::get(builder.getInt16Ty(), words);
    llvm::SmallVector<llvm::Constant*> upper;
    for (unsigned k = 0; k < words; ++k) upper.push_back(builder.getInt16(static_cast<std::uint16_t>(2 * k + 1)));
    Values made;
    for (unsigned begin = 0; begin < lanes_of(bits); begin += words) {
        auto* first = builder.CreateBitCast(slice(builder, bits, begin, lanes), as_words);
        auto* second = builder.CreateBitCast(slice(builder, bits, begin + lanes, lanes), as_words);
        made.push_back(builder.CreateIntrinsic(llvm::Intrinsic::x86_avx512_vpermi2var_hi_512,
                                               {first, llvm::ConstantVector::get(upper), second}));
    }
    return llvm::concatenateVectors(builder, made);
}

// even >> 16 | odd & 0xffff0000, which pairs two vectors' upper halves (halves.cpp), as a shift and one operation of
// three operands (AVX-512), or null. LLVM makes a permutation of two registers of it.
llvm::Value* pair(llvm::Instruction& i) {
    constexpr unsigned lanes = 16;
    constexpr std::uint32_t upper = 0xffff0000;
    constexpr std::uint8_t a_or_both_b_and_c = 0xf8;
    llvm::Value *even = nullptr, *odd = nullptr;
    if (!has_elements(&i, 32) || lanes_of(&i) % lanes != 0) return nullptr;
    if (!match(&i, m_c_Or(m_LShr(m_Value(even), m_SpecificInt(16)), m_And(m_Value(odd), m_SpecificInt(upper))))) {
        return nullptr;
    }
    llvm::IRBuilder<> builder(&i);
    auto* const shifted = builder.CreateLShr(even, 16);
    Values made;
    for (unsigned begin = 0; begin < lanes_of(&i); begin += lanes) {
        llvm::Value* const a = slice(builder, shifted, begin, lanes);
        llvm::Value* const b = slice(builder, odd, begin, lanes);
        made.push_back(builder.CreateIntrinsic(
            llvm::Intrinsic::x86_avx512_pternlog_d_512,
            {a, b, llvm::ConstantInt::get(a->getType(), upper), builder.getInt32(a_or_both_b_and_c)}));
    }
    return llvm::concatenateVectors(builder, made);
}

// bits + 0x7fff + bit 16, which rounds to the upper half, as one sum or another by a mask (AVX-512), or null.
llvm::Value* round(llvm::Instruction& i) {
    llvm::Value* bits = nullptr;
    const auto bit = m_And(m_LShr(m_Deferred(bits), m_SpecificInt(16)), m_SpecificInt(1));
    if (!has_elements(&i, 32) || !match(&i, m_c_Add(m_c_Add(m_Value(bits), m_SpecificInt(0x7fff)), bit)))
        return nullptr;
    llvm::IRBuilder<> builder(&i);
    const auto all = [&](std::uint64_t value) { return llvm::ConstantInt::get(bits->getType(), value); };
    auto* const odd = builder.CreateICmpNE(builder.CreateAnd(bits, all(0x10000)), all(0));
    return builder.CreateSelect(odd, builder.CreateAdd(bits, all(0x8000)), builder.CreateAdd(bits, all(0x7fff)));
}

// v < 0 ? 0 : v as a maximum, which gives its second operand of two zeros or where one is NaN; or null.
llvm::Value* maximum(llvm::Instruction& i, unsigned register_bytes) {
    const unsigned lanes = register_bytes / 4;
    llvm::Value* v = nullptr;
    const bool found = match(&i, m_Select(m_SpecificFCmp(llvm::CmpInst::FCMP_OLT, m_Value(v), m_AnyZeroFP()),
                                          m_PosZeroFP(), m_Deferred(v))) ||
                       match(&i, m_Select(m_SpecificFCmp(llvm::CmpInst::FCMP_UGE, m_Value(v), m_AnyZeroFP()),
                                          m_Deferred(v), m_PosZeroFP()));
    if (!found || !i.getType()->getScalarType()->isFloatTy() || lanes_of(&i) == 0 || lanes_of(&i) % lanes != 0) {
        return nullptr;
    }
    llvm::IRBuilder<> builder(&i);
    Values made;
    for (unsigned begin = 0; begin < lanes_of(v); begin += lanes) {
        llvm::Value* const part = slice(builder, v, begin, lanes);
        made.push_back(builder.CreateIntrinsic(
            register_bytes == 32 ? llvm::Intrinsic::x86_avx_max_ps_256 : llvm::Intrinsic::x86_sse_max_ps,
            {llvm::Constant::getNullValue(part->getType()), part}));
    }
    return llvm::concatenateVectors(builder, made);
}

}  // namespace

void select_shuffles(llvm::Module& module, unsigned register_bytes) {
    for (llvm::Function& function : module) {
        if (function.isDeclaration()) continue;
        OddWords odd(function);
        std::vector<llvm::Instruction*> replaced;
        for (llvm::BasicBlock& block : function) {
            for (llvm::Instruction& i : llvm::make_early_inc_range(block)) {
                llvm::Value* made = nullptr;
                if (register_bytes >= 32) made = widen(i, register_bytes, odd);
                if (!made && register_bytes == 64) made = narrow(i);
                if (!made && register_bytes == 64) made = pair(i);
                if (!made && register_bytes == 64) made = round(i);
                if (!made && register_bytes < 64) made = maximum(i, register_bytes);
                if (!made) continue;
                i.replaceAllUsesWith(made);
                replaced.push_back(&i);
            }
        }
        for (llvm::Instruction* i : replaced) i->eraseFromParent();
    }
}

}  // namespace fusebn
