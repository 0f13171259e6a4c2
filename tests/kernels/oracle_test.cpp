// The oracle itself: its gradient against finite differences of its forward pass, in double.

#include "oracle/oracle.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

using namespace fusebn;

namespace {

// Of sum(y * dy) along one direction e: (L(t) - L(-t)) / 2t. Inputs are f32, so t e is added in f32 and read back: what
// was really added is known exactly.
struct Problem {
    View view;
    Residual residual;
    Activation activation;
    bool batch_statistics;
    std::int64_t outer, channels, inner;
    std::vector<float> x, addend, dy, gamma, beta, gamma2, beta2, mean, var;

    Problem(View v, Residual r, Activation a, bool batch, unsigned seed)
        : view(v), residual(r), activation(a), batch_statistics(batch), outer(4), channels(2), inner(1) {
        if (view == View::planar) inner = 3;
        std::mt19937 random(seed);
        std::normal_distribution<float> normal(0.f, 1.f);
        const auto fill = [&](std::vector<float>& values, std::int64_t count, float scale, float offset) {
            for (std::int64_t i = 0; i < count; ++i) values.push_back(scale * normal(random) + offset);
        };
        const std::int64_t size = outer * channels * inner;
        fill(x, size, 1, 0.5f);
        fill(addend, size, 1, -0.5f);
        fill(dy, size, 1, 0);
        for (auto* values : {&gamma, &gamma2}) fill(*values, channels, 1.5f, 1);
        for (auto* values : {&beta, &beta2}) fill(*values, channels, 2, 1.5f);
        fill(mean, channels, 1, 0);
        fill(var, channels, 0.1f, 1);
    }

    oracle::Tensor tensor(const std::vector<float>& values) const {
        return view == View::planar ? oracle::planar(values.data(), outer, channels, inner)
                                    : oracle::interleaved(values.data(), outer, channels);
    }
    oracle::Call call() const {
        oracle::Call c;
        c.x = tensor(x);
        c.p.gamma = gamma.data();
        c.p.beta = beta.data();
        c.p.running_mean = mean.data();
        c.p.running_var = var.data();
        c.p.eps = 0.1;  // large enough to be noticed
        c.p.activation = activation;
        c.p.slope = 0.3f;
        c.batch_statistics = batch_statistics;
        c.residual = residual;
        c.p2 = c.p;
        c.p2.gamma = gamma2.data();
        c.p2.beta = beta2.data();
        if (residual != Residual::none) c.addend = tensor(addend);
        return c;
    }
    double loss() const {
        const oracle::Result result = oracle::forward(call());
        double sum = 0;
        for (std::size_t i = 0; i < dy.size(); ++i) sum += result.y[i] * static_cast<double>(dy[i]);
        return sum;
    }
    double difference_quotient(float& value) const {
        const float before = value;
        value = before + 0x1p-12f;
        const double above = loss(), up = static_cast<double>(value);
        value = before - 0x1p-12f;
        const double below = loss(), down = static_cast<double>(value);
        value = before;
        return (above - below) / (up - down);
    }
    bool near_a_kink() const {
        const oracle::Call c = call();
        const oracle::Channels statistics = oracle::channels_of(c);
        bool near = false;
        oracle::for_each_element(c.x, [&](std::int64_t o, std::int64_t ch, std::int64_t i) {
            const double v = oracle::before_activation(c, statistics, o, ch, i);
            for (double kink : {-3.0, 0.0, 3.0, 6.0}) near = near || std::abs(v - kink) < 0.01;
        });
        return near;
    }
};

void expect_gradient(Problem& p, const char* what, std::vector<float>& values, const std::vector<double>& gradient) {
    ASSERT_EQ(values.size(), gradient.size()) << what;
    for (std::size_t i = 0; i < values.size(); ++i) {
        // The step squared times a third derivative, which is of the order of 1 here: 1e-5 would do.
        const double wanted = p.difference_quotient(values[i]);
        EXPECT_NEAR(gradient[i], wanted, 1e-5 * (1 + std::abs(wanted))) << what << "[" << i << "]";
    }
}

TEST(Oracle, GradientIsTheDerivativeOfItsForwardPass) {
    int problems = 0;
    for (View view : {View::planar, View::interleaved}) {
        for (const auto& residual : residual_names) {
            for (const auto& activation : activation_names) {
                for (bool batch : {true, false}) {
                    SCOPED_TRACE(std::string(to_string(view)) + " " + std::string(residual.name) + " " +
                                 std::string(activation.name) + (batch ? " batch" : " constants"));
                    int done = 0;
                    for (unsigned seed = 1; done < 3 && seed < 100; ++seed) {
                        Problem p(view, residual.value, activation.value, batch, seed);
                        if (p.near_a_kink()) continue;
                        ++done;
                        ++problems;
                        const oracle::Call call = p.call();
                        const oracle::Gradients g = oracle::backward(call, p.tensor(p.dy), oracle::channels_of(call));
                        expect_gradient(p, "dx", p.x, g.dx);
                        expect_gradient(p, "dgamma", p.gamma, g.dgamma);
                        expect_gradient(p, "dbeta", p.beta, g.dbeta);
                        if (residual.value != Residual::none) expect_gradient(p, "daddend", p.addend, g.daddend);
                        if (residual.value != Residual::batch_norm) continue;
                        expect_gradient(p, "dgamma2", p.gamma2, g.dgamma2);
                        expect_gradient(p, "dbeta2", p.beta2, g.dbeta);
                    }
                    EXPECT_EQ(done, 3);
                }
            }
        }
    }
    EXPECT_EQ(problems, 2 * 3 * 6 * 2 * 3);
}

// Against numbers that others published.
TEST(Oracle, ReadsSixteenBits) {
    const std::uint16_t values[] = {0x3f80, 0xc000, 0x0001, 0x7f7f, 0x3c00, 0xc000, 0x0001, 0x7bff};
    EXPECT_EQ(oracle::element(values, DataType::bf16, 0), 1.0);
    EXPECT_EQ(oracle::element(values, DataType::bf16, 1), -2.0);
    EXPECT_EQ(oracle::element(values, DataType::bf16, 2), 0x1p-133);
    EXPECT_EQ(oracle::element(values, DataType::bf16, 3), 0x1.fep127);
    EXPECT_EQ(oracle::element(values, DataType::f16, 4), 1.0);
    EXPECT_EQ(oracle::element(values, DataType::f16, 5), -2.0);
    EXPECT_EQ(oracle::element(values, DataType::f16, 6), 0x1p-24);
    EXPECT_EQ(oracle::element(values, DataType::f16, 7), 65504.0);
}

}  // namespace
