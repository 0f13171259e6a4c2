#include <cmath>

#include "kernels/run.h"

namespace kernels {

using namespace fusebn;

namespace {

void expect_near(const char* what, std::size_t channel, double got, double wanted, double bound) {
    EXPECT_TRUE(oracle::agrees(got, wanted, bound))
        << what << "[" << channel << "] is " << got << ", wanted " << wanted << " within " << bound;
}

// bound(i) is that before the store.
template <class Bound>
void expect_tensor(const char* what, const Case& c, const Elements& got, const std::vector<double>& wanted,
                   Bound&& bound) {
    ASSERT_EQ(got.size(), wanted.size());
    int wrong = 0;
    for (std::size_t i = 0; i < got.size() && wrong < 3; ++i) {
        if (oracle::stored_agrees(c.dtype, got.value(i), wanted[i], bound(i))) continue;
        ++wrong;
        ADD_FAILURE() << what << "[" << i << "] of channel " << c.channel_of(i) << " is " << got.value(i) << ", wanted "
                      << wanted[i] << " within " << bound(i) << " before the store";
    }
}

void expect_statistics(const oracle::Tensor& x, const oracle::Parameters& p, const std::vector<oracle::Channel>& wanted,
                       const std::vector<oracle::StatisticsBound>& bounds, const std::vector<double>& mean,
                       const std::vector<double>& inv_std, const std::vector<float>& running_mean,
                       const std::vector<float>& running_var) {
    ASSERT_EQ(mean.size(), wanted.size());
    for (std::size_t ch = 0; ch < wanted.size(); ++ch) {
        const oracle::Channel& w = wanted[ch];
        const oracle::StatisticsBound& b = bounds[ch];
        expect_near("mean", ch, mean[ch], w.mean, oracle::mean_bound(w, b));
        expect_near("inv_std", ch, inv_std[ch], w.inv_std, oracle::inv_std_bound(w, b));
        expect_near("running_mean", ch, static_cast<double>(running_mean[ch]), w.running_mean,
                    oracle::running_mean_bound(w, b, p));
        expect_near("running_var", ch, static_cast<double>(running_var[ch]), w.running_var,
                    oracle::running_var_bound(x, w, b, p));
    }
}

void expect_forward(const Case& c, const Inputs& inputs, const Result& result) {
    const bool train = c.op == Op::train_forward;
    const oracle::Call call = oracle_call(c, inputs, train);
    const oracle::Channels channels = oracle::channels_of(call);
    const auto bounds_of = [&](const oracle::Tensor& x, const oracle::Parameters& p,
                               const std::vector<oracle::Channel>& of) {
        std::vector<oracle::StatisticsBound> bounds(of.size());
        for (std::size_t ch = 0; train && ch < of.size(); ++ch) {
            bounds[ch] = oracle::statistics_bound(x, static_cast<std::int64_t>(ch), of[ch], p.eps);
        }
        return bounds;
    };
    const auto first = bounds_of(call.x, call.p, channels.first);
    auto second = bounds_of(call.addend, call.p2, channels.second);
    if (train) {
        expect_statistics(call.x, call.p, channels.first, first, result.mean, result.inv_std, result.running_mean,
                          result.running_var);
        if (c.has_two_branches()) {
            expect_statistics(call.addend, call.p2, channels.second, second, result.mean2, result.inv_std2,
                              result.running_mean2, result.running_var2);
        }
    }
    second.resize(c.features());
    std::vector<double> wanted, bounds;
    const auto alpha = static_cast<double>(call.p.slope);
    oracle::for_each_element(call.x, [&](std::int64_t o, std::int64_t ch, std::int64_t i) {
        const auto at = static_cast<std::size_t>(ch);
        const double v = oracle::before_activation(call, channels, o, ch, i);
        const double v_bound = oracle::before_activation_bound(call, channels, first[at], second[at], o, ch, i);
        wanted.push_back(oracle::activate(c.activation, v, alpha));
        bounds.push_back(oracle::activated_bound(c.activation, v, v_bound, alpha));
    });
    expect_tensor("y", c, result.tensors.at(0), wanted, [&](std::size_t i) { return bounds[i]; });
}

// By the statistics that the kernel was given, those that the layer kept.
void use_statistics(std::vector<oracle::Channel>& channels, const std::vector<double>& mean,
                    const std::vector<double>& inv_std) {
    ASSERT_EQ(mean.size(), channels.size());
    for (std::size_t ch = 0; ch < channels.size(); ++ch) {
        channels[ch].mean = mean[ch];
        channels[ch].inv_std = inv_std[ch];
    }
}

void expect_backward(const Case& c, const Inputs& inputs, const Result& result, bool frozen) {
    const oracle::Call call = oracle_call(c, inputs, !frozen);
    oracle::Channels channels = oracle::channels_of(call);
    if (!frozen) {
        use_statistics(channels.first, result.mean, result.inv_std);
        if (c.has_two_branches()) use_statistics(channels.second, result.mean2, result.inv_std2);
    }
    const oracle::Tensor dy = oracle_view(c, inputs.dy);
    const oracle::Gradients wanted = oracle::backward(call, dy, channels);
    const oracle::Gradients bounds = oracle::backward_bounds(call, dy, channels, wanted);
    const auto expect_channels = [&](const char* what, const std::vector<float>& got, const std::vector<double>& w,
                                     const std::vector<double>& b) {
        ASSERT_EQ(got.size(), w.size());
        for (std::size_t ch = 0; ch < w.size(); ++ch) {
            expect_near(what, ch, static_cast<double>(got[ch]), w[ch], b[ch]);
        }
    };
    expect_channels("dgamma", result.dgamma, wanted.dgamma, bounds.dgamma);
    expect_channels("dbeta", result.dbeta, wanted.dbeta, bounds.dbeta);
    if (c.has_two_branches()) {
        expect_channels("dgamma2", result.dgamma2, wanted.dgamma2, bounds.dgamma2);
        expect_channels("dbeta2", result.dbeta2, wanted.dbeta, bounds.dbeta);
    }
    if (result.tensors.empty()) return;
    expect_tensor("dx", c, result.tensors[0], wanted.dx, [&](std::size_t i) { return bounds.dx[i]; });
    if (c.residual == Residual::none) return;
    expect_tensor(c.has_two_branches() ? "dx2" : "dresidual", c, result.tensors.at(1), wanted.daddend,
                  [&](std::size_t i) { return bounds.daddend[i]; });
}

}  // namespace

void expect_oracle(const Case& c, const Inputs& inputs, const Result& result, bool frozen) {
    if (c.op == Op::backward) {
        expect_backward(c, inputs, result, frozen);
    } else {
        expect_forward(c, inputs, result);
    }
    EXPECT_TRUE(result.rest_untouched);
}

}  // namespace kernels
