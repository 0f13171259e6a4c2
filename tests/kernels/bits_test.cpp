// The numerical contract: the same bits for any schedule, thread count and instruction set, on the specialised kernel
// and on the generic one.

#include <kernels_generic.h>
#include <kernels_plain.h>
#include <kernels_split.h>
#include <kernels_stream.h>

#include <set>

#include "kernels/run.h"

using namespace fusebn;
using namespace kernels;

namespace {

const KernelTable* const tables[] = {&kernels_plain::kernels(), &kernels_split::kernels(), &kernels_stream::kernels(),
                                     &kernels_generic::kernels()};

const std::vector<Case>& all() {
    static const std::vector<Case> of = [] {
        std::vector<Case> both = cases(kernels_plain::kernels());
        std::set<std::string> names;
        for (const Case& c : both) names.insert(name(c));
        for (const Case& c : cases(kernels_stream::kernels())) {
            if (names.insert(name(c)).second) both.push_back(c);
        }
        return both;
    }();
    return of;
}
std::vector<std::size_t> places(bool backward_alone) {
    std::vector<std::size_t> of;
    for (std::size_t i = 0; i < all().size(); ++i) {
        if (!backward_alone || all()[i].op == Op::backward) of.push_back(i);
    }
    return of;
}
std::string test_name(const testing::TestParamInfo<std::size_t>& info) {
    return std::to_string(info.param) + "_" + name(all()[info.param]);
}

using Bits = testing::TestWithParam<std::size_t>;
using BackwardBits = Bits;

TEST_P(Bits, AreTheSameForEveryThreadCountInstructionSetAndSchedule) {
    const Case c = all()[GetParam()];
    for (Data data : {Data::ordinary, c.dtype == DataType::f32 ? Data::mean_1e6 : Data::mean_1e2}) {
        const Inputs inputs = random_inputs(c, data);
        const Result first = run(kernels_plain::kernels(), c, inputs, {.threads = 1});
        for (const KernelTable* table : tables) {
            for (InstructionSet isa : instruction_sets_here()) {
                for (int threads : {1, 2, 3, 8}) {
                    const Result result = run(*table, c, inputs, {.isa = isa, .threads = threads});
                    EXPECT_EQ(difference(first, result), "") << result.kernel << " with " << threads << " threads";
                    EXPECT_TRUE(result.rest_untouched) << result.kernel;
                }
            }
        }
    }
}

TEST_P(Bits, AreTheSameInPlaceAndWithStrides) {
    const Case c = all()[GetParam()];
    const bool back = c.op == Op::backward, two = c.residual != Residual::none;
    std::vector<How> hows = {{.outer_gap = 8}, {.channel_gap = 3, .outer_gap = 16}, {.offset = 1}};
    hows.push_back({.out = Place::x});
    hows.push_back({.out = Place::x, .channel_gap = 16});
    if (back) hows.push_back({.out = Place::dy, .outer_gap = 5});
    if (back && two) hows.push_back({.out = Place::dy, .addend_out = Place::addend});
    if (back && two) hows.push_back({.out = Place::x, .addend_out = Place::dy, .channel_gap = 5});
    if (!back && c.residual == Residual::add) hows.push_back({.out = Place::addend, .outer_gap = 7});

    const Inputs inputs = random_inputs(c, Data::ordinary);
    const Result first = run(kernels_plain::kernels(), c, inputs);
    for (const KernelTable* table : tables) {
        for (InstructionSet isa : instruction_sets_here()) {
            for (How how : hows) {
                how.isa = isa;
                const Result result = run(*table, c, inputs, how);
                EXPECT_EQ(difference(first, result), "") << result.kernel;
                EXPECT_TRUE(result.rest_untouched) << result.kernel;
            }
        }
    }
}

// By constant statistics, and the parameters' gradients alone.
TEST_P(BackwardBits, AreTheSameInItsOtherModes) {
    const Case c = all()[GetParam()];
    const Inputs inputs = random_inputs(c, Data::ordinary);
    const Result whole = run(kernels_plain::kernels(), c, inputs);
    const Result frozen = run(kernels_plain::kernels(), c, inputs, {.frozen = true});
    for (const KernelTable* table : tables) {
        for (InstructionSet isa : instruction_sets_here()) {
            const Result result = run(*table, c, inputs, {.isa = isa, .threads = 3, .frozen = true});
            EXPECT_EQ(difference(frozen, result), "") << result.kernel;
            Result sums = run(*table, c, inputs, {.isa = isa, .threads = 3, .without_tensors = true});
            EXPECT_TRUE(sums.rest_untouched) << sums.kernel;
            sums.tensors = whole.tensors;
            EXPECT_EQ(difference(whole, sums), "") << sums.kernel;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Bits, testing::ValuesIn(places(false)), test_name);
INSTANTIATE_TEST_SUITE_P(Kernels, BackwardBits, testing::ValuesIn(places(true)), test_name);

TEST(GenericKernel, RunsWhateverHasNoKernelOfItsOwn) {
    const Case c{Op::backward, View::planar, DataType::f32, Activation::relu, Residual::add, 3, 5, 77};
    const Result result = run(kernels_plain::kernels(), c, random_inputs(c, Data::ordinary));
    EXPECT_NE(result.kernel.find("bn_backward_f32_planar_nany_cany_sany_add_relu"), std::string::npos) << result.kernel;
}

// dx may lie where the other result, or y where the mask, is still to be computed from.
TEST(TwoResults, AreBothMadeBeforeEitherIsStored) {
    for (const Residual residual : {Residual::add, Residual::batch_norm}) {
        for (const Op op : {Op::train_forward, Op::backward}) {
            const Case c{op, View::planar, DataType::f32, Activation::relu, residual, 4, 8, 784};
            const Inputs inputs = random_inputs(c, Data::ordinary);
            const Result apart = run(kernels_stream::kernels(), c, inputs);
            std::vector<How> hows = {{.out = Place::x}, {.out = Place::addend}};
            if (op == Op::backward) {
                hows = {{.out = Place::x, .addend_out = Place::dy}, {.out = Place::dy, .addend_out = Place::x}};
                if (residual == Residual::batch_norm) {
                    hows.push_back({.out = Place::x, .addend_out = Place::addend});
                    hows.push_back({.out = Place::addend, .addend_out = Place::x});
                    hows.push_back({.out = Place::addend, .addend_out = Place::dy});
                }
            }
            for (const InstructionSet isa : instruction_sets_here()) {
                for (How how : hows) {
                    how.isa = isa;
                    const Result result = run(kernels_stream::kernels(), c, inputs, how);
                    EXPECT_NE(result.kernel.find("prefetch=1"), std::string::npos) << result.kernel;
                    EXPECT_EQ(difference(apart, result), "") << result.kernel;
                }
            }
        }
    }
}

TEST(Schedules, AreReallyDifferent) {
    for (Op op : {Op::inference, Op::train_forward, Op::backward}) {
        const Case c{op, View::planar, DataType::bf16, Activation::hardswish, Residual::batch_norm, 4, 8, 784};
        std::string ran[4];
        int i = 0;
        for (const KernelTable* table : tables) ran[i++] = run(*table, c, random_inputs(c, Data::ordinary)).kernel;
        EXPECT_NE(ran[0], ran[1]);
        EXPECT_NE(ran[1].find("parallel=rows"), std::string::npos) << ran[1];
        EXPECT_NE(ran[2].find("store=stream"), std::string::npos) << ran[2];
        EXPECT_NE(ran[3].find("any"), std::string::npos) << ran[3];
    }
}

}  // namespace
