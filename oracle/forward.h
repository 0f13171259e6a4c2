// act( gamma * (x - mean) / sqrt(var + eps) + beta  [+ residual | + the same of a second branch] ) as plain loops.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "activation.h"
#include "fusebn/types.h"
#include "tensor.h"

namespace oracle {

// Of one batch norm. One value a channel; null: gamma 1, beta 0, running_mean 0, running_var 1.
struct Parameters {
    const float* gamma = nullptr;
    const float* beta = nullptr;
    const float* running_mean = nullptr;
    const float* running_var = nullptr;
    double eps = 1e-5;
    double momentum = 0.1;
    int ddof = 1;  // the running variance takes M2 / (count - ddof)
    fusebn::Activation activation = fusebn::Activation::none;
    float slope = 0.01f;
};

// Of one channel.
struct Channel {
    double gamma, beta;
    double mean, var, inv_std;         // what y is made with; var biased
    double running_mean, running_var;  // after the call
};

// What a kernel is called with.
struct Call {
    Tensor x;
    Parameters p;
    bool batch_statistics = false;  // or the running ones
    fusebn::Residual residual = fusebn::Residual::none;
    Tensor addend = {};  // add: what is added; batch_norm: the second branch's x
    Parameters p2 = {};  // batch_norm: the second branch's
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

// Both branches of all channels; the second is empty where there is none.
struct Channels {
    std::vector<Channel> first, second;
};
inline std::vector<Channel> channels_of(const Tensor& x, const Parameters& p, bool batch_statistics) {
    std::vector<Channel> all;
    for (std::int64_t c = 0; c < x.channels; ++c) {
        all.push_back(batch_statistics ? train_channel(x, c, p) : inference_channel(c, p));
    }
    return all;
}
inline Channels channels_of(const Call& call) {
    Channels all{channels_of(call.x, call.p, call.batch_statistics), {}};
    if (call.residual == fusebn::Residual::batch_norm) {
        all.second = channels_of(call.addend, call.p2, call.batch_statistics);
    }
    return all;
}

inline double normalised(const Channel& ch, double x) { return ch.gamma * (x - ch.mean) * ch.inv_std + ch.beta; }

// y without a residual.
inline double y(const Channel& ch, fusebn::Activation activation, double x, double slope = 0) {
    return activate(activation, normalised(ch, x), slope);
}

// What is activated.
inline double before_activation(const Call& call, const Channels& channels, std::int64_t o, std::int64_t c,
                                std::int64_t i) {
    const auto at = static_cast<std::size_t>(c);
    const double v = normalised(channels.first[at], call.x.at(o, c, i));
    switch (call.residual) {
        case fusebn::Residual::none: return v;
        case fusebn::Residual::add: return v + call.addend.at(o, c, i);
        case fusebn::Residual::batch_norm: return v + normalised(channels.second[at], call.addend.at(o, c, i));
    }
    return v;
}

// f(o, c, i) of every element, in the order of the view.
template <class F>
void for_each_element(const Tensor& t, F&& f) {
    for (std::int64_t o = 0; o < t.outer; ++o) {
        for (std::int64_t c = 0; c < t.channels; ++c) {
            for (std::int64_t i = 0; i < t.inner; ++i) f(o, c, i);
        }
    }
}

// Everything at once, for tensors of a test's size. y is dense, in the order of x's view.
struct Result {
    std::vector<double> y;
    std::vector<Channel> channels, channels2;
};

inline Result forward(const Call& call) {
    Channels channels = channels_of(call);
    Result result;
    for_each_element(call.x, [&](std::int64_t o, std::int64_t c, std::int64_t i) {
        const double v = before_activation(call, channels, o, c, i);
        result.y.push_back(activate(call.p.activation, v, static_cast<double>(call.p.slope)));
    });
    result.channels = std::move(channels.first);
    result.channels2 = std::move(channels.second);
    return result;
}
inline Result inference(const Tensor& x, const Parameters& p) { return forward({x, p, false}); }
inline Result train_forward(const Tensor& x, const Parameters& p) { return forward({x, p, true}); }

}  // namespace oracle
