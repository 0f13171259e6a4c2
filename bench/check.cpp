#include "check.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <sstream>

#include "threads.h"

namespace fusebn::bench {
namespace {

std::string disagreement(const char* what, std::int64_t c, double got, double wanted, double bound) {
    std::ostringstream out;
    out.precision(9);
    out << what << " of channel " << c << " is " << got << ", expected " << wanted << " within " << bound;
    return out.str();
}

// Of one channel.
Verdict check_channel(const LayerCase& layer_case, const oracle::Tensor& x, const oracle::Tensor& y, std::int64_t c,
                      const oracle::Parameters& p, const BatchNorm& layer) {
    Verdict verdict;
    const bool training = layer_case.op() == Op::train_forward;
    const oracle::Channel ch = training ? oracle::train_channel(x, c, p) : oracle::inference_channel(c, p);
    oracle::StatisticsBound s;
    if (training) {
        s = oracle::statistics_bound(x, ch, p.eps);
        const auto expect = [&](const char* what, const std::vector<float>& got, double wanted, double bound) {
            const double value = static_cast<double>(got[static_cast<std::size_t>(c)]);
            if (!oracle::agrees(value, wanted, bound)) verdict.complaint = disagreement(what, c, value, wanted, bound);
        };
        expect("mean", layer.saved_mean(), ch.mean, oracle::mean_bound(ch, s));
        expect("inv_std", layer.saved_inv_std(), ch.inv_std, oracle::inv_std_bound(ch, s));
        expect("running_mean", layer.state().running_mean, ch.running_mean, oracle::running_mean_bound(ch, s, p));
        expect("running_var", layer.state().running_var, ch.running_var, oracle::running_var_bound(x, ch, s, p));
    }
    for (std::int64_t o = 0; o < x.outer; ++o) {
        for (std::int64_t i = 0; i < x.inner; ++i) {
            const double wanted = oracle::y(ch, p.activation, x.at(o, c, i)), got = y.at(o, c, i);
            const double bound = oracle::y_bound(ch, s, x.at(o, c, i));
            if (!oracle::agrees(got, wanted, bound)) verdict.complaint = disagreement("y", c, got, wanted, bound);
            verdict.worst = std::max(verdict.worst, std::abs(got - wanted) / bound);
        }
    }
    return verdict;
}

}  // namespace

Verdict check(const LayerCase& layer_case, const float* x, const float* y, const BatchNorm& layer,
              const BatchNormState& before) {
    oracle::Parameters p;
    p.gamma = before.gamma.data();
    p.beta = before.beta.data();
    p.running_mean = before.running_mean.data();
    p.running_var = before.running_var.data();
    p.eps = layer.options().eps;
    p.momentum = layer.options().momentum.value();
    p.activation = layer.options().activation;

    Verdict all;
    std::mutex mutex;
    in_parts(layer_case.C, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t c = begin; c < end; ++c) {
            const Verdict one = check_channel(layer_case, layer_case.view_of(x), layer_case.view_of(y), c, p, layer);
            const std::lock_guard<std::mutex> lock(mutex);
            all.worst = std::max(all.worst, one.worst);
            if (all.complaint.empty()) all.complaint = one.complaint;
        }
    });
    return all;
}

}  // namespace fusebn::bench
