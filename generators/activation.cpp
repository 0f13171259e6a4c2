#include "generators/activation.h"

namespace fusebn {

using namespace Halide;

namespace {

// exp(-v), within a unit in the last place: k ln2 + r with |r| <= ln2 / 2 (ln2 in two parts, of which k times the
// first is exact: W. J. Cody and W. Waite 1980), a polynomial in r of the least relative error, 2^-28, and 2^k by the
// exponent's bits. Additions and multiplications alone, so the bits do not depend on a library or an instruction set.
// Beyond exp(88.37) = 2.4e38 and below exp(-87.68) = 8e-39 k is 128 or -127, whose bits stand for infinity and 0.
// Infinity for a NaN.
Expr exp_of_negated(const Expr& v) {
    const Expr above = select(v > -89.0f, v, -89.0f), x = select(above < 88.0f, above, 88.0f);
    // Adding 1.5 * 2^23 rounds to an integer, which then stands in the lowest bits: with 127 more, 2^k's exponent.
    const Expr shifter = 12582912.0f + 127.0f;
    const Expr shifted = x * -1.44269504088896341f + shifter;
    const Expr k = shifted - shifter;
    const Expr r = (x + k * 0.693359375f) - k * 2.12194440e-4f;  // -r, as x is -(k ln2 + r)
    Expr p = 1.38144335e-3f;
    for (float coefficient : {-8.36879667e-3f, 4.16683964e-2f, -0.166665196f, 0.49999994f}) p = p * r + coefficient;
    const Expr power = reinterpret<float>(reinterpret<std::uint32_t>(shifted) << 23u);
    return ((p * (r * r) - r) + 1.0f) * power;
}

const float sixth = 1.0f / 6, third = 1.0f / 3;

}  // namespace

Expr activate(Activation activation, Expr v, Expr slope) {
    switch (activation) {
        case Activation::none: return v;
        // Not max(v, 0), which may return either operand for a NaN.
        case Activation::relu: return select(v < 0.0f, 0.0f, v);
        case Activation::relu6: return select(v < 0.0f, 0.0f, select(v > 6.0f, 6.0f, v));
        case Activation::leaky_relu: return select(v < 0.0f, v * slope, v);
        case Activation::silu: return v / (1.0f + exp_of_negated(v));
        case Activation::hardswish: {
            const Expr w = v + 3.0f;
            return v * (select(w < 0.0f, 0.0f, select(w > 6.0f, 6.0f, w)) * sixth);
        }
    }
    return v;
}

Expr passes(Activation activation, Expr v) { return activation == Activation::relu6 ? v > 0.0f && v < 6.0f : v > 0.0f; }

Expr masked_gradient(Activation activation, Expr passed, Expr dy, Expr slope) {
    return select(passed, dy, activation == Activation::leaky_relu ? dy * slope : Expr(0.0f));
}

Expr activation_gradient(Activation activation, Expr v, Expr dy, Expr slope) {
    switch (activation) {
        case Activation::none: return dy;
        case Activation::relu:
        case Activation::relu6:
        case Activation::leaky_relu: return masked_gradient(activation, passes(activation, v), dy, slope);
        case Activation::silu: {
            // s (1 + v (1 - s)), s = 1 / (1 + exp(-v)). 1 - s is exp(-v) s, which has no cancellation; where exp(-v) is
            // infinite s is 0, and so must be the product.
            const Expr e = exp_of_negated(v), s = 1.0f / (1.0f + e);
            const Expr finite = select(e < 3e38f, e, 3e38f);
            return dy * (s * (1.0f + v * (finite * s)));
        }
        case Activation::hardswish: return select(v <= -3.0f, 0.0f, select(v >= 3.0f, dy, dy * (v * third + 0.5f)));
    }
    return dy;
}

}  // namespace fusebn
