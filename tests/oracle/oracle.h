// What every kernel is checked against: plain loops in double, and how far a kernel may be from them.
//
//   y = act( gamma * (x - mean) / sqrt(var + eps) + beta )
//
// A double carries 29 bits more than the f32 values that are compared, so the oracle's own error is of no account.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "fusebn/types.h"
#include "generators/numerics.h"

namespace oracle {

// x in either view: planar x[outer][channels][inner], interleaved x[outer][channels] (inner = 1). Strides in elements.
struct Tensor {
    const float* data;
    fusebn::View view;
    std::int64_t outer, channels, inner;
    std::int64_t outer_stride, channel_stride;

    double at(std::int64_t o, std::int64_t c, std::int64_t i) const {
        return static_cast<double>(data[o * outer_stride + c * channel_stride + i]);
    }
    std::int64_t count() const { return outer * inner; }  // values in a channel
};

// A stride of 0 is the dense one.
inline Tensor planar(const float* x, std::int64_t N, std::int64_t C, std::int64_t S, std::int64_t n_stride = 0,
                     std::int64_t c_stride = 0) {
    if (c_stride == 0) c_stride = S;
    return {x, fusebn::View::planar, N, C, S, n_stride != 0 ? n_stride : C * c_stride, c_stride};
}
inline Tensor interleaved(const float* x, std::int64_t R, std::int64_t C, std::int64_t r_stride = 0) {
    return {x, fusebn::View::interleaved, R, C, 1, r_stride != 0 ? r_stride : C, 1};
}

// One value a channel; null: gamma 1, beta 0, running_mean 0, running_var 1.
struct Parameters {
    const float* gamma = nullptr;
    const float* beta = nullptr;
    const float* running_mean = nullptr;
    const float* running_var = nullptr;
    double eps = 1e-5;
    double momentum = 0.1;
    int ddof = 1;  // the running variance takes M2 / (count - ddof)
    fusebn::Activation activation = fusebn::Activation::none;
};

// Of one channel.
struct Channel {
    double gamma, beta;
    double mean, var, inv_std;         // what y is made with; var biased
    double running_mean, running_var;  // after the call
};

inline double value(const float* values, std::int64_t c, double otherwise) {
    return values != nullptr ? static_cast<double>(values[c]) : otherwise;
}

// A channel normalised by its running statistics.
inline Channel inference_channel(std::int64_t c, const Parameters& p) {
    Channel ch{};
    ch.gamma = value(p.gamma, c, 1);
    ch.beta = value(p.beta, c, 0);
    ch.mean = ch.running_mean = value(p.running_mean, c, 0);
    ch.var = ch.running_var = value(p.running_var, c, 1);
    ch.inv_std = 1 / std::sqrt(ch.var + p.eps);
    return ch;
}

// A channel normalised by its own statistics.
inline Channel train_channel(const Tensor& x, std::int64_t c, const Parameters& p) {
    const auto count = static_cast<double>(x.count());
    double sum = 0;
    for (std::int64_t o = 0; o < x.outer; ++o) {
        for (std::int64_t i = 0; i < x.inner; ++i) sum += x.at(o, c, i);
    }
    const double first_mean = sum / count;
    // A sum of large values with a small spread has lost some of the spread; the mean of the differences, which are
    // small, gives that back. What is left is below count * 2^-53 standard deviations.
    double d = 0, d2 = 0;
    for (std::int64_t o = 0; o < x.outer; ++o) {
        for (std::int64_t i = 0; i < x.inner; ++i) {
            const double difference = x.at(o, c, i) - first_mean;
            d += difference;
            d2 += difference * difference;
        }
    }
    double M2 = d2 - d * d / count;
    if (M2 < 0) M2 = 0;

    Channel ch = inference_channel(c, p);
    ch.mean = first_mean + d / count;
    ch.var = M2 / count;
    ch.inv_std = 1 / std::sqrt(ch.var + p.eps);
    ch.running_mean = (1 - p.momentum) * ch.running_mean + p.momentum * ch.mean;
    ch.running_var = (1 - p.momentum) * ch.running_var + p.momentum * (M2 / (count - p.ddof));
    return ch;
}

inline double activate(fusebn::Activation activation, double v) {
    switch (activation) {
        case fusebn::Activation::none: return v;
        case fusebn::Activation::relu: return v < 0 ? 0 : v;
    }
    return v;
}

inline double y(const Channel& ch, fusebn::Activation activation, double x) {
    return activate(activation, ch.gamma * (x - ch.mean) * ch.inv_std + ch.beta);
}

// Everything at once, for tensors of a test's size. y is dense, in the order of x's view.
struct Result {
    std::vector<double> y;
    std::vector<Channel> channels;
};

inline Result apply(const Tensor& x, const Parameters& p, std::vector<Channel> channels) {
    Result result{{}, std::move(channels)};
    for (std::int64_t o = 0; o < x.outer; ++o) {
        for (std::int64_t c = 0; c < x.channels; ++c) {
            for (std::int64_t i = 0; i < x.inner; ++i) {
                result.y.push_back(y(result.channels[static_cast<std::size_t>(c)], p.activation, x.at(o, c, i)));
            }
        }
    }
    return result;
}

inline Result inference(const Tensor& x, const Parameters& p) {
    std::vector<Channel> channels;
    for (std::int64_t c = 0; c < x.channels; ++c) channels.push_back(inference_channel(c, p));
    return apply(x, p, std::move(channels));
}

inline Result train_forward(const Tensor& x, const Parameters& p) {
    std::vector<Channel> channels;
    for (std::int64_t c = 0; c < x.channels; ++c) channels.push_back(train_channel(x, c, p));
    return apply(x, p, std::move(channels));
}

// How far a kernel may be: worst cases, derived from the roundings that it makes. Notation: u = 2^-24, the largest
// relative error of one f32 rounding; sigma = sqrt(var); D = the additions that a value passes through on its way into
// its chunk's sum. f64 steps count as exact: they are 2^29 times finer. Higher powers of the errors are covered by
// `second_order`; values below f32's normal range, which a caller's CPU mode may flush to zero, by `tiny`.
inline constexpr double u = 0x1p-24;
inline constexpr double second_order = 1.01;
inline constexpr double tiny = 0x1p-126;

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
    // Of one row: steps, then a half, a quarter and an eighth of one, then single elements.
    const auto per_row = [](std::int64_t length) {
        std::int64_t count = length / step + (length % lanes != 0 ? 1 : 0);
        for (int part = step / 2; part >= lanes; part /= 2) count += length / part % 2;
        return count;
    };
    const std::int64_t full = x.inner >= chunk_elements ? per_row(chunk_elements) : 0;
    const std::int64_t rows = std::clamp<std::int64_t>(chunk_elements / x.inner, 1, chunk_rows);
    return static_cast<int>(tree_depth + std::min(rows, x.outer) * std::max(full, per_row(x.inner % chunk_elements)));
}

// Absolute errors of a channel's statistics; inv_std is relative. All zero for inference, whose statistics are given.
struct StatisticsBound {
    double mean = 0, var = 0, inv_std = 0;
};

// A chunk's pivot is its mean in f32, off by at most (D + 1) u times the mean of |x|: on average over the chunks by
//     p = (D + 1) u (|mean| + 2 sigma).
// d = x - pivot then has a root mean square below r = sigma + p, and sums of d and d^2 (one more rounding for the
// difference; two and one for its square) are off by
//     mean:  (D + 1) u r
//     var:   (D + 3) u r^2 for sum d^2, 2 (D + 1) u p r for (sum d)^2 / n, 2 (D + 1) u sigma r for the means that the
//            merge of the chunks takes differences of; together below 3 (D + 3) u r^2.
inline StatisticsBound statistics_bound(const Tensor& x, const Channel& ch, double eps) {
    const double D = additions(x), sigma = std::sqrt(ch.var);
    const double p = (D + 1) * u * (std::abs(ch.mean) + 2 * sigma);
    const double r = sigma + p + tiny;
    StatisticsBound bound;
    bound.mean = second_order * (D + 1) * u * r;
    bound.var = second_order * 3 * (D + 3) * u * r * r;
    bound.inv_std = std::sqrt((ch.var + eps) / (std::max(ch.var - bound.var, 0.0) + eps)) - 1;
    return bound;
}

// The kernel computes ((x - high) * scale) + shift with high = f32(mean), low = mean - high, scale = f32(gamma *
// inv_std), shift = f32(beta - low * scale). With g = gamma * inv_std, roundings of
//     x - high, scale, the product    3 u |g| (|x - mean| + u |mean|)
//     shift                           u (|beta| + u |mean g|)
//     the sum                         u (|g| |x - mean| + |beta|)
// and what the errors of the statistics make of y. No activation makes a difference larger.
inline double y_bound(const Channel& ch, const StatisticsBound& statistics, double x) {
    const double g = std::abs(ch.gamma) * ch.inv_std, d = std::abs(x - ch.mean);
    const double rounding = 4 * u * g * (d + u * std::abs(ch.mean)) + 2 * u * std::abs(ch.beta);
    return second_order * (rounding + g * statistics.mean * (1 + statistics.inv_std) + g * d * statistics.inv_std) +
           tiny * (1 + g + d);
}

// The statistics as they are stored, in f32.
inline double mean_bound(const Channel& ch, const StatisticsBound& s) { return s.mean + u * std::abs(ch.mean) + tiny; }
inline double inv_std_bound(const Channel& ch, const StatisticsBound& s) {
    return second_order * ch.inv_std * (s.inv_std + u);
}
inline double running_mean_bound(const Channel& ch, const StatisticsBound& s, const Parameters& p) {
    return second_order * (p.momentum * s.mean + u * std::abs(ch.running_mean)) + tiny;
}
inline double running_var_bound(const Tensor& x, const Channel& ch, const StatisticsBound& s, const Parameters& p) {
    const auto count = static_cast<double>(x.count());
    return second_order * (p.momentum * s.var * count / (count - p.ddof) + u * std::abs(ch.running_var)) + tiny;
}

// Whether `got` is `wanted` within `bound`; a NaN is wanted where the oracle has one, and an infinity where it has
// that.
inline bool agrees(double got, double wanted, double bound) {
    if (std::isnan(wanted)) return std::isnan(got);
    if (std::isinf(wanted)) return got == wanted;
    return std::abs(got - wanted) <= bound;
}

}  // namespace oracle
