// The numerical contract: the same bits for any schedule, thread count and instruction set, on the specialised kernel
// and on the generic one.

#include <kernels_generic.h>
#include <kernels_plain.h>
#include <kernels_split.h>
#include <kernels_stream.h>

#include "kernels/run.h"

using namespace fusebn;
using namespace kernels;

namespace {

class Bits : public testing::TestWithParam<std::size_t> {
protected:
    static std::vector<Case> all() {
        std::vector<Case> c = cases(kernels_plain::kernels());
        for (const Case& s : cases(kernels_stream::kernels())) c.push_back(s);
        return c;
    }

public:
    static std::size_t count() { return all().size(); }
    static std::string test_name(const testing::TestParamInfo<std::size_t>& info) {
        return std::to_string(info.param) + "_" + name(all()[info.param]);
    }
};

TEST_P(Bits, AreTheSameForEveryThreadCountInstructionSetAndSchedule) {
    const Case c = all()[GetParam()];
    for (Data data : {Data::ordinary, Data::mean_1e6}) {
        const std::vector<float> x = random_x(c, data);
        const Parameters p = random_parameters(c);
        const Result first = run(kernels_plain::kernels(), c, x, p, {.threads = 1});
        for (const KernelTable* table : {&kernels_plain::kernels(), &kernels_split::kernels(),
                                         &kernels_stream::kernels(), &kernels_generic::kernels()}) {
            for (InstructionSet isa : instruction_sets_here()) {
                for (int threads : {1, 2, 3, 8}) {
                    const Result result = run(*table, c, x, p, {.isa = isa, .threads = threads});
                    EXPECT_EQ(difference(first, result), "") << result.kernel << " with " << threads << " threads";
                    EXPECT_TRUE(result.rest_untouched) << result.kernel;
                }
            }
        }
    }
}

TEST_P(Bits, AreTheSameInPlaceAndWithStrides) {
    const Case c = all()[GetParam()];
    const std::vector<float> x = random_x(c, Data::ordinary);
    const Parameters p = random_parameters(c);
    const Result first = run(kernels_plain::kernels(), c, x, p);
    for (const KernelTable* table : {&kernels_plain::kernels(), &kernels_split::kernels(), &kernels_stream::kernels(),
                                     &kernels_generic::kernels()}) {
        for (InstructionSet isa : instruction_sets_here()) {
            for (const How& how :
                 {How{.isa = isa, .in_place = true}, How{.isa = isa, .outer_gap = 5},
                  How{.isa = isa, .channel_gap = 3, .outer_gap = 16},
                  How{.isa = isa, .in_place = true, .channel_gap = 16}, How{.isa = isa, .y_offset = 1}}) {
                const Result result = run(*table, c, x, p, how);
                EXPECT_EQ(difference(first, result), "") << result.kernel;
                EXPECT_TRUE(result.rest_untouched) << result.kernel;
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Bits, testing::Range<std::size_t>(0, Bits::count()), Bits::test_name);

TEST(GenericKernel, RunsWhateverHasNoKernelOfItsOwn) {
    const Case c{Op::train_forward, View::planar, Activation::relu, 3, 5, 77};
    const Result result = run(kernels_plain::kernels(), c, random_x(c, Data::ordinary), random_parameters(c));
    EXPECT_NE(result.kernel.find("bn_train_forward_f32_planar_nany_cany_sany_relu"), std::string::npos)
        << result.kernel;
}

TEST(Schedules, AreReallyDifferent) {
    const Case c{Op::train_forward, View::planar, Activation::none, 4, 8, 784};
    std::string kernels[3];
    int i = 0;
    for (const KernelTable* table :
         {&kernels_plain::kernels(), &kernels_split::kernels(), &kernels_stream::kernels()}) {
        kernels[i++] = run(*table, c, random_x(c, Data::ordinary), random_parameters(c)).kernel;
    }
    EXPECT_NE(kernels[0], kernels[1]);
    EXPECT_NE(kernels[1].find("parallel=rows"), std::string::npos) << kernels[1];
    EXPECT_NE(kernels[2].find("store=stream"), std::string::npos) << kernels[2];
}

}  // namespace
