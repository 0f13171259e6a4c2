// Activations far from zero, where formulas overflow or cancel, and silu's exponential everywhere: against what their
// definitions say.

#include <gtest/gtest.h>
#include <kernels_generic.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "fusebn/batch_norm.h"
#include "kernels/run.h"
#include "oracle/backward_bounds.h"

using namespace fusebn;

namespace {

struct Ends {
    std::vector<float> y, dx;
};

// y = act(x) and dx = act'(x) for dy = 1: eps beside a variance of 1 - eps makes batch norm the identity.
Ends apply(Activation activation, std::vector<float> x) {
    BatchNormOptions options;
    options.eps = 0.5;
    options.activation = activation;
    BatchNorm1d layer(1, kernels_generic::kernels(), options);
    EXPECT_TRUE(layer.set_state({{1}, {0}, {0}, {0.5}, 1}).ok());
    layer.eval();
    Ends ends{std::vector<float>(x.size()), std::vector<float>(x.size())};
    const std::vector<float> dy(x.size(), 1.0f);
    const Extents extents{static_cast<std::int64_t>(x.size()), 1};
    const auto of = [&](auto& values) { return tensor(values.data(), Layout::NC, extents); };
    EXPECT_TRUE(layer.forward(of(x), of(ends.y)).ok());
    EXPECT_TRUE(layer.backward(of(x), of(dy), of(ends.dx)).ok());
    return ends;
}

TEST(Activations, AreWhatTheyTendToFarFromZero) {
    constexpr float largest = std::numeric_limits<float>::max();
    for (InstructionSet isa : kernels::instruction_sets_here()) {
        const InstructionSet before = instruction_set();
        ASSERT_TRUE(set_instruction_set(isa).ok());
        for (Activation activation : {Activation::silu, Activation::hardswish, Activation::relu}) {
            SCOPED_TRACE(std::string(to_string(isa)) + " " + std::string(to_string(activation)));
            const std::vector<float> x = {-200, -1e10f, -1e30f, -largest, 200, 1e10f, 1e30f, 3e37f};
            const Ends ends = apply(activation, x);
            for (std::size_t i = 0; i < x.size(); ++i) {
                EXPECT_EQ(ends.y[i], x[i] < 0 ? 0 : x[i]) << x[i];
                EXPECT_EQ(ends.dx[i], x[i] < 0 ? 0 : 1) << x[i];
            }
        }
        ASSERT_TRUE(set_instruction_set(before).ok());
    }
}

// Batch norm being the identity, no rounding but silu's own stands between x and the results. A prime stride through
// the floats of either sign meets every last digit.
TEST(Activations, SiluIsWithinItsBoundThroughoutTheFloats) {
    std::vector<float> x;
    for (std::uint32_t bits = 0; bits < 0x7f800000u; bits += 1009) {
        float value;
        std::memcpy(&value, &bits, sizeof value);
        x.insert(x.end(), {value, -value});
    }
    const Ends ends = apply(Activation::silu, x);
    for (std::size_t i = 0; i < x.size(); ++i) {
        const double y = oracle::activate(Activation::silu, x[i]);
        const double dx = oracle::derivative(Activation::silu, x[i]);
        ASSERT_NEAR(ends.y[i], y, oracle::activated_bound(Activation::silu, x[i], 0, 0)) << x[i];
        ASSERT_NEAR(ends.dx[i], dx, oracle::gradient_bound(Activation::silu, x[i], 0, 1, 0)) << x[i];
    }
}

}  // namespace
