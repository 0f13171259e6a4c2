// A layer on a device: how it comes to be there, and its state, which is there and is copied when somebody asks.
#include <algorithm>
#include <limits>

#include "layer.h"
#include "text.h"

namespace fusebn {

using namespace detail;

Status BatchNorm::Impl::open_device() {
    std::shared_ptr<Backend> backend;
    if (Status s = open_backend(options.device, backend); !s.ok()) return s;
    kernels.use_device(static_cast<std::int32_t>(backend->lowest_isa()), backend->highest_isa(),
                       backend->opaque_memory(), backend->text());
    auto layer = std::make_unique<DeviceLayer>(backend);
    const ContextScope scope(*backend);
    if (!scope.status().ok()) return scope.status();
    if (Status s = layer->allocate(features); !s.ok()) return s;
    opaque = backend->opaque_memory();
    device = std::move(layer);
    return Status();
}

Status BatchNorm::Impl::set_stream(void* stream) {
    const std::lock_guard<std::mutex> lock(device->busy);
    Backend& backend = device->backend();
    const ContextScope scope(backend);
    if (!scope.status().ok()) return scope.status();
    Launcher& launcher = device->launcher;
    if (stream == launcher.stream()) return Status();
    if (Status s = backend.check_stream(stream); !s.ok()) return s;
    for (void* const one : {stream, launcher.stream()}) {
        if (Status s = backend.refuse_capture(
                one, "layers change over by waiting; expected a change before the capture or after it");
            !s.ok()) {
            return s;
        }
    }
    // What is on its way there uses the layer's memory.
    if (Status s = backend.synchronize(launcher.stream()); !s.ok()) return s;
    launcher.set_stream(stream);
    return Status();
}

void BatchNorm::Impl::fetch(DeviceLayer::Piece piece, std::vector<float>& values) {
    if (values.empty()) return;
    const std::lock_guard<std::mutex> lock(device->busy);
    const ContextScope scope(device->backend());
    if (scope.status().ok() && device->download(piece, values.data()).ok()) return;
    std::fill(values.begin(), values.end(), std::numeric_limits<float>::quiet_NaN());
}

void BatchNorm::Impl::fetch(DeviceLayer::Piece piece, std::vector<double>& values) {
    if (!device->has_saved) return;
    values.resize(state_size());
    const std::lock_guard<std::mutex> lock(device->busy);
    const ContextScope scope(device->backend());
    if (scope.status().ok() && device->download(piece, values.data()).ok()) return;
    std::fill(values.begin(), values.end(), std::numeric_limits<double>::quiet_NaN());
}

void BatchNorm::Impl::fetch_state() {
    fetch(DeviceLayer::gamma, state.gamma);
    fetch(DeviceLayer::beta, state.beta);
    fetch(DeviceLayer::running_mean, state.running_mean);
    fetch(DeviceLayer::running_var, state.running_var);
}

void BatchNorm::Impl::reset_on_device() {
    if (!options.track_running_stats) return;
    const std::lock_guard<std::mutex> lock(device->busy);
    const ContextScope scope(device->backend());
    Status s = scope.status();
    if (s.ok()) s = device->upload(DeviceLayer::running_mean, state.running_mean.data());
    if (s.ok()) s = device->upload(DeviceLayer::running_var, state.running_var.data());
    if (!s.ok()) deferred = s;
}

void BatchNorm::Impl::zero_grad_on_device() {
    if (!options.affine) return;
    const std::lock_guard<std::mutex> lock(device->busy);
    const ContextScope scope(device->backend());
    Status s = scope.status();
    if (s.ok()) s = device->fill_zeros(DeviceLayer::grad_gamma);
    if (s.ok()) s = device->fill_zeros(DeviceLayer::grad_beta);
    if (!s.ok()) deferred = s;
}

Status BatchNorm::Impl::upload_state(const BatchNormState& from) {
    const std::lock_guard<std::mutex> lock(device->busy);
    const ContextScope scope(device->backend());
    if (!scope.status().ok()) return scope.status();
    const auto upload = [&](DeviceLayer::Piece piece, const std::vector<float>& values) {
        return values.empty() ? Status() : device->upload(piece, values.data());
    };
    if (Status s = upload(DeviceLayer::gamma, from.gamma); !s.ok()) return s;
    if (Status s = upload(DeviceLayer::beta, from.beta); !s.ok()) return s;
    if (Status s = upload(DeviceLayer::running_mean, from.running_mean); !s.ok()) return s;
    return upload(DeviceLayer::running_var, from.running_var);
}

Status BatchNorm::Impl::download_state(BatchNormState& into) {
    const std::lock_guard<std::mutex> lock(device->busy);
    const ContextScope scope(device->backend());
    if (!scope.status().ok()) return scope.status();
    const auto download = [&](DeviceLayer::Piece piece, std::vector<float>& values) {
        return values.empty() ? Status() : device->download(piece, values.data());
    };
    if (Status s = download(DeviceLayer::gamma, into.gamma); !s.ok()) return s;
    if (Status s = download(DeviceLayer::beta, into.beta); !s.ok()) return s;
    if (Status s = download(DeviceLayer::running_mean, into.running_mean); !s.ok()) return s;
    return download(DeviceLayer::running_var, into.running_var);
}

}  // namespace fusebn
