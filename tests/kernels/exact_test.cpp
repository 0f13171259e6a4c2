// Small integers sum without rounding, so statistics and sums must be those of exact arithmetic, rounded once.

#include <kernels_plain.h>

#include <cmath>

#include "kernels/run.h"

using namespace fusebn;
using namespace kernels;

namespace {

// Mean 4, gamma 1 and beta 0; nothing is added. 3 and 5 by turns, along a row where there is one, which an odd one
// begins with a 4: then the mean of a chunk's first step is 4 as well, or next to it by a power of two, and sums of
// differences and squares do not round in f32 or, corrected, in f64.
Inputs around_four(const Case& c) {
    Inputs in = random_inputs(c, Data::ordinary);
    for (std::size_t i = 0; i < in.x.size(); ++i) {
        const auto at = static_cast<std::int64_t>(i);
        const std::int64_t turn = c.view == View::planar ? at % c.inner : at / c.channels;
        const bool extra = c.view == View::planar && c.inner % 2 != 0 && turn == 0;
        in.x.set(i, extra ? 4.f : turn % 2 != 0 ? 5.f : 3.f);
    }
    for (std::size_t i = 0; i < in.addend.size(); ++i) in.addend.set(i, 0.f);
    in.p.gamma.assign(c.features(), 1.f);
    in.p.beta.assign(c.features(), 0.f);
    return in;
}

double inv_std(const Case& c) {
    const auto extra = static_cast<double>(c.view == View::planar && c.inner % 2 != 0 ? c.outer : 0);
    const auto count = static_cast<double>(c.outer * c.inner);
    return 1 / std::sqrt((count - extra) / count + 1e-5);
}

bool has_mean_four(const Case& c) { return c.view == View::planar ? c.inner > 1 : c.outer % 2 == 0; }

TEST(Exactness, OfStatistics) {
    int count = 0;
    for (const Case& c : cases(kernels_plain::kernels())) {
        if (c.op != Op::train_forward || !has_mean_four(c)) continue;
        ++count;
        const Result result = run(kernels_plain::kernels(), c, around_four(c));
        for (std::size_t ch = 0; ch < c.features(); ++ch) {
            EXPECT_EQ(result.mean[ch], 4.0) << name(c);
            EXPECT_EQ(result.inv_std[ch], inv_std(c)) << name(c);
        }
    }
    EXPECT_GT(count, 10);
}

TEST(Exactness, OfSumsOfGradients) {
    int count = 0;
    for (const Case& c : cases(kernels_plain::kernels())) {
        if (c.op != Op::backward || !has_mean_four(c) || c.activation != Activation::relu || c.has_two_branches()) {
            continue;
        }
        ++count;
        Inputs in = around_four(c);
        std::vector<std::int64_t> sum(c.features(), 0);  // relu passes where x is 5, and x - mean is 1 there
        for (std::size_t i = 0; i < in.dy.size(); ++i) {
            const auto value = static_cast<int>(i * 7 % 13) - 5;
            in.dy.set(i, static_cast<float>(value));
            if (in.x.value(i) > 4) sum[c.channel_of(i)] += value;
        }
        for (InstructionSet isa : instruction_sets_here()) {
            const Result result = run(kernels_plain::kernels(), c, in, {.isa = isa});
            for (std::size_t ch = 0; ch < c.features(); ++ch) {
                EXPECT_EQ(result.dbeta[ch], static_cast<float>(sum[ch])) << result.kernel;
                EXPECT_EQ(result.dgamma[ch], static_cast<float>(inv_std(c) * static_cast<double>(sum[ch])))
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
