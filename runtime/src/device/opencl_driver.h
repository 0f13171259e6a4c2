// OpenCL's loader, loaded at run time, by declarations of our own: nothing of OpenCL is needed to build or to start a
// program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fusebn/types.h"

namespace fusebn::detail::opencl {

using Result = std::int32_t;
using Platform = struct PlatformObject*;
using DeviceId = struct DeviceObject*;
using Context = struct ContextObject*;
using Queue = struct QueueObject*;
using Memory = struct MemoryObject*;
using Program = struct ProgramObject*;
using Kernel = struct KernelObject*;
using Event = struct EventObject*;

inline constexpr Result success = 0, device_not_found = -1, allocation_failure = -4, out_of_host_memory = -6,
                        build_failure = -11;
inline constexpr std::uint64_t all_device_types = 0xffffffff;
// What is asked of a device, and of its arithmetic.
inline constexpr std::uint32_t device_name_info = 0x102b, device_single_arithmetic = 0x101b,
                               device_double_arithmetic = 0x1032;
inline constexpr std::uint64_t correctly_rounded_divide_sqrt = 1 << 7;
// Of a queue.
inline constexpr std::uint32_t queue_context = 0x1090, queue_device = 0x1091, queue_properties = 0x1093;
inline constexpr std::uint64_t out_of_order = 1;
// Of memory.
inline constexpr std::uint64_t read_write = 1;
inline constexpr std::uint32_t memory_type = 0x1100, memory_bytes = 0x1102, memory_context = 0x1106,
                               type_buffer = 0x10f0;
// Of a program.
inline constexpr std::uint32_t build_log = 0x1183;
inline constexpr std::uint32_t blocking = 1;

#define FUSEBN_OPENCL_FUNCTIONS(F)                                                                                    \
    F(Result, platforms, "clGetPlatformIDs", std::uint32_t, Platform*, std::uint32_t*)                                \
    F(Result, devices, "clGetDeviceIDs", Platform, std::uint64_t, std::uint32_t, DeviceId*, std::uint32_t*)           \
    F(Result, device_info, "clGetDeviceInfo", DeviceId, std::uint32_t, std::size_t, void*, std::size_t*)              \
    F(Context, create_context, "clCreateContext", const std::intptr_t*, std::uint32_t, const DeviceId*, void*, void*, \
      Result*)                                                                                                        \
    F(Queue, create_queue, "clCreateCommandQueue", Context, DeviceId, std::uint64_t, Result*)                         \
    F(Result, queue_info, "clGetCommandQueueInfo", Queue, std::uint32_t, std::size_t, void*, std::size_t*)            \
    F(Result, flush, "clFlush", Queue)                                                                                \
    F(Result, finish, "clFinish", Queue)                                                                              \
    F(Memory, create_buffer, "clCreateBuffer", Context, std::uint64_t, std::size_t, void*, Result*)                   \
    F(Result, release_memory, "clReleaseMemObject", Memory)                                                           \
    F(Result, memory_info, "clGetMemObjectInfo", Memory, std::uint32_t, std::size_t, void*, std::size_t*)             \
    F(Result, write, "clEnqueueWriteBuffer", Queue, Memory, std::uint32_t, std::size_t, std::size_t, const void*,     \
      std::uint32_t, const Event*, Event*)                                                                            \
    F(Result, read, "clEnqueueReadBuffer", Queue, Memory, std::uint32_t, std::size_t, std::size_t, void*,             \
      std::uint32_t, const Event*, Event*)                                                                            \
    F(Result, fill, "clEnqueueFillBuffer", Queue, Memory, const void*, std::size_t, std::size_t, std::size_t,         \
      std::uint32_t, const Event*, Event*)                                                                            \
    F(Program, create_program, "clCreateProgramWithSource", Context, std::uint32_t, const char**, const std::size_t*, \
      Result*)                                                                                                        \
    F(Result, build_program, "clBuildProgram", Program, std::uint32_t, const DeviceId*, const char*, void*, void*)    \
    F(Result, program_build_info, "clGetProgramBuildInfo", Program, DeviceId, std::uint32_t, std::size_t, void*,      \
      std::size_t*)                                                                                                   \
    F(Result, release_program, "clReleaseProgram", Program)                                                           \
    F(Kernel, create_kernel, "clCreateKernel", Program, const char*, Result*)                                         \
    F(Result, release_kernel, "clReleaseKernel", Kernel)                                                              \
    F(Result, set_argument, "clSetKernelArg", Kernel, std::uint32_t, std::size_t, const void*)                        \
    F(Result, launch, "clEnqueueNDRangeKernel", Queue, Kernel, std::uint32_t, const std::size_t*, const std::size_t*, \
      const std::size_t*, std::uint32_t, const Event*, Event*)

struct Driver {
    // Why there is none; "" where there is one.
    std::string missing;
    std::vector<DeviceId> all_devices;  // of one platform after the other

#define FUSEBN_OPENCL_MEMBER(result, member, symbol, ...) result (*member)(__VA_ARGS__) = nullptr;
    FUSEBN_OPENCL_FUNCTIONS(FUSEBN_OPENCL_MEMBER)
#undef FUSEBN_OPENCL_MEMBER

    // out_of_memory or launch_failed: "`subject`: `what` failed: .."; ok for success.
    Status outcome(Result result, const char* subject, const char* what) const;
};

// "CL_INVALID_MEM_OBJECT (-38)"
std::string error(Result result);

// Loaded at the first call, kept until the process ends.
const Driver& driver();

}  // namespace fusebn::detail::opencl
