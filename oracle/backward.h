// The gradient of forward.h, by the chain rule (Ioffe and Szegedy 2015, section 3), as plain loops. With
// xhat = (x - mean) * inv_std, g = act'(v) * dy and n values in a channel:
//
//   dbeta = sum(g)     dgamma = sum(g * xhat)     dresidual = g
//   dx = gamma * inv_std * (g - dbeta / n - xhat * dgamma / n), where mean and inv_std are the batch's
//   dx = gamma * inv_std * g,                                   where they are constants
#pragma once

#include "forward.h"

namespace oracle {

// Tensors are dense, in the order of the view; the rest has a value a channel. What the call has not is empty. (dbeta2
// is dbeta.)
struct Gradients {
    std::vector<double> dx, daddend;  // add: dresidual; batch_norm: dx2
    std::vector<double> dgamma, dbeta, dgamma2;
};

// `channels` has the statistics to differentiate by: the oracle's own (channels_of), or those that a kernel was given.
inline Gradients backward(const Call& call, const Tensor& dy, const Channels& channels) {
    using fusebn::Residual;
    const auto count = static_cast<double>(call.x.count());
    const auto slope = static_cast<double>(call.p.slope);
    const auto size = static_cast<std::size_t>(call.x.channels);
    const bool two = call.residual == Residual::batch_norm;
    const auto g = [&](std::int64_t o, std::int64_t c, std::int64_t i) {
        if (call.p.activation == fusebn::Activation::none) return dy.at(o, c, i);
        return gradient(call.p.activation, before_activation(call, channels, o, c, i), dy.at(o, c, i), slope);
    };
    const auto xhat = [](const Channel& ch, double x) { return (x - ch.mean) * ch.inv_std; };

    Gradients result;
    result.dbeta.assign(size, 0);
    result.dgamma.assign(size, 0);
    result.dgamma2.assign(two ? size : 0, 0);
    for_each_element(call.x, [&](std::int64_t o, std::int64_t c, std::int64_t i) {
        const auto at = static_cast<std::size_t>(c);
        result.dbeta[at] += g(o, c, i);
        result.dgamma[at] += g(o, c, i) * xhat(channels.first[at], call.x.at(o, c, i));
        if (two) result.dgamma2[at] += g(o, c, i) * xhat(channels.second[at], call.addend.at(o, c, i));
    });
    const auto dx = [&](const Channel& ch, double x, double passed, double dgamma, double dbeta) {
        if (!call.batch_statistics) return ch.gamma * ch.inv_std * passed;
        return ch.gamma * ch.inv_std * (passed - dbeta / count - xhat(ch, x) * dgamma / count);
    };
    for_each_element(call.x, [&](std::int64_t o, std::int64_t c, std::int64_t i) {
        const auto at = static_cast<std::size_t>(c);
        const double passed = g(o, c, i), dbeta = result.dbeta[at];
        result.dx.push_back(dx(channels.first[at], call.x.at(o, c, i), passed, result.dgamma[at], dbeta));
        if (call.residual == Residual::add) result.daddend.push_back(passed);
        if (two) {
            result.daddend.push_back(
                dx(channels.second[at], call.addend.at(o, c, i), passed, result.dgamma2[at], dbeta));
        }
    });
    return result;
}

}  // namespace oracle
