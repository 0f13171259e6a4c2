#include "backend.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "text.h"

namespace fusebn {

namespace detail {

void* open_library(const char* environment, const char* name, std::string& why) {
    const char* const given = std::getenv(environment);
    const char* const path = given != nullptr && *given != '\0' ? given : name;
    void* const library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        const char* const reason = dlerror();
        why = reason != nullptr ? reason : path;
    }
    return library;
}

Status Backend::function(const fusebn_device_code* code, const char* name, std::int32_t shared_bytes, bool may_load,
                         void*& function) {
    const std::lock_guard<std::mutex> lock(mutex_);
    Module& module = modules_[code];
    const auto found = module.functions.find(std::string_view(name));
    if (found != module.functions.end() && shared_bytes <= found->second.shared_bytes) {
        function = found->second.function;
        return Status();
    }
    if (!may_load) {
        return Status(ErrorCode::launch_failed,
                      sentence("stream: it is being captured, and ", name,
                               " has not been loaded yet; call prepare() for this shape before the capture"));
    }
    if (module.module == nullptr) {
        if (Status s = load(*code, module.module); !s.ok()) return s;
    }
    Loaded loaded;
    if (found != module.functions.end()) {
        loaded = found->second;
    } else if (Status s = find(module.module, name, loaded.function); !s.ok()) {
        return s;
    }
    if (Status s = allow_shared(loaded.function, name, shared_bytes); !s.ok()) return s;
    loaded.shared_bytes = shared_bytes;
    module.functions[name] = loaded;
    function = loaded.function;
    return Status();
}

void Backend::retain(const fusebn_device_code* code) {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++modules_[code].users;
}

void Backend::release(const fusebn_device_code* code) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = modules_.find(code);
    if (found == modules_.end() || --found->second.users > 0) return;
    for (auto& [name, loaded] : found->second.functions) drop(loaded.function);
    if (found->second.module != nullptr) unload(found->second.module);
    modules_.erase(found);
}

Status open_backend(Device device, std::shared_ptr<Backend>& backend) {
    try {
        switch (device.kind) {
            case DeviceKind::cuda: return open_cuda(device.ordinal, backend);
            case DeviceKind::opencl: return open_opencl(device.ordinal, backend);
            case DeviceKind::cpu: break;
        }
    } catch (const std::bad_alloc&) {
        return Status(ErrorCode::out_of_memory, "device: there is no memory on the host to open it");
    }
    return Status(ErrorCode::no_device, sentence("device: its kind ", static_cast<int>(device.kind),
                                                 " is unknown; expected Device::cpu(), cuda() or opencl()"));
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

std::string device_name(Device device) {
    switch (device.kind) {
        case DeviceKind::cpu: return device.ordinal == 0 ? "CPU" : "";
        case DeviceKind::cuda: return detail::cuda_device_name(device.ordinal);
        case DeviceKind::opencl: return detail::opencl_device_name(device.ordinal);
    }
    return "";
}

struct DeviceMemory::Impl {
    std::shared_ptr<detail::Backend> backend;  // null: the CPU's
    detail::DevicePointer memory = 0;
    std::size_t bytes = 0;

    Impl() = default;
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;
    ~Impl() {
        if (backend) {
            backend->free(memory);
        } else {
            std::free(reinterpret_cast<void*>(memory));
        }
    }
};

DeviceMemory::DeviceMemory() = default;
DeviceMemory::~DeviceMemory() = default;
DeviceMemory::DeviceMemory(DeviceMemory&&) noexcept = default;
DeviceMemory& DeviceMemory::operator=(DeviceMemory&&) noexcept = default;

Status DeviceMemory::allocate(Device device, std::size_t bytes) {
    auto made = std::make_unique<Impl>();
    made->bytes = bytes;
    if (device.kind == DeviceKind::cpu) {
        void* const memory = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
        if (memory == nullptr) {
            return Status(ErrorCode::out_of_memory, detail::sentence("bytes: there are no ", bytes, " of memory"));
        }
        made->memory = reinterpret_cast<detail::DevicePointer>(memory);
    } else {
        std::shared_ptr<detail::Backend> backend;
        if (Status s = detail::open_backend(device, backend); !s.ok()) return s;
        if (Status s = backend->allocate(bytes, made->memory); !s.ok()) return s;
        made->backend = std::move(backend);
    }
    impl_ = std::move(made);
    return Status();
}

std::size_t DeviceMemory::size() const { return impl_ ? impl_->bytes : 0; }
void* DeviceMemory::data() const { return impl_ ? reinterpret_cast<void*>(impl_->memory) : nullptr; }

Status DeviceMemory::upload(const void* from, std::size_t bytes) {
    if (bytes > size()) {
        return Status(ErrorCode::invalid_argument, detail::sentence("bytes: ", bytes, " are more than ", size()));
    }
    if (bytes == 0) return Status();
    if (!impl_->backend) return std::memcpy(data(), from, bytes), Status();
    impl_->backend->finish();
    return impl_->backend->upload(impl_->memory, from, bytes, nullptr);
}

Status DeviceMemory::download(void* to, std::size_t bytes) const {
    if (bytes > size()) {
        return Status(ErrorCode::invalid_argument, detail::sentence("bytes: ", bytes, " are more than ", size()));
    }
    if (bytes == 0) return Status();
    if (!impl_->backend) return std::memcpy(to, data(), bytes), Status();
    impl_->backend->finish();
    return impl_->backend->download(to, impl_->memory, bytes, nullptr);
}

}  // namespace fusebn
