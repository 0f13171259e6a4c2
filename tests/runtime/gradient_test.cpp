// backward against differences of forward, in double: d/dt of sum(dy * forward(x + t e)) for every element and every
// parameter, for each kind of call, activation, layout and source of the statistics.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "fake_library.h"

namespace fusebn::test {
namespace {

constexpr double eps = 0.1, slope = 0.2;

struct Branch {
    std::vector<double> x, gamma, beta;
    std::vector<double> running_mean, running_var;  // empty: the batch's
};

struct Problem {
    Layout layout;
    Extents extents;
    Activation activation;
    std::vector<double> dy, residual;  // residual: empty for none
    std::vector<Branch> branches;

    std::vector<double> before_activation() const {
        std::vector<double> v = residual;
        v.resize(dy.size());
        const auto channels = static_cast<std::size_t>(extents[channel_axis(layout)]);
        const double count = static_cast<double>(dy.size() / channels);
        for (const Branch& b : branches) {
            std::vector<double> mean = b.running_mean, var = b.running_var;
            if (mean.empty()) {
                mean.assign(channels, 0);
                var.assign(channels, 0);
                for (std::size_t i = 0; i < v.size(); ++i) mean[channel_of(i, layout, extents)] += b.x[i] / count;
                for (std::size_t i = 0; i < v.size(); ++i) {
                    const std::size_t c = channel_of(i, layout, extents);
                    var[c] += (b.x[i] - mean[c]) * (b.x[i] - mean[c]) / count;
                }
            }
            for (std::size_t i = 0; i < v.size(); ++i) {
                const std::size_t c = channel_of(i, layout, extents);
                v[i] += b.gamma[c] * (b.x[i] - mean[c]) / std::sqrt(var[c] + eps) + b.beta[c];
            }
        }
        return v;
    }
    double loss() const {
        double sum = 0;
        const std::vector<double> v = before_activation();
        for (std::size_t i = 0; i < v.size(); ++i) sum += dy[i] * activate(activation, v[i], slope);
        return sum;
    }
    // By central differences: exact to the square of the step where no value is at a kink.
    std::vector<double> gradient(std::vector<double>& of) {
        constexpr double step = 1e-6;
        std::vector<double> result;
        for (double& value : of) {
            const double before = value;
            value = before + step;
            const double above = loss();
            value = before - step;
            const double below = loss();
            value = before;
            result.push_back((above - below) / (2 * step));
        }
        return result;
    }
    bool has_kink() const {
        for (const double v : before_activation()) {
            for (const double kink : {-3.0, 0.0, 3.0, 6.0}) {
                if (std::abs(v - kink) < 1e-4) return true;
            }
        }
        return false;
    }
};

std::vector<double> doubles(const std::vector<float>& values) { return {values.begin(), values.end()}; }

void expect_gradient(const std::vector<float>& actual, const std::vector<double>& expected, const char* what) {
    ASSERT_EQ(actual.size(), expected.size()) << what;
    for (std::size_t i = 0; i < actual.size(); ++i) {
        EXPECT_NEAR(actual[i], expected[i], 2e-4 * (1 + std::abs(expected[i]))) << what << " " << i;
    }
}

struct Case {
    Layout layout;
    Extents extents;
};
const Case cases[] = {{Layout::NCHW, {2, 3, 2, 2}}, {Layout::NHWC, {2, 2, 2, 3}}, {Layout::NCHW, {8, 3, 1, 1}}};
enum class Mode { batch, frozen, eval };

class Gradients : public testing::TestWithParam<Activation> {
protected:
    static constexpr std::size_t size = 24;
    std::vector<float> x_ = noise(size, 0.5f, 1), x2_ = noise(size, -0.5f, 2), residual_ = noise(size, 0, 3),
                       dy_ = noise(size, 0, 4);
    std::vector<float> y_ = std::vector<float>(size), dx_ = y_, dsecond_ = y_;
    FakeLibrary library_ = generic_library(GetParam());
    BatchNormState state_{{1.5f, -2, 4}, {0.3f, 0.2f, -0.4f}, {0.2f, 0.4f, 0.6f}, {0.5f, 0.3f, 0.4f}, 3};
    BatchNormState state2_{{1, 2, -0.5f}, {0.1f, 0, 0.3f}, {-0.2f, -0.4f, -0.6f}, {0.2f, 0.4f, 0.3f}, 3};

    BatchNorm2d layer(Activation activation, const BatchNormState& state, Mode mode) {
        BatchNormOptions options;
        options.activation = activation;
        options.eps = eps;
        options.slope = slope;
        options.momentum = 0;  // so that forward leaves the statistics that backward is to use
        BatchNorm2d made(3, library_.table(), options);
        EXPECT_TRUE(made.set_state(state).ok());
        EXPECT_TRUE(made.freeze_statistics(mode == Mode::frozen).ok());
        made.train(mode != Mode::eval);
        return made;
    }
    static Branch branch(const std::vector<float>& x, const BatchNormState& s, Mode mode) {
        Branch b{doubles(x), doubles(s.gamma), doubles(s.beta), {}, {}};
        if (mode == Mode::batch) return b;
        b.running_mean = doubles(s.running_mean);
        b.running_var = doubles(s.running_var);
        return b;
    }
    static void expect_ok(const Status& s) { ASSERT_TRUE(s.ok()) << s.message(); }

    // For all layouts and modes: `run` makes the gradients by a layer and compares.
    void for_all(const std::function<void(const Case&, Mode, const Tensor*)>& run) {
        for (const Case& c : cases) {
            for (const Mode mode : {Mode::batch, Mode::frozen, Mode::eval}) {
                SCOPED_TRACE(std::string(to_string(c.layout)) + " " + std::to_string(static_cast<int>(mode)));
                const Tensor t[] = {
                    tensor(x_.data(), c.layout, c.extents),        tensor(x2_.data(), c.layout, c.extents),
                    tensor(residual_.data(), c.layout, c.extents), tensor(dy_.data(), c.layout, c.extents),
                    tensor(y_.data(), c.layout, c.extents),        tensor(dx_.data(), c.layout, c.extents),
                    tensor(dsecond_.data(), c.layout, c.extents)};
                run(c, mode, t);
            }
        }
    }
    enum { x, x2, residual, dy, y, dx, dsecond };
};

TEST_P(Gradients, OfForward) {
    for_all([&](const Case& c, Mode mode, const Tensor* t) {
        BatchNorm2d bn = layer(GetParam(), state_, mode);
        Problem p{c.layout, c.extents, GetParam(), doubles(dy_), {}, {branch(x_, state_, mode)}};
        ASSERT_FALSE(p.has_kink());
        expect_ok(bn.forward(t[x], t[y]));
        expect_ok(bn.backward(t[x], t[dy], t[dx]));
        expect_gradient(dx_, p.gradient(p.branches[0].x), "dx");
        expect_gradient(bn.grad_gamma(), p.gradient(p.branches[0].gamma), "dgamma");
        expect_gradient(bn.grad_beta(), p.gradient(p.branches[0].beta), "dbeta");
    });
}

TEST_P(Gradients, OfForwardAdd) {
    const bool mask = saves_mask(GetParam(), Residual::add);
    for_all([&](const Case& c, Mode mode, const Tensor* t) {
        if (mask && mode == Mode::eval) return;  // keeps no mask
        BatchNorm2d bn = layer(GetParam(), state_, mode);
        Problem p{c.layout, c.extents, GetParam(), doubles(dy_), doubles(residual_), {branch(x_, state_, mode)}};
        ASSERT_FALSE(p.has_kink());
        expect_ok(bn.forward_add(t[x], t[residual], t[y]));
        BackwardOptions options;
        if (!mask && GetParam() != Activation::none) options.residual = t[residual];
        expect_ok(bn.backward_add(t[x], t[dy], t[dx], t[dsecond], options));
        expect_gradient(dx_, p.gradient(p.branches[0].x), "dx");
        expect_gradient(dsecond_, p.gradient(p.residual), "dresidual");
        expect_gradient(bn.grad_gamma(), p.gradient(p.branches[0].gamma), "dgamma");
        expect_gradient(bn.grad_beta(), p.gradient(p.branches[0].beta), "dbeta");
    });
}

TEST_P(Gradients, OfForwardSum) {
    for_all([&](const Case& c, Mode mode, const Tensor* t) {
        BatchNorm2d bn = layer(GetParam(), state_, mode), other = layer(Activation::none, state2_, mode);
        Problem p{c.layout,     c.extents, GetParam(),
                  doubles(dy_), {},        {branch(x_, state_, mode), branch(x2_, state2_, mode)}};
        ASSERT_FALSE(p.has_kink());
        expect_ok(bn.forward_sum(t[x], other, t[x2], t[y]));
        expect_ok(bn.backward_sum(t[x], other, t[x2], t[dy], t[dx], t[dsecond]));
        expect_gradient(dx_, p.gradient(p.branches[0].x), "dx");
        expect_gradient(dsecond_, p.gradient(p.branches[1].x), "dx_other");
        expect_gradient(bn.grad_gamma(), p.gradient(p.branches[0].gamma), "dgamma");
        expect_gradient(bn.grad_beta(), p.gradient(p.branches[0].beta), "dbeta");
        expect_gradient(other.grad_gamma(), p.gradient(p.branches[1].gamma), "dgamma of the other");
        expect_gradient(other.grad_beta(), p.gradient(p.branches[1].beta), "dbeta of the other");
    });
}

INSTANTIATE_TEST_SUITE_P(Of, Gradients,
                         testing::Values(Activation::none, Activation::relu, Activation::relu6, Activation::leaky_relu,
                                         Activation::silu, Activation::hardswish),
                         [](const auto& activation) { return std::string(to_string(activation.param)); });

}  // namespace
}  // namespace fusebn::test
