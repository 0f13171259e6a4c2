#include "device/backend.h"

#include <tuple>

#include "device/cuda_device.h"
#include "device/opencl_device.h"
#include "text.h"

namespace fusebn {
namespace detail {
namespace {

struct Opened {
    std::mutex busy;
    std::map<std::tuple<DeviceKind, int, void*>, std::weak_ptr<Backend>> backends;
};

}  // namespace

Status Backend::module(const fusebn_device_code& code, std::shared_ptr<Module>& module) {
    const std::lock_guard<std::mutex> lock(modules_busy_);
    std::weak_ptr<Module>& known = modules_[&code];
    module = known.lock();
    if (module != nullptr) return Status();
    if (Status s = load(code, module); !s.ok()) return s;
    known = module;
    return Status();
}

Status Backend::refuse_capture(void* stream, const std::string& why) {
    bool captured = false;
    if (Status s = is_captured(stream, captured); !s.ok() || !captured) return s;
    return Status(ErrorCode::launch_failed, sentence("stream: it is being captured, and ", why));
}

bool Backend::has_module(const fusebn_device_code& code) {
    const std::lock_guard<std::mutex> lock(modules_busy_);
    const auto found = modules_.find(&code);
    return found != modules_.end() && !found->second.expired();
}

Status open_backend(const Device& device, std::shared_ptr<Backend>& backend) {
    static Opened opened;
    if (device.kind == DeviceKind::cpu) {
        return Status(ErrorCode::no_device,
                      sentence("options.device: there is no cpu:", device.ordinal, "; expected 0"));
    }
    if (device.kind != DeviceKind::cuda && device.kind != DeviceKind::opencl) {
        return Status(ErrorCode::invalid_argument,
                      sentence("options.device: its kind is ", static_cast<int>(device.kind),
                               ", which is unknown; expected DeviceKind::cpu, cuda or opencl"));
    }
    const bool cuda = device.kind == DeviceKind::cuda;
    void* const context = cuda ? cuda_context_of_thread(device.ordinal) : nullptr;
    const std::lock_guard<std::mutex> lock(opened.busy);
    std::weak_ptr<Backend>& known = opened.backends[{device.kind, device.ordinal, context}];
    backend = known.lock();
    if (backend != nullptr) return Status();
    Status s = cuda ? open_cuda(device.ordinal, context, backend) : open_opencl(device.ordinal, backend);
    if (!s.ok()) return s;
    known = backend;
    return Status();
}

}  // namespace detail

int device_count(DeviceKind kind) {
    switch (kind) {
        case DeviceKind::cpu: return 1;
        case DeviceKind::cuda: return detail::cuda_device_count();
        case DeviceKind::opencl: return detail::opencl_device_count();
    }
    return 0;
}

std::string device_name(const Device& device) {
    switch (device.kind) {
        case DeviceKind::cpu: return device.ordinal == 0 ? "CPU" : "";
        case DeviceKind::cuda: return detail::cuda_device_name(device.ordinal);
        case DeviceKind::opencl: return detail::opencl_device_name(device.ordinal);
    }
    return "";
}

}  // namespace fusebn
