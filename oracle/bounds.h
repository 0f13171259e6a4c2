// How far a kernel may be from the oracle: worst cases, derived from the roundings that it makes. Notation: u = 2^-24,
// the largest relative error of one f32 rounding; sigma = sqrt(var); D = the additions that a value passes through on
// its way into its chunk's sum. f64 steps count as exact: they are 2^29 times finer, of which the merge loses little.
// Higher powers of the errors are covered by `second_order`; values below f32's normal range, which a caller's CPU mode
// may flush to zero, by `tiny`.
//
// The merge: k parts of m values, whose means lie E from the first's, add V = S2 - S1^2 / n to M2, S1 = sum(m E) and
// S2 = sum(m E^2). The first part is never smaller than another (n <= k m), and lies S1 / n from the mean of all, so
// m (S1 / n)^2 <= V and S2 <= (1 + k) V. With v = 2^-53, roundings take (k + 3) v S2 of S2, (k + 1) v sqrt(n S2) of S1:
//     var    (3 k + 7) (k + 1) v sigma^2   2^-39 of a level's 64 parts; 2^-23 of the 2^14 sections of the longest
//                                          channel, did all go one way and its first section lie far from all others
//     mean   (k + 1)^1.5 v sigma           2^-43 of 64 parts
// The means are rounded themselves, by v |mean|, which moves V by 2 v |mean| sigma: 2^-28 sigma^2 where |mean| is 2^24
// sigma.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "forward.h"
#include "fusebn/types.h"
#include "generators/numerics.h"

namespace oracle {

inline constexpr double u = 0x1p-24;
inline constexpr double second_order = 1.01;
inline constexpr double tiny = 0x1p-126;

// Rows of a planar tensor, n after n, or of an interleaved one that make a chunk.
inline std::int64_t rows_of_chunk(fusebn::View view, std::int64_t inner) {
    namespace numerics = fusebn::numerics;
    if (view == fusebn::View::interleaved) return numerics::interleaved::chunk_rows;
    return std::clamp<std::int64_t>(numerics::planar::chunk_elements / inner, 1, numerics::planar::chunk_rows);
}

// D, by the order of sums in generators/numerics.h.
inline int additions(const Tensor& x) {
    namespace numerics = fusebn::numerics;
    constexpr int tree_depth = 3;
    static_assert(numerics::tree == 1 << tree_depth);
    if (x.view == fusebn::View::interleaved) {
        using namespace numerics::interleaved;
        const auto steps_and_rows = [](std::int64_t rows) { return rows / numerics::tree + rows % numerics::tree; };
        const std::int64_t last = x.outer % chunk_rows;
        const std::int64_t full = x.outer >= chunk_rows ? steps_and_rows(chunk_rows) : 0;
        return static_cast<int>(tree_depth + std::max(full, steps_and_rows(last)));
    }
    using namespace numerics::planar;
    // Of one row: steps, then a half, a quarter and an eighth of one, then what is left of a vector. Then the rows.
    const auto per_row = [](std::int64_t length) {
        std::int64_t count = length / step + (length % lanes != 0 ? 1 : 0);
        for (int part = step / 2; part >= lanes; part /= 2) count += length / part % 2;
        return count;
    };
    const std::int64_t full = x.inner >= chunk_elements ? per_row(chunk_elements) : 0;
    const std::int64_t rows = std::min(rows_of_chunk(x.view, x.inner), x.outer);
    const std::int64_t of_a_row = std::max(full, per_row(x.inner % chunk_elements));
    return static_cast<int>(tree_depth + of_a_row + (rows > 1 ? rows : 0));
}

// Absolute errors of a channel's statistics; inv_std is relative. All zero where the statistics are given: inference
// and backward.
struct StatisticsBound {
    double mean = 0, var = 0, inv_std = 0;
};

// How a channel lies about its chunks' pivots, the means of their first steps.
struct Spread {
    double rms = 0;        // of x - pivot
    double magnitude = 0;  // root mean square of the first steps' means of |x|, each counted as its chunk's values
};
inline Spread spread_about_pivots(const Tensor& x, std::int64_t c) {
    namespace numerics = fusebn::numerics;
    const bool planar = x.view == fusebn::View::planar;
    const std::int64_t rows = rows_of_chunk(x.view, x.inner);
    const std::int64_t columns = planar ? numerics::planar::chunk_elements : 1;
    const std::int64_t step_rows = planar ? 1 : numerics::tree, step_columns = planar ? numerics::planar::step : 1;
    double squares = 0, magnitudes = 0;
    for (std::int64_t o = 0; o < x.outer; o += rows) {
        for (std::int64_t i = 0; i < x.inner; i += columns) {
            const std::int64_t o_end = std::min(o + rows, x.outer), i_end = std::min(i + columns, x.inner);
            const auto sum = [&](std::int64_t last_o, std::int64_t last_i, const auto& term) {
                double total = 0;
                for (std::int64_t at_o = o; at_o < last_o; ++at_o) {
                    for (std::int64_t at_i = i; at_i < last_i; ++at_i) total += term(x.at(at_o, c, at_i));
                }
                return total;
            };
            const std::int64_t step_o = std::min(o + step_rows, o_end), step_i = std::min(i + step_columns, i_end);
            const auto sampled = static_cast<double>((step_o - o) * (step_i - i));
            const double pivot = sum(step_o, step_i, [](double v) { return v; }) / sampled;
            squares += sum(o_end, i_end, [&](double v) { return (v - pivot) * (v - pivot); });
            const double magnitude = sum(step_o, step_i, [](double v) { return std::abs(v); }) / sampled;
            magnitudes += magnitude * magnitude * static_cast<double>((o_end - o) * (i_end - i));
        }
    }
    const auto count = static_cast<double>(x.count());
    return {std::sqrt(squares / count), std::sqrt(magnitudes / count)};
}

// A pivot is rounded to f32 and off by at most (D + 1) u times its step's mean of |x|. So the root mean square of
// d = x - pivot is below r = that of the spread + (D + 1) u times the steps' magnitude, and sums of d and d^2 (one more
// rounding for the difference; two and one for its square) are off by
//     mean:  (D + 1) u r
//     var:   (D + 3) u r^2 for sum d^2, 2 (D + 1) u r^2 for (sum d)^2 / n, and 2 (D + 1) u sigma r for the means that
//            the merge of the chunks takes differences of (sigma has the spread between chunks, r has not)
inline StatisticsBound statistics_bound(const Tensor& x, std::int64_t c, const Channel& ch, double eps) {
    const double D = additions(x);
    const Spread spread = spread_about_pivots(x, c);
    const double r = spread.rms + (D + 1) * u * spread.magnitude + tiny;
    StatisticsBound bound;
    bound.mean = second_order * (D + 1) * u * r;
    bound.var = second_order * (3 * (D + 3) * u * r * r + 2 * (D + 1) * u * std::sqrt(ch.var) * r);
    bound.inv_std = std::sqrt((ch.var + eps) / (std::max(ch.var - bound.var, 0.0) + eps)) - 1;
    return bound;
}

// The statistics as they are kept, the saved ones in f64, the running ones in f32.
inline double mean_bound(const Channel& ch, const StatisticsBound& s) {
    return s.mean + 0x1p-50 * std::abs(ch.mean) + tiny;
}
inline double inv_std_bound(const Channel& ch, const StatisticsBound& s) {
    return second_order * ch.inv_std * (s.inv_std + 0x1p-50);
}
inline double running_mean_bound(const Channel& ch, const StatisticsBound& s, const Parameters& p) {
    return second_order * (p.momentum * s.mean + u * std::abs(ch.running_mean)) + tiny;
}
inline double running_var_bound(const Tensor& x, const Channel& ch, const StatisticsBound& s, const Parameters& p) {
    const auto count = static_cast<double>(x.count());
    return second_order * (p.momentum * s.var * count / (count - p.ddof) + u * std::abs(ch.running_var)) + tiny;
}

// Of a branch's value. The kernel computes ((x - high) * scale) + shift with high = f32(mean), low = mean - high,
// scale = f32(gamma * inv_std), shift = f32(beta - low * scale). With g = gamma * inv_std, roundings of
//     x - high, scale, the product    3 u |g| (|x - mean| + u |mean|)
//     shift                           u (|beta| + u |mean g|)
//     the sum                         u (|g| |x - mean| + |beta|)
// and what the errors of the statistics make of it.
inline double normalised_bound(const Channel& ch, const StatisticsBound& statistics, double x) {
    const double g = std::abs(ch.gamma) * ch.inv_std, d = std::abs(x - ch.mean);
    const double rounding = 4 * u * g * (d + u * std::abs(ch.mean)) + 2 * u * std::abs(ch.beta);
    return second_order * (rounding + g * statistics.mean * (1 + statistics.inv_std) + g * d * statistics.inv_std) +
           tiny * (1 + g + d);
}

// What the bounds of both branches make of the value that is activated, which is rounded once more where there is
// something to add.
inline double before_activation_bound(const Call& call, const Channels& channels, const StatisticsBound& first,
                                      const StatisticsBound& second, std::int64_t o, std::int64_t c, std::int64_t i) {
    const auto at = static_cast<std::size_t>(c);
    double bound = normalised_bound(channels.first[at], first, call.x.at(o, c, i));
    if (call.residual == fusebn::Residual::none) return bound;
    if (call.residual == fusebn::Residual::batch_norm) {
        bound += normalised_bound(channels.second[at], second, call.addend.at(o, c, i));
    }
    return second_order * (bound + u * std::abs(before_activation(call, channels, o, c, i))) + tiny;
}

// The relative error of silu's exponential, a unit in the last place, and of 1 / (1 + exp(-v)), whose sum and quotient
// are rounded.
inline constexpr double exponential_error = 2 * u;
inline constexpr double sigmoid_error = exponential_error + 2 * u;

// Of y before it is stored, of a v that is off by v_bound: what the steepest slope makes of that, and the roundings.
//     leaky_relu   slope * v: one
//     silu         slopes up to 1.1; v / (1 + exp(-v)), rounded as often as the sigmoid. Left of -87.3, where
//                  that is about tiny, it counts as zero
//     hardswish    slopes up to 1.5; v + 3, the factor of 1 / 6, and two products
inline double activated_bound(fusebn::Activation activation, double v, double v_bound, double slope) {
    using fusebn::Activation;
    const double y = std::abs(activate(activation, v, slope));
    double bound = v_bound;
    switch (activation) {
        case Activation::none:
        case Activation::relu:
        case Activation::relu6: return v_bound;
        case Activation::leaky_relu: bound = std::max(1.0, std::abs(slope)) * v_bound + (v > 0 ? 0 : u * y); break;
        case Activation::silu:
            bound = 1.1 * v_bound + sigmoid_error * y + 2 * tiny * std::min(std::abs(v), 90.0);
            break;
        case Activation::hardswish: bound = 1.5 * v_bound + 4 * u * y; break;
    }
    return second_order * bound + tiny;
}

// A type's largest relative error of one rounding, half the distance of its smallest numbers, and where infinity
// begins.
struct Storage {
    double unit, smallest, infinity;
};
inline Storage storage(fusebn::DataType dtype) {
    switch (dtype) {
        case fusebn::DataType::f32: return {0, 0, HUGE_VAL};  // nothing is rounded that is not rounded already
        case fusebn::DataType::bf16: return {0x1p-8, 0x1p-134, 0x1.ffp127};
        case fusebn::DataType::f16: return {0x1p-11, 0x1p-25, 65520};
    }
    return {};
}

// After the store.
inline double stored_bound(fusebn::DataType dtype, double wanted, double bound) {
    const Storage s = storage(dtype);
    return bound + s.unit * (std::abs(wanted) + bound) + s.smallest;
}

// Whether `got` is `wanted` within `bound`; a NaN is wanted where the oracle has one, and an infinity where it has
// that.
inline bool agrees(double got, double wanted, double bound) {
    if (std::isnan(wanted)) return std::isnan(got);
    if (std::isinf(wanted)) return got == wanted;
    return std::abs(got - wanted) <= bound;
}

// The same of what was stored, `bound` being that before the store. What is near the type's end, or beyond it, may be
// an infinity.
inline bool stored_agrees(fusebn::DataType dtype, double got, double wanted, double bound) {
    const double end = storage(dtype).infinity;
    if (std::isinf(got) && std::abs(wanted) + bound >= end) return std::signbit(got) == std::signbit(wanted);
    if (std::abs(wanted) - bound >= end) return false;
    return agrees(got, wanted, stored_bound(dtype, wanted, bound));
}

// Of y in f32 without a residual, by an activation that makes no difference larger.
inline double y_bound(const Channel& ch, const StatisticsBound& statistics, double x) {
    return normalised_bound(ch, statistics, x);
}

}  // namespace oracle
