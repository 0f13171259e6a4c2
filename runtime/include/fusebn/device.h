// Devices: where a layer's tensors, parameters and statistics live, and its kernels run.
//
//   fusebn::BatchNorm2d bn(64, resnet50_bn::kernels(), {.device = fusebn::Device::cuda()});
//   bn.set_stream(stream);               // a cudaStream_t or CUstream; the legacy default stream where none is set
//   bn.prepare(x);                       // optional: all that is slow or allocates, now
//   bn.forward(x, y);                    // pointers on the device; returns when the kernels are queued
//
// The library must have variants for the device: targets = ["x86-64", .., "cuda-sm_90"] in its spec. The drivers
// (libcuda.so.1, libOpenCL.so.1; FUSEBN_LIBCUDA and FUSEBN_LIBOPENCL name others) are loaded when a device is first
// asked for, so a program needs neither to start.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "fusebn/types.h"

namespace fusebn {

enum class DeviceKind { cpu, cuda, opencl };

struct Device {
    DeviceKind kind = DeviceKind::cpu;
    int ordinal = 0;  // the driver's number of it
    static Device cpu() { return {}; }
    static Device cuda(int ordinal = 0) { return {DeviceKind::cuda, ordinal}; }
    static Device opencl(int ordinal = 0) { return {DeviceKind::opencl, ordinal}; }
};

// Devices of a kind: 0 where there is no driver. The CPU is one.
int device_count(DeviceKind kind);
// "NVIDIA H100 80GB HBM3"; "" where there is none.
std::string device_name(Device device);

// Memory on a device, for programs that bring no allocator of their own. On CUDA it is allocated in the context that a
// layer made by this thread now would use: the current one where it is of this device, else the primary one.
class DeviceMemory {
public:
    DeviceMemory();
    ~DeviceMemory();
    DeviceMemory(DeviceMemory&&) noexcept;
    DeviceMemory& operator=(DeviceMemory&&) noexcept;

    // no_device, out_of_memory: unchanged. What was in it is lost.
    Status allocate(Device device, std::size_t bytes);
    std::size_t size() const;
    // For a tensor's data: a device pointer; on OpenCL the cl_mem; on the CPU the address.
    void* data() const;
    // Waits for all of the device's work, then copies. invalid_argument: bytes is more than size().
    Status upload(const void* from, std::size_t bytes);
    Status download(void* to, std::size_t bytes) const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace fusebn
