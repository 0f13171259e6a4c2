// How far a backward kernel may be from the oracle's gradient by the same statistics; bounds.h has the notation.
//
// The kernel computes, with high = f32(mean), low = mean - high, d = x - high and the sums S0 = sum(g), S1 = sum(g *
// d),
//     dbeta = S0                       dgamma = inv_std * (S1 - low * S0)
//     dx = ((g - a) - d * b) * scale   b = f32(inv_std * dgamma / n)   a = f32(S0 / n - low * b)   scale = f32(gamma *
//     inv_std)
#pragma once

#include <vector>

#include "backward.h"
#include "bounds.h"

namespace oracle {

// Of g = act'(v) * dy, where v is off by v_bound.
//     relu, relu6, leaky_relu   within v_bound of a kink either side is right, and they are |1 - slope| apart
//     silu         its second derivative is at most 1/2. s * (1 + v * (exp(-v) * s)): the sigmoid's error, that of
//                  exp(-v) * s (the exponential's, the sigmoid's, a product), a product, a sum and two products
//     hardswish    the second derivative is 1/3, and at both kinks the sides are 1/2 apart; v * third + 0.5: two
//                  roundings of the product, the sum, and the product with dy
inline double gradient_bound(fusebn::Activation activation, double v, double v_bound, double dy, double slope) {
    using fusebn::Activation;
    const double size = std::abs(dy);
    const auto near = [&](double kink) { return std::abs(v - kink) <= v_bound; };
    switch (activation) {
        case Activation::none: return 0;
        case Activation::relu: return near(0) ? size : 0;
        case Activation::relu6: return near(0) || near(6) ? size : 0;
        case Activation::leaky_relu:
            return (near(0) ? std::abs(1 - slope) * size : 0) + u * std::abs(slope) * size + tiny;
        case Activation::silu: {
            const double s = sigmoid(v), rest = std::abs(v) * (1 - s);
            const double inner = (exponential_error + sigmoid_error + 2 * u) * rest + u * (1 + rest);
            const double roundings = s * ((sigmoid_error + 2 * u) * (1 + rest) + inner);
            return second_order * (v_bound / 2 + roundings + 2 * tiny * std::min(std::abs(v), 90.0)) * size + tiny;
        }
        case Activation::hardswish: {
            const double jump = near(-3) || near(3) ? 0.5 : 0, inside = std::abs(v) < 3 + v_bound ? 1 : 0;
            return second_order * (jump + inside * (v_bound / 3 + 2 * u * std::abs(v) / 3 + 3 * u)) * size + tiny;
        }
    }
    return 0;
}

// The bounds of every number of `result`, which backward() gave; tensors before they are stored.
inline Gradients backward_bounds(const Call& call, const Tensor& dy, const Channels& channels,
                                 const Gradients& result) {
    using fusebn::Residual;
    const auto count = static_cast<double>(call.x.count());
    const auto slope = static_cast<double>(call.p.slope);
    const double D = additions(call.x);
    const bool two = call.residual == Residual::batch_norm;
    // Where nothing keeps a mask beside y, it is read off y, which was stored: on a kink counts what was rounded to it.
    const bool mask_of_y = !call.batch_statistics && fusebn::saves_mask(call.p.activation, call.residual);
    struct Element {
        double g, g_bound;
    };
    const auto element_of = [&](std::int64_t o, std::int64_t c, std::int64_t i) -> Element {
        const double v = before_activation(call, channels, o, c, i), given = dy.at(o, c, i);
        double v_bound = before_activation_bound(call, channels, {}, {}, o, c, i);
        if (mask_of_y) v_bound = stored_bound(call.x.dtype, v, v_bound);
        return {gradient(call.p.activation, v, given, slope),
                gradient_bound(call.p.activation, v, v_bound, given, slope)};
    };
    const auto low = [](const Channel& ch) { return u * std::abs(ch.mean); };
    // |x - high| <= |x - mean| + |low|
    const auto distance = [&](const Channel& ch, double x) { return std::abs(x - ch.mean) + low(ch); };

    // What a sum of f32 terms is off by: the terms' own errors, and D roundings of each on its way. S1's terms are
    // rounded twice, the difference and the product.
    Gradients bounds;
    for (std::vector<double>* sums : {&bounds.dbeta, &bounds.dgamma, &bounds.dgamma2}) {
        sums->assign(static_cast<std::size_t>(call.x.channels), count * tiny);
    }
    const auto add_terms = [&](const Element& e, const Channel& ch, double x, double& S1) {
        S1 += e.g_bound * distance(ch, x) + (D + 2) * u * (std::abs(e.g) + e.g_bound) * distance(ch, x);
    };
    for_each_element(call.x, [&](std::int64_t o, std::int64_t c, std::int64_t i) {
        const auto at = static_cast<std::size_t>(c);
        const Element e = element_of(o, c, i);
        bounds.dbeta[at] += e.g_bound + D * u * (std::abs(e.g) + e.g_bound);
        add_terms(e, channels.first[at], call.x.at(o, c, i), bounds.dgamma[at]);
        if (two) add_terms(e, channels.second[at], call.addend.at(o, c, i), bounds.dgamma2[at]);
    });
    const auto finish = [&](const Channel& ch, double dbeta_bound, double S1) {
        return second_order * ch.inv_std * (S1 + low(ch) * dbeta_bound);
    };
    for (std::size_t c = 0; c < bounds.dbeta.size(); ++c) {
        bounds.dgamma[c] = finish(channels.first[c], bounds.dbeta[c], bounds.dgamma[c]);
        if (two) bounds.dgamma2[c] = finish(channels.second[c], bounds.dbeta[c], bounds.dgamma2[c]);
    }

    // dx from what a, b and g are off by and the roundings of g - a, d (and d * b), the difference, scale, the product.
    const auto dx = [&](const Channel& ch, double x, const Element& e, double dgamma, double dgamma_bound,
                        std::size_t c) {
        const double scale = std::abs(ch.gamma) * ch.inv_std;
        if (!call.batch_statistics)
            return second_order * scale * (e.g_bound + 2 * u * std::abs(e.g)) + tiny * (1 + scale);
        const double b = std::abs(ch.inv_std * dgamma / count), d = distance(ch, x);
        const double b_bound = ch.inv_std * dgamma_bound / count + u * b + tiny;
        const double a = std::abs(result.dbeta[c]) / count + low(ch) * b;
        const double a_bound = bounds.dbeta[c] / count + low(ch) * b_bound + u * a + tiny;
        const double wanted = std::abs(e.g) + a + d * b;
        const double roundings = u * (std::abs(e.g) + a) + 2 * u * d * b + 3 * u * wanted;
        return second_order * scale * (e.g_bound + a_bound + d * b_bound + roundings) + tiny * (1 + scale);
    };
    for_each_element(call.x, [&](std::int64_t o, std::int64_t c, std::int64_t i) {
        const auto at = static_cast<std::size_t>(c);
        const Element e = element_of(o, c, i);
        bounds.dx.push_back(dx(channels.first[at], call.x.at(o, c, i), e, result.dgamma[at], bounds.dgamma[at], at));
        if (call.residual == Residual::add) bounds.daddend.push_back(e.g_bound);
        if (two) {
            bounds.daddend.push_back(
                dx(channels.second[at], call.addend.at(o, c, i), e, result.dgamma2[at], bounds.dgamma2[at], at));
        }
    });
    // dgamma and dbeta are stored in f32.
    for (std::size_t c = 0; c < bounds.dbeta.size(); ++c) {
        bounds.dbeta[c] = second_order * bounds.dbeta[c] + u * std::abs(result.dbeta[c]);
        bounds.dgamma[c] += u * std::abs(result.dgamma[c]);
        if (two) bounds.dgamma2[c] += u * std::abs(result.dgamma2[c]);
    }
    return bounds;
}

}  // namespace oracle
