#include "measure/check.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <mutex>
#include <sstream>

#include "measure/threads.h"

namespace fusebn::measure {
namespace {

// One channel of a tensor, as values in a row: the oracle reads each several times. Every type's values are f32's too.
class ChannelCopy {
public:
    ChannelCopy(const LayerCase& layer_case, const void* data, std::int64_t c) {
        if (data == nullptr) return;
        const oracle::Tensor whole = layer_case.view_of(data);
        values_.reserve(static_cast<std::size_t>(whole.count()));
        for (std::int64_t o = 0; o < whole.outer; ++o) {
            for (std::int64_t i = 0; i < whole.inner; ++i) values_.push_back(static_cast<float>(whole.at(o, c, i)));
        }
        tensor_ = whole.view == View::planar ? oracle::planar(values_.data(), whole.outer, 1, whole.inner)
                                             : oracle::interleaved(values_.data(), whole.outer, 1);
    }
    const oracle::Tensor& tensor() const { return tensor_; }
    double operator[](std::size_t i) const { return static_cast<double>(values_[i]); }

private:
    std::vector<float> values_;
    oracle::Tensor tensor_;
};

oracle::Parameters parameters_of(const BatchNorm& layer, const BatchNormState& before, std::int64_t c) {
    oracle::Parameters p;
    p.gamma = before.gamma.data() + c;
    p.beta = before.beta.data() + c;
    p.running_mean = before.running_mean.data() + c;
    p.running_var = before.running_var.data() + c;
    p.eps = layer.options().eps;
    p.momentum = layer.options().momentum.value();
    p.activation = layer.options().activation;
    p.slope = static_cast<float>(layer.options().slope);
    return p;
}

class ChannelCheck {
public:
    ChannelCheck(const LayerCase& layer_case, const Workload& workload, std::int64_t c)
        : case_(layer_case),
          workload_(workload),
          c_(c),
          x_(layer_case, workload.operands().x, c),
          addend_(layer_case, workload.operands().addend, c) {
        call_.x = x_.tensor();
        call_.p = parameters_of(workload.layer(), workload.state(), c);
        call_.batch_statistics = layer_case.op() != Op::inference;
        call_.residual = layer_case.residual();
        call_.addend = addend_.tensor();
        if (workload.other() != nullptr) call_.p2 = parameters_of(*workload.other(), workload.other_state(), c);
    }

    Verdict forward() {
        const oracle::Channels channels = oracle::channels_of(call_);
        oracle::StatisticsBound first, second;
        if (case_.op() == Op::train_forward) {
            first = statistics(workload_.layer(), "", call_.x, channels.first[0], call_.p);
            if (const BatchNorm* const other = workload_.other()) {
                second = statistics(*other, "the second branch's ", call_.addend, channels.second[0], call_.p2);
            }
        }
        const ChannelCopy y(case_, workload_.operands().out, c_);
        const auto slope = static_cast<double>(call_.p.slope);
        std::size_t at = 0;
        oracle::for_each_element(call_.x, [&](std::int64_t o, std::int64_t, std::int64_t i) {
            const double v = oracle::before_activation(call_, channels, o, 0, i);
            const double v_bound = oracle::before_activation_bound(call_, channels, first, second, o, 0, i);
            stored("y", y[at++], oracle::activate(call_.p.activation, v, slope),
                   oracle::activated_bound(call_.p.activation, v, v_bound, slope));
        });
        return verdict_;
    }

    Verdict backward() {
        oracle::Channels channels;
        channels.first = {saved(workload_.layer(), call_.p)};
        if (workload_.other() != nullptr) channels.second = {saved(*workload_.other(), call_.p2)};
        const ChannelCopy dy(case_, workload_.operands().dy, c_);
        const oracle::Gradients wanted = oracle::backward(call_, dy.tensor(), channels);
        const oracle::Gradients bounds = oracle::backward_bounds(call_, dy.tensor(), channels, wanted);

        value("dgamma", of(workload_.layer().grad_gamma()), wanted.dgamma[0], bounds.dgamma[0]);
        value("dbeta", of(workload_.layer().grad_beta()), wanted.dbeta[0], bounds.dbeta[0]);
        if (const BatchNorm* const other = workload_.other()) {
            value("the second branch's dgamma", of(other->grad_gamma()), wanted.dgamma2[0], bounds.dgamma2[0]);
            value("the second branch's dbeta", of(other->grad_beta()), wanted.dbeta[0], bounds.dbeta[0]);
        }
        const ChannelCopy dx(case_, workload_.operands().out, c_);
        for (std::size_t i = 0; i < wanted.dx.size(); ++i) stored("dx", dx[i], wanted.dx[i], bounds.dx[i]);
        if (call_.residual != Residual::none) {
            const char* const name = call_.residual == Residual::add ? "dresidual" : "dx of the second branch";
            const ChannelCopy daddend(case_, workload_.operands().addend_out, c_);
            for (std::size_t i = 0; i < wanted.daddend.size(); ++i) {
                stored(name, daddend[i], wanted.daddend[i], bounds.daddend[i]);
            }
        }
        return verdict_;
    }

private:
    template <class T>
    double of(const std::vector<T>& values) const {
        return static_cast<double>(values[static_cast<std::size_t>(c_)]);
    }

    void complain(const std::string& what, double got, double wanted, double bound) {
        if (!verdict_.complaint.empty()) return;
        std::ostringstream out;
        out.precision(9);
        out << what << " of channel " << c_ << " is " << got << ", expected " << wanted << " within " << bound;
        verdict_.complaint = out.str();
    }

    void value(const std::string& what, double got, double wanted, double bound) {
        if (!oracle::agrees(got, wanted, bound)) complain(what, got, wanted, bound);
    }

    // An element of a tensor, `bound` being that before it is rounded to the tensor's type.
    void stored(const char* what, double got, double wanted, double bound) {
        if (!oracle::stored_agrees(case_.dtype(), got, wanted, bound)) complain(what, got, wanted, bound);
        const double error = std::abs(got - wanted);
        if (error > 0) {
            verdict_.worst = std::max(verdict_.worst, error / oracle::stored_bound(case_.dtype(), wanted, bound));
        }
    }

    oracle::StatisticsBound statistics(const BatchNorm& layer, const std::string& whose, const oracle::Tensor& x,
                                       const oracle::Channel& ch, const oracle::Parameters& p) {
        const oracle::StatisticsBound s = oracle::statistics_bound(x, 0, ch, p.eps);
        value(whose + "mean", of(layer.saved_mean()), ch.mean, oracle::mean_bound(ch, s));
        value(whose + "inv_std", of(layer.saved_inv_std()), ch.inv_std, oracle::inv_std_bound(ch, s));
        value(whose + "running_mean", of(layer.state().running_mean), ch.running_mean,
              oracle::running_mean_bound(ch, s, p));
        value(whose + "running_var", of(layer.state().running_var), ch.running_var,
              oracle::running_var_bound(x, ch, s, p));
        return s;
    }

    // The statistics that backward was given.
    oracle::Channel saved(const BatchNorm& layer, const oracle::Parameters& p) const {
        oracle::Channel ch = oracle::inference_channel(0, p);
        ch.mean = of(layer.saved_mean());
        ch.inv_std = of(layer.saved_inv_std());
        ch.var = 1 / (ch.inv_std * ch.inv_std) - p.eps;
        return ch;
    }

    const LayerCase& case_;
    const Workload& workload_;
    std::int64_t c_;
    ChannelCopy x_, addend_;
    oracle::Call call_;
    Verdict verdict_;
};

}  // namespace

Verdict check(const LayerCase& layer_case, const Workload& workload) {
    Verdict all;
    std::mutex mutex;
    in_parts(layer_case.C, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t c = begin; c < end; ++c) {
            ChannelCheck channel(layer_case, workload, c);
            const Verdict one = layer_case.op() == Op::backward ? channel.backward() : channel.forward();
            const std::lock_guard<std::mutex> lock(mutex);
            all.worst = std::max(all.worst, one.worst);
            if (all.complaint.empty()) all.complaint = one.complaint;
        }
    });
    return all;
}

}  // namespace fusebn::measure
