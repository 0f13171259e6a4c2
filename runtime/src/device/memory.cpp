// DeviceMemory: for programs without an allocator of their own.
#include <cstring>
#include <new>

#include "device/backend.h"
#include "mask.h"
#include "text.h"

namespace fusebn {

using namespace detail;

struct DeviceMemory::Impl {
    Status status;
    std::size_t bytes = 0;
    std::shared_ptr<Backend> backend;  // null: on the CPU
    Handle handle = 0;
    AlignedBuffer host;

    ~Impl() {
        if (handle == 0) return;
        const ContextScope scope(*backend);
        if (scope.status().ok()) backend->free(&handle, 1);
    }
    Status allocate(const Device& device) {
        if (device == Device::cpu()) {
            if (host.reserve(bytes > 0 ? bytes : 1)) return Status();
            return Status(ErrorCode::out_of_memory, sentence("bytes: there is no memory for ", bytes));
        }
        if (Status s = open_backend(device, backend); !s.ok()) return s;
        const ContextScope scope(*backend);
        if (!scope.status().ok()) return scope.status();
        return backend->allocate(&bytes, 1, &handle);
    }
    Status check(const void* other, std::size_t count) const {
        if (!status.ok()) return status;
        if (other == nullptr && count > 0) {
            return Status(ErrorCode::null_pointer, "host memory: it is null; expected an address");
        }
        if (count <= bytes) return Status();
        return Status(ErrorCode::invalid_argument, sentence("bytes: ", count, " are asked for, but there are ", bytes));
    }
};

DeviceMemory::DeviceMemory() : impl_(std::make_unique<Impl>()) {}
DeviceMemory::DeviceMemory(const Device& device, std::size_t bytes) : impl_(std::make_unique<Impl>()) {
    impl_->bytes = bytes;
    impl_->status = impl_->allocate(device);
}
DeviceMemory::~DeviceMemory() = default;
DeviceMemory::DeviceMemory(DeviceMemory&&) noexcept = default;
DeviceMemory& DeviceMemory::operator=(DeviceMemory&&) noexcept = default;

const Status& DeviceMemory::status() const {
    static const Status moved_from(ErrorCode::invalid_argument, "memory: it was moved from");
    return impl_ ? impl_->status : moved_from;
}

void* DeviceMemory::data() const {
    if (!status().ok()) return nullptr;
    if (impl_->backend == nullptr) return impl_->host.data();
    return reinterpret_cast<void*>(static_cast<std::uintptr_t>(impl_->handle));
}

std::size_t DeviceMemory::bytes() const { return status().ok() ? impl_->bytes : 0; }

Status DeviceMemory::upload(const void* from, std::size_t bytes, void* stream) {
    if (!impl_) return status();
    if (Status s = impl_->check(from, bytes); !s.ok() || bytes == 0) return s;
    if (impl_->backend == nullptr) return std::memcpy(impl_->host.data(), from, bytes), Status();
    const ContextScope scope(*impl_->backend);
    return scope.status().ok() ? impl_->backend->upload(stream, impl_->handle, from, bytes) : scope.status();
}

Status DeviceMemory::download(void* to, std::size_t bytes, void* stream) const {
    if (!impl_) return status();
    if (Status s = impl_->check(to, bytes); !s.ok() || bytes == 0) return s;
    if (impl_->backend == nullptr) return std::memcpy(to, impl_->host.data(), bytes), Status();
    const ContextScope scope(*impl_->backend);
    return scope.status().ok() ? impl_->backend->download(stream, to, impl_->handle, bytes) : scope.status();
}

}  // namespace fusebn
