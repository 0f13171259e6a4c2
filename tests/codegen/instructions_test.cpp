// What the LLVM stage makes of a kernel's arithmetic, instruction by instruction: no contraction, few conversions,
// registers of the instruction set.

#include <algorithm>
#include <string>

#include "codegen/on_every.h"

using namespace fusebn;
using namespace codegen;

namespace {

using Contraction = OnEvery;

// A product that is rounded once, with its sum, on one instruction set and twice on another would change bits.
TEST_P(Contraction, IsNowhere) {
    row([](const KernelSpec&, const Schedule&, const Kernel& kernel) { EXPECT_EQ(kernel.count(is_fused), 0); });
}

using Halves = OnEvery;

// Along a row elements of 16 bits are widened and narrowed in pairs, by shifts and masks.
TEST_P(Halves, AreNotPutInOrderWhereItDoesNotMatter) {
    const auto is_shuffle = [](const Instruction& i) {
        for (const char* name : {"pmovzxwd", "pmovdw", "packusdw", "packssdw", "punpck", "pshufb", "vperm"}) {
            if (i.name.find(name) != std::string::npos) return true;
        }
        return false;
    };
    int rows = 0;
    row([&](const KernelSpec& spec, const Schedule&, const Kernel& kernel) {
        if (spec.op != Op::inference || spec.view != View::planar || spec.dtype != DataType::bf16) return;
        ++rows;
        EXPECT_EQ(count(kernel.reached_from("entry"), is_shuffle), 0);
    });
    EXPECT_GT(rows, 1);
}

// Of the functions that store past the cache: their loops have whole vectors alone.
int in_streams(const Kernel& kernel, const std::string& name) {
    int found = 0;
    for (const Function& f : kernel.functions) {
        if (f.count(is_streaming_store) == 0) continue;
        found += f.count([&](const Instruction& i) { return i.name.find(name) != std::string::npos; });
    }
    return found;
}

TEST_P(Halves, AreWidenedRoundedAndNarrowedInFewInstructions) {
    const bool avx2 = GetParam() == InstructionSet::x86_64_avx2, avx512 = GetParam() == InstructionSet::x86_64_avx512;
    KernelSpec spec = interleaved(Op::inference, 512, 64);
    spec.dtype = DataType::bf16;
    const Kernel& kernel = assembled({spec, "vector=16 unroll=4 parallel=rows task=16 store=stream"});
    constexpr int lanes = 64;
    // Sixteen bytes in both halves of a register and a shuffle in each; a permutation of words.
    EXPECT_EQ(in_streams(kernel, "pmovzxwd"), 0);
    EXPECT_EQ(in_streams(kernel, "vpshufb"), avx2 ? lanes / 8 : 0);
    EXPECT_EQ(in_streams(kernel, "vbroadcasti128"), avx2 ? lanes / 8 : 0);
    // One register's words, every other one zero; two registers' upper words.
    EXPECT_EQ(in_streams(kernel, "vpermw"), avx512 ? lanes / 16 : 0);
    EXPECT_EQ(in_streams(kernel, "vpermt2w") + in_streams(kernel, "vpermi2w"), avx512 ? lanes / 32 : 0);
    EXPECT_EQ(in_streams(kernel, "vpmovdw"), 0);
    EXPECT_EQ(in_streams(kernel, "vptestmd") + in_streams(kernel, "vptestnmd"), avx512 ? lanes / 16 : 0);
}

TEST_P(Halves, OfAReluAreMaxima) {
    for (const DataType dtype : {DataType::bf16, DataType::f16}) {
        KernelSpec spec = interleaved(Op::inference, 512, 64);
        spec.dtype = dtype;
        const Kernel& kernel = assembled({spec, "vector=16 unroll=2 parallel=rows task=16 store=stream"});
        const int registers = GetParam() == InstructionSet::x86_64        ? 8
                              : GetParam() == InstructionSet::x86_64_avx2 ? 4
                                                                          : 2;
        EXPECT_EQ(in_streams(kernel, "maxps"), registers) << to_string(dtype);
        EXPECT_EQ(in_streams(kernel, "cmpnltps") + in_streams(kernel, "cmpltps"), 0) << to_string(dtype);
    }
}

// Where there is an instruction for it, which knows NaNs.
TEST_P(Halves, OfF16AreNarrowedWithoutACaseForNans) {
    if (GetParam() == InstructionSet::x86_64) return;
    KernelSpec spec = interleaved(Op::inference, 512, 64, Activation::none);
    spec.dtype = DataType::f16;
    const Kernel& kernel = assembled({spec, "vector=16 unroll=2 parallel=rows task=16 store=stream"});
    EXPECT_EQ(in_streams(kernel, "vcvtps2ph"), GetParam() == InstructionSet::x86_64_avx2 ? 4 : 2);
    for (const char* name : {"vcmp", "vpcmp", "blend", "vptest"}) EXPECT_EQ(in_streams(kernel, name), 0) << name;
}

using Folds = OnEvery;

// The lanes of a planar chunk become f64 in registers, not two by two.
TEST_P(Folds, AreOfWholeRegisters) {
    const int width = GetParam() == InstructionSet::x86_64 ? 16 : GetParam() == InstructionSet::x86_64_avx2 ? 32 : 64;
    for (const Op op : {Op::train_forward, Op::backward}) {
        int found = 0;
        for (const Function& f : assembled({planar(op, 4, 8, 4096), ""}).functions) {
            for (const Instruction& i : f.body) {
                if (i.label || i.name.find("cvtps2pd") == std::string::npos) continue;
                ++found;
                EXPECT_EQ(register_bytes(i), width) << i.name << " " << i.operands;
            }
        }
        EXPECT_GT(found, 0);
    }
}

using Registers = OnEvery;

TEST_P(Registers, AreThoseOfTheInstructionSet) {
    row([](const KernelSpec&, const Schedule& schedule, const Kernel& kernel) {
        int widest = 0;
        for (const Function& f : kernel.functions) {
            for (const Instruction& i : f.body) {
                if (i.label) continue;
                const std::string text = f.name + ": " + i.name + " " + i.operands;
                widest = std::max(widest, register_bytes(i));
                // On AVX a legacy instruction would wait for the upper halves; without AVX no other would run.
                const bool vex = i.name[0] == 'v';
                if (GetParam() == InstructionSet::x86_64) {
                    EXPECT_FALSE(vex) << text;
                }
                if (GetParam() != InstructionSet::x86_64 && register_bytes(i) > 0) {
                    EXPECT_TRUE(vex) << text;
                }
                if (GetParam() != InstructionSet::x86_64_avx512) {
                    EXPECT_EQ(i.operands.find("%k"), std::string::npos) << text;
                    for (int r = 16; r < 32; ++r) {
                        EXPECT_EQ(i.operands.find("mm" + std::to_string(r)), std::string::npos) << text;
                    }
                }
            }
        }
        const int width = GetParam() == InstructionSet::x86_64        ? 16
                          : GetParam() == InstructionSet::x86_64_avx2 ? 32
                                                                      : 64;
        EXPECT_LE(widest, width);
        if (schedule.vector * element_bytes(DataType::f32) >= width) {
            EXPECT_EQ(widest, width);
        }
    });
}

INSTANTIATE_TEST_SUITE_P(On, Contraction, testing::ValuesIn(instruction_sets()), OnEvery::test_name);
INSTANTIATE_TEST_SUITE_P(On, Halves, testing::ValuesIn(instruction_sets()), OnEvery::test_name);
INSTANTIATE_TEST_SUITE_P(On, Folds, testing::ValuesIn(instruction_sets()), OnEvery::test_name);
INSTANTIATE_TEST_SUITE_P(On, Registers, testing::ValuesIn(instruction_sets()), OnEvery::test_name);

}  // namespace
