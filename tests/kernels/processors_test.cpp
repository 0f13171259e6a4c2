// A library tuned for two processors, on each of them and on a third (FUSEBN_PROCESSOR): the variant that is its own,
// and the same bits.

#include <kernels_plain.h>
#include <kernels_processors.h>

#include <string>

#include "fusebn/parallel.h"
#include "kernels/run.h"

using namespace fusebn;
using namespace kernels;

namespace {

TEST(Processors, EachHasItsVariantAndAllTheSameBits) {
    const std::string here = processor();
    const bool tuned = here == "AuthenticAMD family 25 model 17" || here == "GenuineIntel family 6 model 167";
    int count = 0;
    for (const Case& c : cases(kernels_processors::kernels())) {
        const Inputs inputs = random_inputs(c, Data::ordinary);
        const Result result = run(kernels_processors::kernels(), c, inputs, {.isa = InstructionSet::x86_64});
        const Result other = run(kernels_plain::kernels(), c, inputs);
        EXPECT_EQ(difference(result, other), "") << result.kernel;
        EXPECT_TRUE(result.rest_untouched) << result.kernel;
        if (result.kernel.find("any") != std::string::npos) continue;  // at run time known extents have no records
        ++count;
        const bool is_its_own = result.kernel.find(" for " + here + " [") != std::string::npos;
        EXPECT_EQ(is_its_own, tuned) << result.kernel;
        if (tuned) {
            EXPECT_NE(result.kernel.find(here[0] == 'A' ? "vector=8 " : "vector=16 "), std::string::npos)
                << result.kernel;
        }
    }
    EXPECT_EQ(count, 6);
}

}  // namespace
