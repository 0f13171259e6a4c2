// Forward and backward on a device: as forward.cpp and backward.cpp, but that results are written where they stay. A
// graph that was captured writes to the same places every time, so there are no two of them to take turns.
#include <mutex>

#include "device/helpers.h"
#include "layer.h"
#include "text.h"

namespace fusebn {

using namespace detail;

using Piece = DeviceLayer::Piece;

// A call's hold of its layers, and of their device's context.
class BatchNorm::Impl::DeviceCall {
public:
    DeviceCall(Impl& layer, Impl* other) : scope_(layer.device->backend()) {
        if (other == nullptr) {
            first_ = std::unique_lock<std::mutex>(layer.device->busy);
        } else {
            first_ = std::unique_lock<std::mutex>(layer.device->busy, std::defer_lock);
            second_ = std::unique_lock<std::mutex>(other->device->busy, std::defer_lock);
            std::lock(first_, second_);
        }
    }
    const Status& status() const { return scope_.status(); }

private:
    std::unique_lock<std::mutex> first_, second_;
    ContextScope scope_;
};

Status BatchNorm::Impl::check_device(const Call& call) {
    if (!deferred.ok()) return std::exchange(deferred, Status());
    for (const Operand& operand : call.operands) {
        if (operand.name == nullptr) continue;
        const auto elements = static_cast<std::uint64_t>(operand.last_element) + 1;
        const std::uint64_t bytes = elements * static_cast<std::uint64_t>(element_bytes(call.dtype));
        if (Status s = device->backend().check_memory(operand, bytes); !s.ok()) return s;
    }
    return Status();
}

Status BatchNorm::Impl::forward_on_device(const ForwardRun& run) {
    const DeviceCall held(*this, run.other);
    if (!held.status().ok()) return held.status();
    if (Status s = check_device(run.call); !s.ok()) return s;
    return by_batch() ? run_by_batch(run) : run_by_running(run);
}

Status BatchNorm::Impl::reserve_mask(GrowingPiece& piece, const Call& call) {
    const auto bytes = static_cast<std::size_t>(mask_layout(call.shape).size);
    return piece.reserve(device->backend(), device->launcher.stream(), bytes);
}

Status BatchNorm::Impl::run_by_running(const ForwardRun& run) {
    const bool keeps_mask = keeps_mask_of_result(run.residual);
    if (keeps_mask) {
        if (Status s = reserve_mask(device->mask, run.call); !s.ok()) return s;
    }
    KernelCall kernel(run.call, features);
    add_running(kernel, Role::x);
    kernel.scalar(&slope);
    if (run.residual == Residual::add) kernel.tensor(Role::addend);
    if (run.other != nullptr) run.other->add_running(kernel, Role::addend);
    kernel.tensor(Role::out);
    bool queued = false;
    Status s = device->launcher.run(kernel, run.choice, queued);
    if (training && queued) mask.valid = false;
    if (!s.ok() || !keeps_mask) return s;
    s = mask_of_result(device->launcher, run.call, options.activation,
                       DeviceLayer::pointer<std::uint8_t>(device->mask.handle()));
    if (s.ok()) describe_mask(run, false);
    return s;
}

Results BatchNorm::Impl::results_on_device() const {
    const auto one_of = [](bool kept, Piece own, Piece spare) { return kept ? own : spare; };
    const bool updates = training && options.track_running_stats;
    return {device->f64(one_of(training, Piece::saved_mean, Piece::spare_mean)),
            device->f64(one_of(training, Piece::saved_inv_std, Piece::spare_inv_std)),
            device->f32(one_of(updates, Piece::running_mean, Piece::spare_dgamma)),
            device->f32(one_of(updates, Piece::running_var, Piece::spare_dbeta))};
}

Status BatchNorm::Impl::run_by_batch(const ForwardRun& run) {
    Impl* const other = run.other;
    for (const Impl* layer : {static_cast<const Impl*>(this), static_cast<const Impl*>(other)}) {
        if (layer == nullptr || !layer->training || !layer->options.momentum.is_cumulative()) continue;
        if (!layer->options.track_running_stats) continue;
        if (Status s = device->backend().refuse_capture(
                device->launcher.stream(),
                "options.momentum is cumulative: every replay would count as the same batch; expected a number, such "
                "as 0.1");
            !s.ok()) {
            return s;
        }
    }
    const bool has_mask = saves_mask(options.activation, run.residual);
    GrowingPiece& mask_bytes = training ? device->mask : device->spare_mask;
    if (has_mask) {
        if (Status s = reserve_mask(mask_bytes, run.call); !s.ok()) return s;
    }
    const double momentum = next_momentum(), other_momentum = other != nullptr ? other->next_momentum() : 0;
    KernelCall kernel(run.call, features);
    add_training(kernel, Role::x, &momentum);
    kernel.scalar(&slope);
    if (run.residual == Residual::add) kernel.tensor(Role::addend);
    if (other != nullptr) other->add_training(kernel, Role::addend, &other_momentum);
    kernel.tensor(Role::out);
    if (has_mask) kernel.mask(DeviceLayer::pointer<std::uint8_t>(mask_bytes.handle()));
    add_results(kernel, results_on_device());
    if (other != nullptr) add_results(kernel, other->results_on_device());
    const bool measures = fetch_before_drift();
    const bool other_measures = other != nullptr && other->fetch_before_drift();
    bool queued = false;
    if (Status s = device->launcher.run(kernel, run.choice, queued); !s.ok()) {
        // What was queued before it runs all the same.
        if (queued && training) last = Last(), mask.valid = false;
        if (queued && other != nullptr && other->training) other->last = Last();
        return s;
    }
    const auto kind = run.residual == Residual::none  ? Forward::plain
                      : run.residual == Residual::add ? Forward::add
                                                      : Forward::sum_first;
    if (training) {
        keep_results_on_device(measures);
        last = {kind, run.call.shape, run.call.dtype, other};
        mask.valid = false;
        if (has_mask) describe_mask(run, true);
    }
    if (other != nullptr && other->training) {
        other->keep_results_on_device(other_measures);
        other->last = {Forward::sum_second, run.call.shape, run.call.dtype, this};
    }
    return Status();
}

void BatchNorm::Impl::keep_results_on_device(bool measures) {
    device->has_saved = true;
    drift = Drift();
    if (!options.track_running_stats) return;
    if (measures) {
        saved_mean.resize(state.running_mean.size());
        saved_inv_std.resize(state.running_mean.size());
        const bool fetched = device->download(Piece::saved_mean, saved_mean.data()).ok() &&
                             device->download(Piece::saved_inv_std, saved_inv_std.data()).ok();
        if (fetched) measure_drift(saved_mean, saved_inv_std);
    }
    count_batch();
}

// The running statistics as they are before a batch, where somebody listens. Not while the stream is captured.
bool BatchNorm::Impl::fetch_before_drift() {
    if (!diagnostics.report || !training || !options.track_running_stats) return false;
    return device->download(Piece::running_mean, state.running_mean.data()).ok() &&
           device->download(Piece::running_var, state.running_var.data()).ok();
}

Status BatchNorm::Impl::backward_on_device(const BackwardRun& run) {
    Impl* const other = run.arguments.other;
    const DeviceCall held(*this, other);
    if (!held.status().ok()) return held.status();
    if (Status s = check_device(run.call); !s.ok()) return s;
    if (saves_mask(options.activation, run.arguments.residual)) {
        if (Status s = change_mask_view_on_device(run.call); !s.ok()) return s;
    }
    Launcher& launcher = device->launcher;
    const BackwardOptions& o = run.arguments.options;
    BackwardSide sides[2];
    for (Impl* const layer : {this, other}) {
        if (layer == nullptr) continue;
        const DeviceLayer& d = *layer->device;
        const auto place = [&](Gradient how, Piece gradient, Piece spare) {
            return d.f32(layer->options.affine && how == Gradient::overwrite ? gradient : spare);
        };
        BackwardSide& side = sides[layer == this ? 0 : 1];
        side.dgamma = place(o.gamma, Piece::grad_gamma, Piece::spare_dgamma);
        side.dbeta = place(o.beta, Piece::grad_beta, Piece::spare_dbeta);
        side.statistics = {d.f64(Piece::saved_mean), d.f64(Piece::saved_inv_std)};
        if (layer->by_batch()) continue;
        side.statistics = {d.f64(Piece::spare_mean), d.f64(Piece::spare_inv_std)};
        const Parameters& p = layer->parameters;
        if (Status s = constant_statistics(launcher, p.running_mean, p.running_var, layer->options.eps,
                                           d.f64(Piece::spare_mean), d.f64(Piece::spare_inv_std), features);
            !s.ok()) {
            return s;
        }
    }
    KernelCall kernel(run.call, features);
    add_backward(kernel, run, DeviceLayer::pointer<std::uint8_t>(device->mask.handle()), sides[0],
                 other != nullptr ? &sides[1] : nullptr);
    bool queued = false;
    if (Status s = launcher.run(kernel, run.choice, queued); !s.ok()) return s;
    for (Impl* const layer : {this, other}) {
        if (layer == nullptr || !layer->options.affine) continue;
        const DeviceLayer& d = *layer->device;
        const auto add_to = [&](Gradient how, Piece gradient, Piece made) {
            if (how != Gradient::accumulate) return Status();
            return add(launcher, d.f32(gradient), d.f32(made), features);
        };
        if (Status s = add_to(o.gamma, Piece::grad_gamma, Piece::spare_dgamma); !s.ok()) return s;
        if (Status s = add_to(o.beta, Piece::grad_beta, Piece::spare_dbeta); !s.ok()) return s;
    }
    return Status();
}

Status BatchNorm::Impl::change_mask_view_on_device(const Call& call) {
    if (mask.shape.view == call.shape.view) return Status();
    if (Status s = reserve_mask(device->spare_mask, call); !s.ok()) return s;
    const auto bytes = [](const GrowingPiece& piece) { return DeviceLayer::pointer<std::uint8_t>(piece.handle()); };
    if (Status s = change_mask_view(device->launcher, mask.shape, bytes(device->mask), call.shape.view,
                                    bytes(device->spare_mask));
        !s.ok()) {
        return s;
    }
    std::swap(device->mask, device->spare_mask);
    mask.shape.view = call.shape.view;
    return Status();
}

}  // namespace fusebn
