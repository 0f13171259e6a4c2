// What is not finite stays in its channel, forward and backward: every other channel has the bits that it has without,
// and in its own it spreads as far as the definition says and no further.

#include <kernels_plain.h>

#include <cmath>
#include <limits>

#include "kernels/run.h"

using namespace fusebn;
using namespace kernels;

namespace {

constexpr std::size_t channel = 1;

// The parts of a result that belong to `channel`, made equal to another's.
template <class Values>
void take_channel(Values& to, const Values& from) {
    if (!to.empty()) to[channel] = from[channel];
}
void take_channel(const Case& c, Result& to, const Result& from) {
    for (std::size_t t = 0; t < to.tensors.size(); ++t) {
        for (std::size_t i = 0; i < to.tensors[t].size(); ++i) {
            if (c.channel_of(i) == channel) to.tensors[t].set_bits(i, from.tensors[t].bits(i));
        }
    }
    for (auto member : {&Result::mean, &Result::inv_std, &Result::mean2, &Result::inv_std2}) {
        take_channel(to.*member, from.*member);
    }
    for (auto member : {&Result::running_mean, &Result::running_var, &Result::running_mean2, &Result::running_var2,
                        &Result::dgamma, &Result::dbeta, &Result::dgamma2, &Result::dbeta2}) {
        take_channel(to.*member, from.*member);
    }
}

void expect_same_finiteness(const char* what, const Case& c, const Elements& got, const std::vector<double>& wanted) {
    for (std::size_t i = 0; i < got.size(); ++i) {
        if (c.channel_of(i) != channel) continue;
        ASSERT_EQ(std::isfinite(got.value(i)), std::isfinite(wanted[i]))
            << what << "[" << i << "] is " << got.value(i) << ", the oracle's " << wanted[i];
    }
}

void check(const Case& c, const Inputs& inputs, Elements Inputs::*tensor) {
    const Result clean = run(kernels_plain::kernels(), c, inputs);
    for (float value : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                        std::numeric_limits<float>::quiet_NaN()}) {
        Inputs dirty = inputs;
        const auto inner = static_cast<std::size_t>(c.inner);
        (dirty.*tensor).set(inner * channel + inner / 2, value);
        Result result = run(kernels_plain::kernels(), c, dirty);
        SCOPED_TRACE(result.kernel + " of " + std::to_string(value));

        oracle::Call call = oracle_call(c, dirty, c.op != Op::inference);
        if (c.op == Op::backward) {
            const oracle::Gradients wanted =
                oracle::backward(call, oracle_view(c, dirty.dy), oracle::channels_of(call));
            expect_same_finiteness("dx", c, result.tensors[0], wanted.dx);
            if (result.tensors.size() > 1) expect_same_finiteness("daddend", c, result.tensors[1], wanted.daddend);
            EXPECT_EQ(std::isfinite(result.dgamma[channel]), std::isfinite(wanted.dgamma[channel]));
            EXPECT_EQ(std::isfinite(result.dbeta[channel]), std::isfinite(wanted.dbeta[channel]));
        } else {
            const oracle::Result wanted = oracle::forward(call);
            expect_same_finiteness("y", c, result.tensors[0], wanted.y);
        }
        take_channel(c, result, clean);
        EXPECT_EQ(difference(clean, result), "") << "the other channels";
    }
}

TEST(NonFinite, ValuesStayInTheirChannel) {
    for (const Case& c : cases(kernels_plain::kernels())) {
        if (c.channels < 3 || c.elements() > 200000) continue;
        const Inputs inputs = random_inputs(c, Data::ordinary);
        check(c, inputs, &Inputs::x);
        if (c.op == Op::backward) check(c, inputs, &Inputs::dy);
        if (c.residual != Residual::none) check(c, inputs, &Inputs::addend);
    }
}

// ReLU of a NaN is no zero, whatever the operands' order.
TEST(NonFinite, ChannelsAreNaNAsAWholeInTraining) {
    for (const Case& c : cases(kernels_plain::kernels())) {
        if (c.op == Op::inference || c.channels < 3 || c.elements() > 200000) continue;
        Inputs inputs = random_inputs(c, Data::ordinary);
        inputs.x.set(static_cast<std::size_t>(c.inner) * channel, std::numeric_limits<float>::quiet_NaN());
        const Result result = run(kernels_plain::kernels(), c, inputs);
        EXPECT_TRUE(std::isnan(result.mean[channel])) << name(c);
        EXPECT_TRUE(std::isnan(result.inv_std[channel])) << name(c);
        for (std::size_t i = 0; i < inputs.x.size(); ++i) {
            if (c.channel_of(i) != channel) continue;
            ASSERT_TRUE(std::isnan(result.tensors[0].value(i))) << name(c) << " [" << i << "]";
        }
    }
}

}  // namespace
