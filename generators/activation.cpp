#include "generators/activation.h"

namespace fusebn {

using namespace Halide;

namespace {

// exp(v) for v in [-87.3, 0], within 2 units in the last place: v = k ln2 + r with |r| <= ln2 / 2, a polynomial in r
// (Cephes' expf, S. L. Moshier), and 2^k by the exponent's bits. Additions and multiplications alone, so the bits do
// not depend on a library or an instruction set. Below -87.3, where it is 1e-38, 0.
Expr exp_of_negative(const Expr& v) {
    const Expr x = select(v > -87.3f, v, -87.3f);
    // Adding 1.5 * 2^23 rounds to an integer, which then stands in the lowest bits.
    const Expr shifter = 12582912.0f;
    const Expr shifted = x * 1.44269504088896341f + shifter;
    const Expr k = shifted - shifter;
    const Expr r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
    Expr p = 1.9875691500e-4f;
    for (float coefficient :
         {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}) {
        p = p * r + coefficient;
    }
    const Expr power = (reinterpret<std::int32_t>(shifted) - reinterpret<std::int32_t>(shifter) + 127) << 23;
    return select(v > -87.3f, ((p * (r * r) + r) + 1.0f) * reinterpret<float>(power), 0.0f);
}

// 1 / (1 + exp(-v)), from exp(-|v|), which cannot overflow.
Expr sigmoid(const Expr& v) {
    const Expr e = exp_of_negative(-abs(v));
    return select(v < 0.0f, e, 1.0f) / (1.0f + e);
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
        case Activation::silu: return v * sigmoid(v);
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
            const Expr s = sigmoid(v);
            return dy * (s * (1.0f + v * (1.0f - s)));
        }
        case Activation::hardswish: return select(v <= -3.0f, 0.0f, select(v >= 3.0f, dy, dy * (v * third + 0.5f)));
    }
    return dy;
}

}  // namespace fusebn
