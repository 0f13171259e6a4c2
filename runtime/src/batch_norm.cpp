// Layers: what they are made of, and their state. Their calls of kernels are forward.cpp and backward.cpp.
#include "fusebn/batch_norm.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include "layer.h"
#include "state_file.h"
#include "text.h"

namespace fusebn {

using namespace detail;

namespace {

Status check_options(int features, const BatchNormOptions& options) {
    if (features < 1 || features > max_kernel_extent) {
        return Status(
            ErrorCode::invalid_argument,
            sentence("features: it is ", features, "; expected the number of channels, 1 to ", max_kernel_extent));
    }
    if (!std::isfinite(options.eps) || options.eps <= 0) {
        return Status(ErrorCode::invalid_argument, sentence("options.eps: it is ", exact(options.eps),
                                                            "; expected a finite number above 0, such as 1e-5"));
    }
    if (!options.momentum.is_cumulative() && !(options.momentum.value() >= 0 && options.momentum.value() <= 1)) {
        return Status(ErrorCode::invalid_argument,
                      sentence("options.momentum: it is ", exact(options.momentum.value()),
                               "; expected a number from 0 to 1, such as 0.1, or Momentum::cumulative()"));
    }
    const auto activation = static_cast<int>(options.activation);
    if (activation < 0 || activation >= static_cast<int>(std::size(activation_names))) {
        return Status(ErrorCode::invalid_argument,
                      sentence("options.activation: ", activation,
                               " is unknown; expected none, relu, relu6, leaky_relu, silu or hardswish"));
    }
    if (!std::isfinite(static_cast<float>(options.slope))) {
        return Status(ErrorCode::invalid_argument,
                      sentence("options.slope: it is ", exact(options.slope), "; expected a finite f32, such as 0.01"));
    }
    if (options.running_variance != RunningVariance::unbiased && options.running_variance != RunningVariance::biased) {
        return Status(ErrorCode::invalid_argument,
                      sentence("options.running_variance: ", static_cast<int>(options.running_variance),
                               " is unknown; expected RunningVariance::unbiased or biased"));
    }
    return Status();
}

}  // namespace

Status detail::check_state(const BatchNormState& state, const BatchNormState& own) {
    const auto same_size = [](const char* name, const std::vector<float>& values, const std::vector<float>& expected) {
        if (values.size() == expected.size()) return Status();
        return Status(ErrorCode::invalid_argument,
                      sentence("state: ", name, " has ", values.size(), " values; expected ", expected.size()));
    };
    if (Status s = same_size("gamma", state.gamma, own.gamma); !s.ok()) return s;
    if (Status s = same_size("beta", state.beta, own.beta); !s.ok()) return s;
    if (Status s = same_size("running_mean", state.running_mean, own.running_mean); !s.ok()) return s;
    if (Status s = same_size("running_var", state.running_var, own.running_var); !s.ok()) return s;
    for (std::size_t c = 0; c < state.running_var.size(); ++c) {
        if (state.running_var[c] < 0) {
            return Status(ErrorCode::invalid_argument,
                          sentence("state: running_var[", c, "] is negative; a variance is at least 0"));
        }
    }
    if (state.num_batches_tracked < 0) {
        return Status(ErrorCode::invalid_argument, sentence("state: num_batches_tracked is ", state.num_batches_tracked,
                                                            "; expected a count, at least 0"));
    }
    return Status();
}

void BatchNorm::Impl::set_up(const KernelTable& table) {
    status = check_options(features, options);
    if (status.ok()) status = kernels.build(table, features, options.activation, processor());
    if (!status.ok()) return;
    slope = static_cast<float>(options.slope);
    ddof = options.running_variance == RunningVariance::unbiased ? 1 : 0;
    try {
        if (options.device != Device::cpu()) status = open_device();
        if (status.ok()) allocate();
    } catch (const std::bad_alloc&) {
        state = BatchNormState();
        grad_gamma = grad_beta = {};
        device.reset();
        status = Status(ErrorCode::out_of_memory,
                        sentence("features: there is no memory for the state of ", features, " channels"));
    }
}

void BatchNorm::Impl::allocate() {
    const auto size = static_cast<std::size_t>(features);
    if (options.affine) {
        state.gamma.assign(size, 1.0f);
        state.beta.assign(size, 0.0f);
        grad_gamma.assign(size, 0.0f);
        grad_beta.assign(size, 0.0f);
    }
    if (options.track_running_stats) {
        state.running_mean.assign(size, 0.0f);
        state.running_var.assign(size, 1.0f);
    }
    if (!options.affine || !options.track_running_stats) {
        ones.assign(size, 1.0f);
        zeros.assign(size, 0.0f);
    }
    if (device != nullptr) {
        parameters = device->parameters();
        return;
    }
    const auto place = [](bool own, const std::vector<float>& values, const std::vector<float>& stand_in) {
        return (own ? values : stand_in).data();
    };
    // The vectors keep their memory: what is assigned to them later is of their size.
    parameters = {place(options.affine, state.gamma, ones), place(options.affine, state.beta, zeros),
                  place(options.track_running_stats, state.running_mean, zeros),
                  place(options.track_running_stats, state.running_var, ones)};
    scratch.resize(size);
    // So that the first training call does not allocate either.
    saved_mean.reserve(size);
    saved_inv_std.reserve(size);
}

const BatchNorm::Impl& BatchNorm::Impl::of(const std::unique_ptr<Impl>& impl) {
    if (impl) return *impl;
    static const std::unique_ptr<const Impl> moved_from = [] {
        auto empty = std::make_unique<Impl>();
        empty->status = Status(ErrorCode::invalid_argument, "layer: it was moved from; use the one it was moved to");
        return empty;
    }();
    return *moved_from;
}

BatchNorm::BatchNorm(int dimensions, int features, const KernelTable& kernels, const BatchNormOptions& options)
    : impl_(std::make_unique<Impl>()) {
    impl_->dimensions = dimensions;
    impl_->features = features;
    impl_->options = options;
    impl_->set_up(kernels);
}

BatchNorm::~BatchNorm() = default;
BatchNorm::BatchNorm(BatchNorm&&) noexcept = default;
BatchNorm& BatchNorm::operator=(BatchNorm&&) noexcept = default;

const Status& BatchNorm::status() const { return Impl::of(impl_).status; }
int BatchNorm::features() const { return Impl::of(impl_).features; }
const BatchNormOptions& BatchNorm::options() const { return Impl::of(impl_).options; }
bool BatchNorm::is_training() const { return Impl::of(impl_).training; }
bool BatchNorm::statistics_frozen() const { return Impl::of(impl_).frozen; }
const std::vector<float>& BatchNorm::grad_gamma() const {
    if (impl_ && impl_->device) impl_->fetch(DeviceLayer::grad_gamma, impl_->grad_gamma);
    return Impl::of(impl_).grad_gamma;
}
const std::vector<float>& BatchNorm::grad_beta() const {
    if (impl_ && impl_->device) impl_->fetch(DeviceLayer::grad_beta, impl_->grad_beta);
    return Impl::of(impl_).grad_beta;
}
const std::vector<double>& BatchNorm::saved_mean() const {
    if (impl_ && impl_->device) impl_->fetch(DeviceLayer::saved_mean, impl_->saved_mean);
    return Impl::of(impl_).saved_mean;
}
const std::vector<double>& BatchNorm::saved_inv_std() const {
    if (impl_ && impl_->device) impl_->fetch(DeviceLayer::saved_inv_std, impl_->saved_inv_std);
    return Impl::of(impl_).saved_inv_std;
}
const BatchNormState& BatchNorm::state() const {
    if (impl_ && impl_->device) impl_->fetch_state();
    return Impl::of(impl_).state;
}
std::string BatchNorm::last_kernel() { return last_kernel_of_this_thread(); }

void BatchNorm::train(bool mode) {
    if (impl_) impl_->training = mode;
}

Status BatchNorm::freeze_statistics(bool frozen) {
    if (!status().ok()) return status();
    if (frozen && !impl_->options.track_running_stats) {
        return Status(ErrorCode::invalid_argument,
                      "layer: it tracks no running statistics, so there are none to freeze; expected one with "
                      "track_running_stats");
    }
    impl_->frozen = frozen;
    return Status();
}

void BatchNorm::zero_grad() {
    if (!impl_) return;
    std::fill(impl_->grad_gamma.begin(), impl_->grad_gamma.end(), 0.0f);
    std::fill(impl_->grad_beta.begin(), impl_->grad_beta.end(), 0.0f);
    if (impl_->device) impl_->zero_grad_on_device();
}

std::size_t BatchNorm::saved_bytes() const {
    const Impl& impl = Impl::of(impl_);
    const auto mask_size = [&] { return static_cast<std::size_t>(mask_layout(impl.mask.shape).size); };
    if (impl.device) {
        const std::size_t statistics = impl.device->has_saved ? 2 * sizeof(double) * impl.state_size() : 0;
        return statistics + (impl.mask.valid ? mask_size() : 0);
    }
    std::size_t bytes = sizeof(double) * (impl.saved_mean.size() + impl.saved_inv_std.size());
    if (impl.mask.valid) bytes += mask_size() / 8;
    return bytes;
}

Status BatchNorm::set_diagnostics(Diagnostics diagnostics) {
    if (!status().ok()) return status();
    if (Status s = check_diagnostics(diagnostics); !s.ok()) return s;
    impl_->diagnostics = std::move(diagnostics);
    return Status();
}

float* BatchNorm::gamma() {
    if (!impl_ || !impl_->options.affine) return nullptr;
    return impl_->device ? impl_->device->f32(DeviceLayer::gamma) : impl_->state.gamma.data();
}
float* BatchNorm::beta() {
    if (!impl_ || !impl_->options.affine) return nullptr;
    return impl_->device ? impl_->device->f32(DeviceLayer::beta) : impl_->state.beta.data();
}
float* BatchNorm::device_grad_gamma() {
    return impl_ && impl_->options.affine && impl_->device ? impl_->device->f32(DeviceLayer::grad_gamma) : nullptr;
}
float* BatchNorm::device_grad_beta() {
    return impl_ && impl_->options.affine && impl_->device ? impl_->device->f32(DeviceLayer::grad_beta) : nullptr;
}

Status BatchNorm::set_stream(void* stream) {
    if (!status().ok()) return status();
    if (impl_->device) return impl_->set_stream(stream);
    if (stream == nullptr) return Status();
    return Status(ErrorCode::invalid_argument, "stream: the layer is on the CPU, which has none; expected null");
}

Status BatchNorm::prepare(const ConstTensor& x, const std::vector<Op>& ops, Residual residual) {
    if (!status().ok()) return status();
    return impl_->prepare(x, ops, residual);
}

Status BatchNorm::read_state(BatchNormState& state) const {
    if (!status().ok()) return status();
    BatchNormState copy = impl_->state;
    if (impl_->device) {
        if (Status s = impl_->download_state(copy); !s.ok()) return s;
    }
    state = std::move(copy);
    return Status();
}

Status BatchNorm::set_state(const BatchNormState& state) {
    if (!status().ok()) return status();
    if (Status s = check_state(state, impl_->state); !s.ok()) return s;
    if (impl_->device) {
        if (Status s = impl_->upload_state(state); !s.ok()) return s;
    }
    impl_->state = state;  // of the same sizes: the vectors keep their memory
    impl_->state_is_known = true;
    return Status();
}

void BatchNorm::reset_running_stats() {
    if (!status().ok()) return;
    std::fill(impl_->state.running_mean.begin(), impl_->state.running_mean.end(), 0.0f);
    std::fill(impl_->state.running_var.begin(), impl_->state.running_var.end(), 1.0f);
    impl_->state.num_batches_tracked = 0;
    impl_->state_is_known = false;
    if (impl_->device) impl_->reset_on_device();
}

Status BatchNorm::save(const std::string& path, const std::string& prefix) const {
    if (!status().ok()) return status();
    if (!impl_->device) return write_state_file(path, prefix, impl_->state);
    BatchNormState copy;
    if (Status s = read_state(copy); !s.ok()) return s;
    return write_state_file(path, prefix, copy);
}

Status BatchNorm::load(const std::string& path, const std::string& prefix) {
    if (!status().ok()) return status();
    BatchNormState loaded;
    if (Status s = read_state_file(path, prefix, impl_->state, loaded); !s.ok()) return s;
    if (Status s = check_state(loaded, impl_->state); !s.ok()) {
        return Status(ErrorCode::bad_file, sentence(path, ": ", s.message()));
    }
    if (impl_->device) {
        if (Status s = impl_->upload_state(loaded); !s.ok()) return s;
    }
    impl_->state = loaded;
    impl_->state_is_known = true;
    return Status();
}

EvalGuard::EvalGuard(const std::vector<BatchNorm*>& layers) {
    before_.reserve(layers.size());  // so that nothing throws once a layer has changed
    for (BatchNorm* const layer : layers) {
        if (layer == nullptr) continue;
        before_.emplace_back(layer, layer->is_training());
        layer->eval();
    }
}

EvalGuard::~EvalGuard() {
    // Backwards: of a layer that was given twice, the first entry has the mode before.
    for (auto entry = before_.rbegin(); entry != before_.rend(); ++entry) entry->first->train(entry->second);
}

}  // namespace fusebn
