// Where a layer's tensors are and its kernels run: the CPU, a CUDA GPU, or an OpenCL device.
//
// The drivers are loaded when a device is first asked for (libcuda.so.1, libOpenCL.so.1; FUSEBN_LIBCUDA and
// FUSEBN_LIBOPENCL name others), so a program runs on machines that have neither and is told ErrorCode::no_device.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "fusebn/types.h"

namespace fusebn {

enum class DeviceKind { cpu, cuda, opencl };

struct Device {
    DeviceKind kind = DeviceKind::cpu;
    int ordinal = 0;  // as the driver counts (OpenCL: of all platforms' devices, one platform after the other)

    static Device cpu() { return {}; }
    static Device cuda(int ordinal = 0) { return {DeviceKind::cuda, ordinal}; }
    static Device opencl(int ordinal = 0) { return {DeviceKind::opencl, ordinal}; }
};
inline bool operator==(const Device& a, const Device& b) { return a.kind == b.kind && a.ordinal == b.ordinal; }
inline bool operator!=(const Device& a, const Device& b) { return !(a == b); }

// 0 where there is no driver; 1 for the CPU.
int device_count(DeviceKind kind);
// As the driver calls it; "" where there is no such device, "CPU" for the CPU.
std::string device_name(const Device& device);

// The cl_context that layers on an OpenCL device and DeviceMemory are in, where a program's own buffers have to be, and
// the in-order cl_command_queue that they use where none is given; null where there is no such device. Both stay until
// the process ends and are not to be released.
void* opencl_context(const Device& device);
void* opencl_queue(const Device& device);

// Memory on a device (on the CPU: of the host, at multiples of 64 bytes), freed with the object. For programs that have
// no allocator of their own; layers take any memory of their device.
//   CUDA     in the calling thread's current context where that is of the device, else in its primary one, as layers
//   OpenCL   in opencl_context(); data() is the cl_mem
class DeviceMemory {
public:
    DeviceMemory();
    // See status(): no_device, out_of_memory, launch_failed.
    DeviceMemory(const Device& device, std::size_t bytes);
    ~DeviceMemory();
    DeviceMemory(DeviceMemory&&) noexcept;
    DeviceMemory& operator=(DeviceMemory&&) noexcept;

    const Status& status() const;
    void* data() const;  // null where status() is not ok
    std::size_t bytes() const;

    // Copy the first `bytes` to and from host memory, after all that was queued on `stream` (null: the default one),
    // and return when that is done. invalid_argument: more than bytes(); launch_failed: what the driver says.
    Status upload(const void* from, std::size_t bytes, void* stream = nullptr);
    Status download(void* to, std::size_t bytes, void* stream = nullptr) const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace fusebn
