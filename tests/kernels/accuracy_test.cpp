// Every kernel of fixed extents, on every instruction set, against the oracle; tolerances are the oracle's derived
// bounds.

#include <kernels_plain.h>
#include <kernels_stream.h>

#include "kernels/run.h"

using namespace fusebn;
using namespace kernels;

namespace {

struct Row {
    const KernelTable* table;
    Case c;
};
const std::vector<Row>& rows() {
    static const std::vector<Row> all = [] {
        std::vector<Row> of;
        for (const KernelTable* table : {&kernels_plain::kernels(), &kernels_stream::kernels()}) {
            for (const Case& c : cases(*table)) of.push_back({table, c});
        }
        return of;
    }();
    return all;
}

using Accuracy = testing::TestWithParam<std::tuple<std::size_t, InstructionSet>>;

TEST_P(Accuracy, IsWithinTheDerivedBounds) {
    const auto [index, isa] = GetParam();
    if (!supports(isa)) GTEST_SKIP() << "this machine has no " << to_string(isa);
    const auto& [table, c] = rows()[index];
    const auto check = [&, &row_table = *table, &row = c](const Inputs& inputs, const How& how) {
        const Result result = run(row_table, row, inputs, how);
        EXPECT_TRUE(ran_on(result, how.isa)) << result.kernel;
        EXPECT_EQ(result.kernel.find("any"), std::string::npos) << "a generic kernel ran: " << result.kernel;
        expect_oracle(row, inputs, result, how.frozen);
    };
    for (Data data : data_of(c.dtype)) {
        SCOPED_TRACE(name(data));
        const Inputs inputs = random_inputs(c, data);
        check(inputs, {.isa = isa});
        if (c.op != Op::backward || data != Data::ordinary) continue;
        check(inputs, {.isa = isa, .frozen = true});
        check(inputs, {.isa = isa, .without_tensors = true});
    }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Accuracy,
                         testing::Combine(testing::Range<std::size_t>(0, rows().size()),
                                          testing::Values(InstructionSet::x86_64, InstructionSet::x86_64_avx2,
                                                          InstructionSet::x86_64_avx512)),
                         [](const auto& test) {
                             std::string isa(to_string(std::get<1>(test.param)));
                             for (char& ch : isa) ch = ch == '-' ? '_' : ch;
                             // Two libraries have rows of the same name.
                             return std::to_string(std::get<0>(test.param)) + "_" +
                                    name(rows()[std::get<0>(test.param)].c) + "_" + isa;
                         });

}  // namespace
