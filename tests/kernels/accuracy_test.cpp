// Every kernel, on every instruction set, against the oracle; tolerances are the oracle's derived bounds.

#include <kernels_plain.h>
#include <kernels_stream.h>

#include <limits>

#include "kernels/run.h"

using namespace fusebn;
using namespace kernels;

namespace {

std::vector<Case> all_cases() {
    std::vector<Case> all = cases(kernels_plain::kernels());
    for (const Case& c : cases(kernels_stream::kernels())) all.push_back(c);
    return all;
}

const KernelTable& table_of(std::size_t index) {
    return index < cases(kernels_plain::kernels()).size() ? kernels_plain::kernels() : kernels_stream::kernels();
}

void expect_oracle(const Case& c, const std::vector<float>& x, const Parameters& p, const Result& result) {
    const oracle::Tensor t = oracle_view(c, x);
    const oracle::Parameters parameters = p.view(c.activation);
    const bool train = c.op == Op::train_forward;
    const oracle::Result wanted = train ? oracle::train_forward(t, parameters) : oracle::inference(t, parameters);
    std::vector<oracle::StatisticsBound> bounds;
    for (std::size_t ch = 0; ch < c.features(); ++ch) {
        const oracle::Channel& w = wanted.channels[ch];
        bounds.push_back(train ? oracle::statistics_bound(t, w, parameters.eps) : oracle::StatisticsBound{});
        if (!train) continue;
        const auto& b = bounds.back();
        EXPECT_NEAR(result.mean[ch], w.mean, oracle::mean_bound(w, b)) << "channel " << ch;
        EXPECT_NEAR(result.inv_std[ch], w.inv_std, oracle::inv_std_bound(w, b)) << "channel " << ch;
        EXPECT_NEAR(result.running_mean[ch], w.running_mean, oracle::running_mean_bound(w, b, parameters));
        EXPECT_NEAR(result.running_var[ch], w.running_var, oracle::running_var_bound(t, w, b, parameters));
    }
    int wrong = 0;
    for (std::size_t i = 0; i < x.size() && wrong < 5; ++i) {
        const std::size_t ch = i / static_cast<std::size_t>(c.inner) % c.features();
        const double bound = oracle::y_bound(wanted.channels[ch], bounds[ch], static_cast<double>(x[i]));
        if (oracle::agrees(result.y[i], wanted.y[i], bound)) continue;
        ++wrong;
        ADD_FAILURE() << "y[" << i << "] of channel " << ch << " is " << result.y[i] << ", wanted " << wanted.y[i]
                      << " within " << bound;
    }
    EXPECT_TRUE(result.rest_untouched);
}

class Accuracy : public testing::TestWithParam<std::tuple<std::size_t, InstructionSet>> {
protected:
    void check(Data data) {
        const auto [index, isa] = GetParam();
        if (!supports(isa)) GTEST_SKIP() << "this machine has no " << to_string(isa);
        const Case c = all_cases()[index];
        const std::vector<float> x = random_x(c, data);
        const Parameters p = random_parameters(c);
        const Result result = run(table_of(index), c, x, p, {.isa = isa});
        EXPECT_NE(result.kernel.find(std::string(to_string(isa)) + " ["), std::string::npos) << result.kernel;
        EXPECT_EQ(result.kernel.find("any"), std::string::npos) << "a generic kernel ran: " << result.kernel;
        expect_oracle(c, x, p, result);
    }
};

TEST_P(Accuracy, OfOrdinaryData) { check(Data::ordinary); }
TEST_P(Accuracy, OfMeansTenThousandSigmasAway) { check(Data::mean_1e4); }
TEST_P(Accuracy, OfMeansAMillionSigmasAway) { check(Data::mean_1e6); }
TEST_P(Accuracy, OfConstantChannels) { check(Data::constant); }

INSTANTIATE_TEST_SUITE_P(Kernels, Accuracy,
                         testing::Combine(testing::Range<std::size_t>(0, all_cases().size()),
                                          testing::Values(InstructionSet::x86_64, InstructionSet::x86_64_avx2,
                                                          InstructionSet::x86_64_avx512)),
                         [](const auto& test) {
                             std::string isa(to_string(std::get<1>(test.param)));
                             for (char& ch : isa) ch = ch == '-' ? '_' : ch;
                             // Two libraries have rows of the same name.
                             return std::to_string(std::get<0>(test.param)) + "_" +
                                    name(all_cases()[std::get<0>(test.param)]) + "_" + isa;
                         });

// Small integers sum without rounding, so the statistics must be those of exact arithmetic, rounded once.
TEST(Exactness, OfSumsThatAreExactInF32) {
    for (const Case& c : cases(kernels_plain::kernels())) {
        if (c.op != Op::train_forward || c.outer * c.inner % 2 != 0) continue;
        std::vector<float> x(c.elements());
        std::vector<std::int64_t> seen(c.features(), 0);
        for (std::size_t i = 0; i < x.size(); ++i) {
            const std::size_t ch = i / static_cast<std::size_t>(c.inner) % c.features();
            x[i] = seen[ch]++ % 2 ? 5.f : 3.f;  // mean 4, variance 1
        }
        const Result result = run(kernels_plain::kernels(), c, x, random_parameters(c));
        for (std::size_t ch = 0; ch < c.features(); ++ch) {
            EXPECT_EQ(result.mean[ch], 4.f) << name(c);
            EXPECT_EQ(result.inv_std[ch], static_cast<float>(1 / std::sqrt(1 + 1e-5))) << name(c);
        }
    }
}

// What is not finite stays in its channel: every other channel has the bits that it has without.
TEST(NonFinite, ValuesStayInTheirChannel) {
    const float bad[] = {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                         std::numeric_limits<float>::quiet_NaN()};
    for (const Case& c : cases(kernels_plain::kernels())) {
        if (c.channels < 3) continue;
        const Parameters p = random_parameters(c);
        std::vector<float> x = random_x(c, Data::ordinary);
        const Result clean = run(kernels_plain::kernels(), c, x, p);
        for (float value : bad) {
            std::vector<float> dirty = x;
            const std::size_t place = static_cast<std::size_t>(c.inner) * 1 + static_cast<std::size_t>(c.inner) / 2;
            dirty[place] = value;  // channel 1
            const Result result = run(kernels_plain::kernels(), c, dirty, p);
            for (std::size_t i = 0; i < x.size(); ++i) {
                const std::size_t ch = i / static_cast<std::size_t>(c.inner) % c.features();
                if (ch != 1) {
                    ASSERT_EQ(result.y[i], clean.y[i]) << name(c) << " " << value << " leaks into channel " << ch;
                } else if (c.op == Op::train_forward) {
                    ASSERT_TRUE(std::isnan(result.y[i])) << name(c) << " " << value;
                }
            }
            if (c.op == Op::inference) {
                const oracle::Result wanted = oracle::inference(oracle_view(c, dirty), p.view(c.activation));
                EXPECT_TRUE(oracle::agrees(result.y[place], wanted.y[place], 0)) << name(c) << " " << value;
                continue;
            }
            EXPECT_FALSE(std::isfinite(result.mean[1])) << name(c);
            EXPECT_TRUE(std::isnan(result.inv_std[1])) << name(c);
        }
    }
}

}  // namespace
