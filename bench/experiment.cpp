#include "experiment.h"

#include <resnet50_bn.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <stdexcept>

#include "fusebn/parallel.h"

namespace fusebn::bench {
namespace {

LayerCase case_of(Layout layout, Op op) {
    const fusebn_kernel_table& table = resnet50_bn::kernels();
    for (int i = 0; i < table.kernel_count; ++i) {
        const fusebn_kernel& k = table.kernels[i];
        if (k.op == static_cast<int>(op) && k.view == static_cast<int>(view(layout)) && k.extents[1] == FUSEBN_ANY &&
            k.activation == FUSEBN_ACTIVATION_NONE && k.dtype == FUSEBN_DTYPE_F32) {
            const auto& [N, C, H, W] = experiment_extents;
            return {&table, &k, layout, N, C, H, W, false};
        }
    }
    throw std::runtime_error("the library has no generic kernel for " + std::string(to_string(op)));
}

// Moves every channel's mean to `ratio` of its standard deviations.
void shift(const LayerCase& c, void* data, double ratio) {
    const oracle::Tensor t = c.view_of(data);
    auto* const x = static_cast<float*>(data);
    for (std::int64_t channel = 0; channel < t.channels; ++channel) {
        const oracle::Channel ch = oracle::train_channel(t, channel, oracle::Parameters());
        const double sigma = std::sqrt(ch.var);
        for (std::int64_t o = 0; o < t.outer; ++o) {
            for (std::int64_t i = 0; i < t.inner; ++i) {
                float& value = x[o * t.outer_stride + channel * t.channel_stride + i];
                value = static_cast<float>(static_cast<double>(value) - ch.mean + ratio * sigma);
            }
        }
    }
}

std::vector<float> copy_of(const void* data, std::int64_t elements) {
    const auto* const values = static_cast<const float*>(data);
    return {values, values + elements};
}

void check(const Status& status) {
    if (!status.ok()) throw std::runtime_error(status.message());
}

}  // namespace

Experiment::Experiment(Layout layout, double ratio)
    : forward_case_(case_of(layout, Op::train_forward)),
      backward_case_(case_of(layout, Op::backward)),
      forward_(forward_case_, forward_space_),
      backward_(backward_case_, backward_space_) {
    const std::int64_t bytes = forward_case_.tensor_bytes();
    void* const x = forward_space_.x.at_least(bytes);
    shift(forward_case_, x, ratio);
    std::memcpy(backward_space_.x.at_least(bytes), x, static_cast<std::size_t>(bytes));
}

std::map<std::string, Results> Experiment::run() {
    std::map<std::string, Results> found = {{"fusebn", ours()}};
    for (const Peer& peer : onednn_peers(forward_case_, forward_.operands(), forward_.state(), eps(), num_threads())) {
        peer.run();
        peer.fetch(forward_.operands().out);
        Results& r = found[peer.name];
        r.var.assign(peer.var, peer.var + forward_case_.C);
        r.y = copy_of(forward_.operands().out, forward_case_.elements());
    }
    for (const Peer& peer :
         onednn_peers(backward_case_, backward_.operands(), backward_.state(), eps(), num_threads())) {
        peer.run();
        peer.fetch(backward_.operands().out);
        Results& r = found[peer.name];
        r.dgamma.assign(peer.dgamma, peer.dgamma + forward_case_.C);
        r.dbeta.assign(peer.dbeta, peer.dbeta + forward_case_.C);
        r.dx = copy_of(backward_.operands().out, backward_case_.elements());
    }
    return found;
}

Errors Experiment::errors_of(const Results& got) const {
    const oracle::Channels channels = oracle::channels_of(call());
    const oracle::Result y = oracle::forward(call());
    const oracle::Tensor dy = backward_case_.view_of(backward_.operands().dy);
    const oracle::Gradients gradients = oracle::backward(call(), dy, channels);
    Errors errors;
    const auto add = [&](const char* what, double value, double wanted, double unit) {
        const double error = std::abs(value - wanted) / unit;
        // A NaN is as wrong as can be.
        errors[what] = std::isnan(error) ? HUGE_VAL : std::max(errors[what], error);
    };
    const auto C = static_cast<std::size_t>(forward_case_.C);
    std::vector<double> dgamma_unit(C, 0), dbeta_unit(C, 0);
    std::size_t at = 0;
    oracle::for_each_element(dy, [&](std::int64_t o, std::int64_t c, std::int64_t i) {
        const auto channel = static_cast<std::size_t>(c);
        const oracle::Channel& ch = channels.first[channel];
        const double xhat = (call().x.at(o, c, i) - ch.mean) * ch.inv_std;
        dgamma_unit[channel] += std::abs(dy.at(o, c, i) * xhat);
        dbeta_unit[channel] += std::abs(dy.at(o, c, i));
        add("y", static_cast<double>(got.y[at]), y.y[at], std::abs(ch.gamma));
        add("dx", static_cast<double>(got.dx[at]), gradients.dx[at], std::abs(ch.gamma) * ch.inv_std);
        ++at;
    });
    for (std::size_t c = 0; c < C; ++c) {
        add("var", got.var[c], channels.first[c].var, channels.first[c].var);
        add("dgamma", got.dgamma[c], gradients.dgamma[c], dgamma_unit[c]);
        add("dbeta", got.dbeta[c], gradients.dbeta[c], dbeta_unit[c]);
    }
    return errors;
}

oracle::Call Experiment::call() const {
    oracle::Call made;
    made.x = forward_case_.view_of(forward_.operands().x);
    made.p.gamma = forward_.state().gamma.data();
    made.p.beta = forward_.state().beta.data();
    made.batch_statistics = true;
    return made;
}

Results Experiment::ours() {
    check(forward_.prepare());
    check(forward_.run());
    check(backward_.prepare());
    check(backward_.run());
    Results r;
    for (const double inv_std : forward_.layer().saved_inv_std()) {
        r.var.push_back(1 / (inv_std * inv_std) - eps());
    }
    r.y = copy_of(forward_.operands().out, forward_case_.elements());
    r.dx = copy_of(backward_.operands().out, backward_case_.elements());
    r.dgamma.assign(backward_.layer().grad_gamma().begin(), backward_.layer().grad_gamma().end());
    r.dbeta.assign(backward_.layer().grad_beta().begin(), backward_.layer().grad_beta().end());
    return r;
}

}  // namespace fusebn::bench
