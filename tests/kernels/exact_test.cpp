// Small integers sum without rounding, so statistics and sums must be those of exact arithmetic, rounded once.

#include <kernels_plain.h>

#include <cmath>

#include "kernels/run.h"

using namespace fusebn;
using namespace kernels;

namespace {

// Mean 4 and variance 1, gamma 1 and beta 0; nothing is added. Then xhat is 1 or -1 times inv_std.
Inputs three_and_five(const Case& c) {
    Inputs in = random_inputs(c, Data::ordinary);
    std::vector<std::int64_t> seen(c.features(), 0);
    for (std::size_t i = 0; i < in.x.size(); ++i) in.x.set(i, seen[c.channel_of(i)]++ % 2 != 0 ? 5.f : 3.f);
    for (std::size_t i = 0; i < in.addend.size(); ++i) in.addend.set(i, 0.f);
    in.p.gamma.assign(c.features(), 1.f);
    in.p.beta.assign(c.features(), 0.f);
    return in;
}

const double inv_std = 1 / std::sqrt(1 + 1e-5);

TEST(Exactness, OfStatistics) {
    int count = 0;
    for (const Case& c : cases(kernels_plain::kernels())) {
        if (c.op != Op::train_forward || c.outer * c.inner % 2 != 0) continue;
        ++count;
        const Result result = run(kernels_plain::kernels(), c, three_and_five(c));
        for (std::size_t ch = 0; ch < c.features(); ++ch) {
            EXPECT_EQ(result.mean[ch], 4.0) << name(c);
            EXPECT_EQ(result.inv_std[ch], inv_std) << name(c);
        }
    }
    EXPECT_GT(count, 10);
}

TEST(Exactness, OfSumsOfGradients) {
    int count = 0;
    for (const Case& c : cases(kernels_plain::kernels())) {
        if (c.op != Op::backward || c.outer * c.inner % 2 != 0 || c.activation != Activation::relu) continue;
        ++count;
        Inputs in = three_and_five(c);
        std::vector<std::int64_t> sum(c.features(), 0);  // relu passes where x is 5, and xhat is 1 there
        for (std::size_t i = 0; i < in.dy.size(); ++i) {
            const auto value = static_cast<int>(i * 7 % 13) - 5;
            in.dy.set(i, static_cast<float>(value));
            if (in.x.value(i) > 4) sum[c.channel_of(i)] += value;
        }
        for (InstructionSet isa : instruction_sets_here()) {
            const Result result = run(kernels_plain::kernels(), c, in, {.isa = isa});
            for (std::size_t ch = 0; ch < c.features(); ++ch) {
                EXPECT_EQ(result.dbeta[ch], static_cast<float>(sum[ch])) << result.kernel;
                EXPECT_EQ(result.dgamma[ch], static_cast<float>(inv_std * static_cast<double>(sum[ch])))
                    << result.kernel;
            }
        }
    }
    EXPECT_GT(count, 10);
}

// dx has no component along 1 and xhat: what the batch's statistics take out. Up to the roundings of its elements.
TEST(Exactness, OfWhatTheStatisticsTakeOutOfDx) {
    for (const Case& c : cases(kernels_plain::kernels())) {
        if (c.op != Op::backward || c.dtype != DataType::f32 || c.elements() > 100000) continue;
        const Inputs in = random_inputs(c, Data::ordinary);
        const Result result = run(kernels_plain::kernels(), c, in);
        std::vector<double> sum(c.features(), 0), along(c.features(), 0), size(c.features(), 0), reach(c.features(), 0);
        for (std::size_t i = 0; i < in.x.size(); ++i) {
            const std::size_t ch = c.channel_of(i);
            const double dx = result.tensors[0].value(i), d = in.x.value(i) - result.mean[ch];
            sum[ch] += dx;
            along[ch] += dx * d;
            // What dx is made of: its parts cancel.
            const double scale = std::abs(static_cast<double>(in.p.gamma[ch])) * result.inv_std[ch];
            const auto n = static_cast<double>(c.outer * c.inner);
            const double parts = scale * (std::abs(in.dy.value(i)) +
                                          (std::abs(static_cast<double>(result.dbeta[ch])) +
                                           std::abs(d * result.inv_std[ch] * static_cast<double>(result.dgamma[ch]))) /
                                              n);
            size[ch] += parts;
            reach[ch] += parts * std::abs(d);
        }
        // The sums that were taken out are off by D u, the elements by some roundings; eps leaves a share of `along`.
        const double off = 2 * (oracle::additions(oracle_view(c, in.x)) + 8) * oracle::u;
        for (std::size_t ch = 0; ch < c.features(); ++ch) {
            const double left = 1e-5 * result.inv_std[ch] * result.inv_std[ch];
            EXPECT_LE(std::abs(sum[ch]), off * size[ch]) << name(c);
            EXPECT_LE(std::abs(along[ch]), (off + left) * reach[ch]) << name(c);
        }
    }
}

}  // namespace
