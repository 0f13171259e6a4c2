// Activations and their derivatives, from their definitions (fusebn/types.h), in double.
#pragma once

#include <algorithm>
#include <cmath>

#include "fusebn/types.h"

namespace oracle {

inline double sigmoid(double v) { return 1 / (1 + std::exp(-v)); }

// A NaN stays a NaN.
inline double activate(fusebn::Activation activation, double v, double slope = 0) {
    using fusebn::Activation;
    if (std::isnan(v)) return v;
    switch (activation) {
        case Activation::none: return v;
        case Activation::relu: return std::max(v, 0.0);
        case Activation::relu6: return std::min(std::max(v, 0.0), 6.0);
        case Activation::leaky_relu: return v > 0 ? v : slope * v;
        case Activation::silu: return v * sigmoid(v);
        case Activation::hardswish: return v * std::min(std::max(v + 3, 0.0), 6.0) / 6;
    }
    return v;
}

// At a kink that of the outer side, below -3 or 0 and above 3 or 6, as PyTorch has it. A NaN counts as below.
inline double derivative(fusebn::Activation activation, double v, double slope = 0) {
    using fusebn::Activation;
    switch (activation) {
        case Activation::none: return 1;
        case Activation::relu: return v > 0 ? 1 : 0;
        case Activation::relu6: return v > 0 && v < 6 ? 1 : 0;
        case Activation::leaky_relu: return v > 0 ? 1 : slope;
        case Activation::silu: {
            const double s = sigmoid(v);
            return s * (1 + v * (1 - s));
        }
        case Activation::hardswish: return v > -3 ? (v < 3 ? v / 3 + 0.5 : 1) : 0;
    }
    return 1;
}

// act'(v) * dy, where a slope of zero by definition stops a dy of any value, NaN too.
inline double gradient(fusebn::Activation activation, double v, double dy, double slope = 0) {
    using fusebn::Activation;
    const bool stops =
        activation == Activation::relu || activation == Activation::relu6 || activation == Activation::hardswish;
    const double d = derivative(activation, v, slope);
    return stops && d == 0 ? 0 : d * dy;
}

}  // namespace oracle
