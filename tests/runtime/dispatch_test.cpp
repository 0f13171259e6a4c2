// Which row, variant and entry a call runs.
#include "dispatch.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "check.h"
#include "cpu.h"
#include "fake_library.h"

namespace fusebn::test {
namespace {

constexpr std::int32_t any = FUSEBN_ANY;

// Puts back what a test has changed.
struct RestoreInstructionSet {
    InstructionSet before = instruction_set();
    ~RestoreInstructionSet() { EXPECT_TRUE(set_instruction_set(before).ok()); }
};

class Dispatch : public testing::Test {
protected:
    alignas(64) float x_[2048] = {};
    alignas(64) float y_[2048] = {};

    Status run(BatchNorm& layer, Layout layout, const Extents& extents, std::size_t y_offset = 0,
               const Extents& y_strides = {}) {
        return layer.forward(tensor(static_cast<const float*>(x_), layout, extents),
                             tensor(y_ + y_offset, layout, extents, y_strides));
    }
    std::string kernel(BatchNorm& layer, Layout layout, const Extents& extents) {
        const Status s = run(layer, layout, extents);
        return s.ok() ? BatchNorm::last_kernel() : s.message();
    }
};

TEST_F(Dispatch, NamesTheKernelThatRan) {
    FakeLibrary library;
    library.add(Op::inference, View::planar, {2, 4, 9});
    BatchNorm2d layer(4, library.table());
    layer.eval();
    EXPECT_EQ(kernel(layer, Layout::NCHW, {2, 4, 3, 3}), "bn_inference_f32_planar_n2_c4_s9_none x86-64 [plain loops]");
    EXPECT_FALSE(run(layer, Layout::NCHW, {3, 4, 3, 3}).ok());
    EXPECT_NE(BatchNorm::last_kernel().find("_n2_c4_s9"), std::string::npos) << "a refused call ran none";
}

TEST_F(Dispatch, PrefersFixedExtentsThenPartlyFreeThenGeneric) {
    FakeLibrary library;
    library.add_generic();
    library.add(Op::inference, View::planar, {any, 4, 9});
    library.add(Op::inference, View::planar, {2, 4, 9});
    library.add(Op::inference, View::planar, {any, 4, any});
    library.add(Op::inference, View::planar, {2, 5, 9});
    library.add(Op::inference, View::interleaved, {any, 4, 1});
    BatchNorm2d layer(4, library.table());
    layer.eval();
    EXPECT_NE(kernel(layer, Layout::NCHW, {2, 4, 3, 3}).find("planar_n2_c4_s9_none"), std::string::npos);
    EXPECT_NE(kernel(layer, Layout::NCHW, {3, 4, 3, 3}).find("planar_nany_c4_s9_none"), std::string::npos);
    EXPECT_NE(kernel(layer, Layout::NCHW, {3, 4, 2, 3}).find("planar_nany_c4_sany_none"), std::string::npos);
    EXPECT_NE(kernel(layer, Layout::NHWC, {3, 2, 3, 4}).find("interleaved_rany_c4_none"), std::string::npos);
    BatchNorm2d other(6, library.table());
    other.eval();
    EXPECT_NE(kernel(other, Layout::NCHW, {2, 6, 3, 3}).find("planar_nany_cany_sany_none"), std::string::npos);
}

TEST_F(Dispatch, CollapsesSpatialExtents) {
    FakeLibrary library;
    library.add(Op::inference, View::planar, {2, 4, 12}).add(Op::inference, View::interleaved, {24, 4, 1});
    BatchNorm3d layer(4, library.table());
    layer.eval();
    EXPECT_NE(kernel(layer, Layout::NCDHW, {2, 4, 2, 3, 2}).find("_s12_"), std::string::npos);
    EXPECT_NE(kernel(layer, Layout::NDHWC, {2, 2, 3, 2, 4}).find("_r24_"), std::string::npos);
}

TEST_F(Dispatch, RefusesWithoutAKernelAndSaysWhatToAdd) {
    FakeLibrary library;
    library.add(Op::inference, View::planar, {2, 4, 9}, {{}}, Activation::relu);
    BatchNormOptions options;
    options.activation = Activation::relu;
    BatchNorm2d layer(4, library.table(), options);
    layer.eval();
    EXPECT_TRUE(run(layer, Layout::NCHW, {2, 4, 3, 3}).ok());
    y_[0] = -7;
    Status s = run(layer, Layout::NCHW, {2, 4, 3, 5});
    EXPECT_EQ(s.code(), ErrorCode::no_kernel);
    EXPECT_EQ(y_[0], -7);
    EXPECT_NE(s.message().find("bn_inference_f32_planar_n2_c4_s15_relu"), std::string::npos) << s.message();
    EXPECT_NE(s.message().find("op = \"inference\", layout = \"NCHW\", shape = [2, 4, 3, 5], activation = \"relu\""),
              std::string::npos)
        << s.message();
    layer.train();
    s = run(layer, Layout::NHWC, {2, 3, 3, 4});
    EXPECT_EQ(s.code(), ErrorCode::no_kernel);
    EXPECT_NE(s.message().find("bn_train_forward_f32_interleaved_r18_c4_relu"), std::string::npos) << s.message();
    EXPECT_EQ(layer.state().num_batches_tracked, 0);
    BatchNorm2d plain(4, library.table());
    plain.eval();
    EXPECT_EQ(run(plain, Layout::NCHW, {2, 4, 3, 3}).code(), ErrorCode::no_kernel) << "another activation";
}

TEST_F(Dispatch, TakesTheHighestVariantThatIsAllowed) {
    if (!supports(InstructionSet::x86_64_avx2)) GTEST_SKIP() << "needs AVX2";
    const RestoreInstructionSet restore;
    FakeLibrary library;
    library.add(Op::inference, View::planar, {2, 4, 9}, {{InstructionSet::x86_64}, {InstructionSet::x86_64_avx2}});
    BatchNorm2d layer(4, library.table());
    layer.eval();
    ASSERT_TRUE(set_instruction_set(InstructionSet::x86_64_avx2).ok());
    EXPECT_NE(kernel(layer, Layout::NCHW, {2, 4, 3, 3}).find(" x86-64-avx2 ["), std::string::npos);
    ASSERT_TRUE(set_instruction_set(InstructionSet::x86_64).ok());
    EXPECT_EQ(instruction_set(), InstructionSet::x86_64);
    EXPECT_NE(kernel(layer, Layout::NCHW, {2, 4, 3, 3}).find(" x86-64 ["), std::string::npos);
}

TEST_F(Dispatch, FallsBackToARowWithAVariantForThisCpu) {
    if (!supports(InstructionSet::x86_64_avx2)) GTEST_SKIP() << "needs AVX2";
    const RestoreInstructionSet restore;
    FakeLibrary library = generic_library();
    library.add(Op::inference, View::planar, {2, 4, 9}, {{InstructionSet::x86_64_avx2}});
    BatchNorm2d layer(4, library.table());
    layer.eval();
    ASSERT_TRUE(set_instruction_set(InstructionSet::x86_64).ok());
    EXPECT_NE(kernel(layer, Layout::NCHW, {2, 4, 3, 3}).find("nany_cany_sany"), std::string::npos);
}

TEST_F(Dispatch, RefusesWhereNoVariantRunsOnThisCpu) {
    if (!supports(InstructionSet::x86_64_avx2)) GTEST_SKIP() << "needs AVX2";
    const RestoreInstructionSet restore;
    FakeLibrary library;
    library.add(Op::inference, View::planar, {2, 4, 9},
                {{InstructionSet::x86_64_avx2}, {InstructionSet::x86_64_avx512}});
    BatchNorm2d layer(4, library.table());
    layer.eval();
    ASSERT_TRUE(set_instruction_set(InstructionSet::x86_64).ok());
    y_[0] = -7;
    const Status s = run(layer, Layout::NCHW, {2, 4, 3, 3});
    EXPECT_EQ(s.code(), ErrorCode::unsupported_cpu);
    EXPECT_EQ(y_[0], -7);
    EXPECT_NE(s.message().find("x86-64-avx2, x86-64-avx512"), std::string::npos) << s.message();
    EXPECT_NE(s.message().find("add \"x86-64\" to targets"), std::string::npos) << s.message();
}

TEST_F(Dispatch, UsesTheUnalignedEntryWhereYIsNotAligned) {
    FakeLibrary library = generic_library(Activation::none, {{InstructionSet::x86_64, 32, true}});
    BatchNorm2d layer(8, library.table());
    const auto unaligned = [&](Layout layout, const Extents& extents, std::size_t offset, const Extents& strides = {}) {
        const Status s = run(layer, layout, extents, offset, strides);
        EXPECT_TRUE(s.ok()) << s.message();
        EXPECT_EQ(BatchNorm::last_kernel().find("y is not aligned") != std::string::npos, fake_run.unaligned_entry);
        return fake_run.unaligned_entry;
    };
    EXPECT_FALSE(unaligned(Layout::NCHW, {2, 8, 2, 4}, 0));
    EXPECT_TRUE(unaligned(Layout::NCHW, {2, 8, 2, 4}, 1)) << "the address";
    EXPECT_FALSE(unaligned(Layout::NCHW, {2, 8, 2, 4}, 8));
    EXPECT_TRUE(unaligned(Layout::NCHW, {2, 8, 3, 3}, 0)) << "the channel stride";
    EXPECT_TRUE(unaligned(Layout::NCHW, {2, 8, 2, 4}, 0, {68, 8, 4, 1})) << "the batch stride";
    EXPECT_FALSE(unaligned(Layout::NCHW, {1, 8, 2, 4}, 0, {68, 8, 4, 1})) << "nothing steps by it";
    EXPECT_FALSE(unaligned(Layout::NHWC, {2, 3, 3, 8}, 0));
    EXPECT_TRUE(unaligned(Layout::NHWC, {2, 3, 3, 8}, 0, {90, 30, 10, 1}));
}

// A dense variant's: gaps between channels, and of alignment only that of the batch's stride.
TEST_F(Dispatch, UsesTheEntryForAnyTensorsWhereChannelsHaveGaps) {
    FakeVariant variant{InstructionSet::x86_64, 32, true};
    variant.dense = true;
    FakeLibrary library = generic_library(Activation::none, {variant});
    BatchNorm2d layer(8, library.table());
    const auto kernel_of = [&](const Extents& extents, const Extents& x_strides, const Extents& y_strides,
                               std::size_t y_offset = 0) {
        const Status s = layer.forward(tensor(static_cast<const float*>(x_), Layout::NCHW, extents, x_strides),
                                       tensor(y_ + y_offset, Layout::NCHW, extents, y_strides));
        EXPECT_TRUE(s.ok()) << s.message();
        EXPECT_EQ(BatchNorm::last_kernel().find(']') + 1 == BatchNorm::last_kernel().size(), !fake_run.unaligned_entry);
        return BatchNorm::last_kernel();
    };
    EXPECT_EQ(kernel_of({2, 8, 3, 3}, {}, {}).find(" apart"), std::string::npos) << "a channel stride of 36 bytes";
    EXPECT_FALSE(fake_run.unaligned_entry);
    EXPECT_EQ(kernel_of({2, 8, 3, 3}, {80, 9, 3, 1}, {80, 9, 3, 1}).find(" apart"), std::string::npos);
    EXPECT_FALSE(fake_run.unaligned_entry);
    EXPECT_NE(kernel_of({2, 8, 3, 3}, {80, 10, 3, 1}, {}).find(" apart: x has gaps between channels"),
              std::string::npos);
    EXPECT_NE(kernel_of({2, 8, 3, 3}, {}, {80, 10, 3, 1}).find(" apart: y has gaps between channels"),
              std::string::npos);
    EXPECT_NE(kernel_of({2, 8, 3, 3}, {}, {}, 1).find("y is not aligned"), std::string::npos);
    EXPECT_NE(kernel_of({2, 8, 3, 3}, {}, {81, 9, 3, 1}).find("y is not aligned"), std::string::npos);
    EXPECT_NE(kernel_of({8, 8, 1, 1}, {16, 2, 1, 1}, {}).find(" apart: x"), std::string::npos);
}

TEST_F(Dispatch, KeepsToTheOneEntryOfAVariantThatTakesAnyY) {
    FakeLibrary library = generic_library(Activation::none, {{InstructionSet::x86_64, 32, false}});
    BatchNorm2d layer(4, library.table());
    EXPECT_TRUE(run(layer, Layout::NCHW, {2, 4, 3, 3}, 1).ok());
    EXPECT_FALSE(fake_run.unaligned_entry);
}

TEST_F(Dispatch, MakesOneSpatialElementInterleavedWhereTheLibraryHasThatView) {
    FakeLibrary both = generic_library();
    both.add(Op::inference, View::planar, {3, 4, 1});
    BatchNorm2d layer(4, both.table());
    layer.eval();
    EXPECT_NE(kernel(layer, Layout::NCHW, {2, 4, 1, 1}).find("interleaved_rany"), std::string::npos);
    EXPECT_EQ(fake_run["y"].extents(), (std::vector<std::int32_t>{4, 2}));
    EXPECT_EQ(fake_run["y"].strides(), (std::vector<std::int32_t>{1, 4}));
    EXPECT_NE(kernel(layer, Layout::NCHW, {3, 4, 1, 1}).find("planar_n3_c4_s1"), std::string::npos) << "its own kernel";
    ASSERT_TRUE(run(layer, Layout::NCHW, {2, 4, 1, 1}, 0, {8, 2, 1, 1}).ok());
    EXPECT_NE(BatchNorm::last_kernel().find("planar_nany"), std::string::npos) << "the channels are not dense";

    FakeLibrary planar_only;
    planar_only.add(Op::inference, View::planar, {any, any, any});
    BatchNorm2d other(4, planar_only.table());
    other.eval();
    EXPECT_NE(kernel(other, Layout::NCHW, {2, 4, 1, 1}).find("planar_nany"), std::string::npos);

    FakeLibrary interleaved_only;
    interleaved_only.add(Op::inference, View::interleaved, {any, any, 1});
    BatchNorm2d third(4, interleaved_only.table());
    third.eval();
    EXPECT_NE(kernel(third, Layout::NCHW, {2, 4, 1, 1}).find("interleaved_rany"), std::string::npos);
}

// Tensors of more than 2^31 elements, of which no memory is touched: the index alone is asked.
TEST_F(Dispatch, UsesLargeRowsOnlyBeyondThirtyTwoBits) {
    FakeLibrary library;
    library.add(Op::inference, View::planar, {any, any, any}, {{}}, Activation::none, true);
    library.add(Op::inference, View::planar, {any, any, any});
    library.add(Op::inference, View::planar, {40000, 64, 1000});  // more than 2^31 elements, but not said to be large
    library.add(Op::train_forward, View::planar, {any, any, any});
    detail::KernelIndex index;
    ASSERT_TRUE(index.build(library.table(), 64, Activation::none, "").ok());
    const auto name = [&](Op op, std::int64_t n, std::int64_t n_stride) -> std::string {
        ConstTensor x(reinterpret_cast<const void*>(1ll << 20), DataType::f32, Layout::NCL, {n, 64, 1000},
                      {n_stride, 1000, 1});
        ConstTensor y(reinterpret_cast<const void*>(1ll << 40), DataType::f32, Layout::NCL, {n, 64, 1000});
        detail::Call call;
        const detail::Given given[] = {{detail::Role::x, "x", &x}, {detail::Role::out, "y", &y}};
        const Status s = detail::check_call(1, 64, given, 2, call);
        EXPECT_TRUE(s.ok()) << s.message();
        const detail::Choice choice = index.find(op, Residual::none, call);
        if (choice.kernel != nullptr) return choice.kernel->name;
        const Status refusal = index.refusal(op, Residual::none, call, x);
        EXPECT_EQ(refusal.code(), ErrorCode::too_large);
        return refusal.message();
    };
    const std::string small = "bn_inference_f32_planar_nany_cany_sany_none", large = small + "_large";
    EXPECT_EQ(name(Op::inference, 30000, 64000), small);
    EXPECT_EQ(name(Op::inference, 33554, 64000), small) << "2147456000 elements";
    EXPECT_EQ(name(Op::inference, 33555, 64000), large) << "2147520000 elements";
    EXPECT_EQ(name(Op::inference, 40000, 64000), large);
    EXPECT_EQ(name(Op::inference, 2, 2147483647), large) << "x's strides alone";
    EXPECT_NE(name(Op::train_forward, 40000, 64000).find("split the tensor along the batch"), std::string::npos);
}

// The bits of a mask are counted as elements are, and their rows are rounded up.
TEST_F(Dispatch, CountsTheBitsOfAMask) {
    const auto kernel_for = [](Op op, Residual residual, const Extents& extents, const Extents& strides = {}) {
        FakeLibrary library;
        const FakeRow row{op, View::planar, Activation::relu, residual};
        FakeRow large = row;
        large.large = true;
        library.add(row, {any, any, any}).add(large, {any, any, any});
        detail::KernelIndex index;
        const auto channels = static_cast<int>(extents[1]);
        EXPECT_TRUE(index.build(library.table(), channels, Activation::relu, "").ok());
        detail::Call call;
        ConstTensor t[3];
        for (int i = 0; i < 3; ++i) {
            t[i] = ConstTensor(reinterpret_cast<const void*>((i + 1ll) << 44), DataType::f32, Layout::NCL, extents,
                               strides);
        }
        const detail::Role addend = op == Op::backward ? detail::Role::dy : detail::Role::addend;
        const detail::Given given[] = {
            {detail::Role::x, "x", &t[0]}, {addend, "residual", &t[1]}, {detail::Role::out, "y", &t[2]}};
        const Status s = detail::check_call(1, channels, given, 3, call);
        EXPECT_TRUE(s.ok()) << s.message();
        const detail::Choice choice = index.find(op, residual, call);
        if (choice.kernel != nullptr) return std::string(choice.kernel->large != 0 ? "large" : "small");
        const Status refusal = index.refusal(op, residual, call, t[0]);
        EXPECT_EQ(refusal.code(), ErrorCode::too_large);
        EXPECT_NE(refusal.message().find("the bits kept for backward"), std::string::npos) << refusal.message();
        return std::string("refused");
    };
    // Rows of 2 elements, or 32 bits: 2^31 bits are 2^27 elements.
    const Extents last_small{(1 << 20) - 1, 64, 2}, first_large{(1 << 20) + 1, 64, 2};
    for (const Op op : {Op::train_forward, Op::backward}) {
        EXPECT_EQ(kernel_for(op, Residual::add, last_small), "small");
        EXPECT_EQ(kernel_for(op, Residual::add, first_large), "large");
        EXPECT_EQ(kernel_for(op, Residual::none, first_large), "small") << "keeps no mask";
        // Strides of kernels have 32 bits; one that nothing is multiplied by need not.
        EXPECT_EQ(kernel_for(op, Residual::add, {2, 1 << 26, 2}), "refused");
        EXPECT_EQ(kernel_for(op, Residual::add, {1, 1 << 26, 2}), "small");
        EXPECT_EQ(kernel_for(op, Residual::add, {1, (1 << 26) + 1, 2}), "large");
        EXPECT_EQ(kernel_for(op, Residual::none, {2, 1 << 26, 2}), "small");
    }
    EXPECT_EQ(kernel_for(Op::inference, Residual::add, first_large), "small");
    EXPECT_EQ(kernel_for(Op::inference, Residual::add, {2, 1 << 26, 2}), "small");
}

TEST_F(Dispatch, LooksAtEveryTensorsReach) {
    FakeLibrary library;
    library.add({Op::backward, View::planar}, {any, any, any});
    detail::KernelIndex index;
    ASSERT_TRUE(index.build(library.table(), 4, Activation::none, "").ok());
    using detail::Role;
    const Role roles[] = {Role::x, Role::dy, Role::out};
    for (int far = -1; far < 3; ++far) {
        ConstTensor t[3];
        detail::Given given[3];
        for (int i = 0; i < 3; ++i) {
            t[i] = ConstTensor(reinterpret_cast<const void*>((i + 1ll) << 44), DataType::f32, Layout::NCL, {3, 4, 5},
                               {i == far ? 1ll << 30 : 20, 5, 1});
            given[i] = {roles[i], "t", &t[i]};
        }
        detail::Call call;
        ASSERT_TRUE(detail::check_call(1, 4, given, 3, call).ok());
        EXPECT_EQ(index.find(Op::backward, Residual::none, call).kernel != nullptr, far == -1) << far;
    }
}

TEST_F(Dispatch, NamesTheTypeThatALibraryLacks) {
    FakeLibrary library = generic_library();
    BatchNorm1d layer(4, library.table());
    std::uint16_t x[20] = {}, y[20] = {};
    const Status s = layer.forward(ConstTensor(x, DataType::bf16, Layout::NC, {5, 4}),
                                   Tensor(y, DataType::bf16, Layout::NC, {5, 4}));
    EXPECT_EQ(s.code(), ErrorCode::no_kernel);
    EXPECT_NE(s.message().find("bn_train_forward_bf16_interleaved_r5_c4_none"), std::string::npos) << s.message();
    EXPECT_NE(s.message().find("activation = \"none\", dtype = \"bf16\""), std::string::npos) << s.message();
}

TEST(InstructionSets, CanBeChosenByNameUpToWhatIsThere) {
    using detail::choose_instruction_set;
    std::string complaint;
    const auto base = InstructionSet::x86_64, avx2 = InstructionSet::x86_64_avx2,
               avx512 = InstructionSet::x86_64_avx512;
    EXPECT_EQ(choose_instruction_set(nullptr, avx512, complaint), avx512);
    EXPECT_EQ(choose_instruction_set("", avx512, complaint), avx512);
    EXPECT_EQ(choose_instruction_set("x86-64", avx512, complaint), base);
    EXPECT_EQ(choose_instruction_set("avx2", avx512, complaint), avx2);
    EXPECT_EQ(choose_instruction_set("x86-64-avx2", avx512, complaint), avx2);
    EXPECT_EQ(choose_instruction_set("avx512", avx512, complaint), avx512);
    EXPECT_EQ(complaint, "");
    EXPECT_EQ(choose_instruction_set("avx512", avx2, complaint), avx2);
    EXPECT_NE(complaint.find("not supported"), std::string::npos);
    complaint.clear();
    EXPECT_EQ(choose_instruction_set("sse9", avx2, complaint), avx2);
    EXPECT_NE(complaint.find("FUSEBN_CPU=sse9 is not known"), std::string::npos);
}

TEST(InstructionSets, AreRefusedWhereNotSupported) {
    const InstructionSet before = instruction_set();
    EXPECT_EQ(set_instruction_set(static_cast<InstructionSet>(9)).code(), ErrorCode::unsupported_cpu);
    EXPECT_EQ(set_instruction_set(static_cast<InstructionSet>(-1)).code(), ErrorCode::unsupported_cpu);
    EXPECT_EQ(instruction_set(), before);
    EXPECT_TRUE(supports(before));
}

}  // namespace
}  // namespace fusebn::test
