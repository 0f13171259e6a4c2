// The CUDA driver, loaded at run time, by declarations of our own: nothing of CUDA is needed to build or to start a
// program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "fusebn/types.h"

namespace fusebn::detail::cuda {

using Result = int;
using Ordinal = int;
using Address = std::uint64_t;
using Context = struct ContextObject*;
using ModuleHandle = struct ModuleObject*;
using FunctionHandle = struct FunctionObject*;
using Stream = struct StreamObject*;

inline constexpr Result success = 0, invalid_value = 1, out_of_memory = 2, deinitialized = 4, no_device = 100,
                        invalid_image = 200, no_binary_for_gpu = 209, implicit_capture = 906;
// Of a device.
inline constexpr int capability_major = 75, capability_minor = 76;
// Of a pointer.
inline constexpr int pointer_context = 1, pointer_memory_type = 2, pointer_is_managed = 8, pointer_device = 9;
inline constexpr unsigned memory_of_host = 1, memory_of_device = 2;
// Of a function.
inline constexpr int max_dynamic_shared_bytes = 8;
// Of a module that is loaded.
inline constexpr int error_log = 5, error_log_bytes = 6;

#define FUSEBN_CUDA_FUNCTIONS(F)                                                                                      \
    F(init, "cuInit", unsigned flags)                                                                                 \
    F(device_count, "cuDeviceGetCount", int* count)                                                                   \
    F(device, "cuDeviceGet", Ordinal* device, int ordinal)                                                            \
    F(device_name, "cuDeviceGetName", char* name, int bytes, Ordinal device)                                          \
    F(device_attribute, "cuDeviceGetAttribute", int* value, int attribute, Ordinal device)                            \
    F(retain_primary, "cuDevicePrimaryCtxRetain", Context* context, Ordinal device)                                   \
    F(current_context, "cuCtxGetCurrent", Context* context)                                                           \
    F(context_device, "cuCtxGetDevice", Ordinal* device)                                                              \
    F(push_context, "cuCtxPushCurrent_v2", Context context)                                                           \
    F(pop_context, "cuCtxPopCurrent_v2", Context* context)                                                            \
    F(allocate, "cuMemAlloc_v2", Address* address, std::size_t bytes)                                                 \
    F(free, "cuMemFree_v2", Address address)                                                                          \
    F(upload, "cuMemcpyHtoDAsync_v2", Address to, const void* from, std::size_t bytes, Stream stream)                 \
    F(download, "cuMemcpyDtoHAsync_v2", void* to, Address from, std::size_t bytes, Stream stream)                     \
    F(fill, "cuMemsetD8Async", Address to, unsigned char value, std::size_t count, Stream stream)                     \
    F(synchronize, "cuStreamSynchronize", Stream stream)                                                              \
    F(capture_status, "cuStreamIsCapturing", Stream stream, int* status)                                              \
    F(pointer_attributes, "cuPointerGetAttributes", unsigned count, const int* attributes, void** values,             \
      Address address)                                                                                                \
    F(load_module, "cuModuleLoadDataEx", ModuleHandle* module, const void* image, unsigned count, const int* options, \
      void** values)                                                                                                  \
    F(unload_module, "cuModuleUnload", ModuleHandle module)                                                           \
    F(module_function, "cuModuleGetFunction", FunctionHandle* function, ModuleHandle module, const char* name)        \
    F(set_function_attribute, "cuFuncSetAttribute", FunctionHandle function, int attribute, int value)                \
    F(launch, "cuLaunchKernel", FunctionHandle function, unsigned grid_x, unsigned grid_y, unsigned grid_z,           \
      unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes, Stream stream, void** arguments,   \
      void** extra)                                                                                                   \
    F(error_name, "cuGetErrorName", Result result, const char** name)                                                 \
    F(error_text, "cuGetErrorString", Result result, const char** text)

struct Driver {
    // Why there is none; "" where there is one, initialised.
    std::string missing;
    int count = 0;  // of devices

#define FUSEBN_CUDA_MEMBER(member, symbol, ...) Result (*member)(__VA_ARGS__) = nullptr;
    FUSEBN_CUDA_FUNCTIONS(FUSEBN_CUDA_MEMBER)
#undef FUSEBN_CUDA_MEMBER

    // "CUDA_ERROR_INVALID_VALUE (1, invalid argument)"
    std::string error(Result result) const;
    // out_of_memory or launch_failed: "`subject`: `what` failed: .."; ok for success.
    Status outcome(Result result, const char* subject, const char* what) const;
};

// Loaded at the first call, kept until the process ends: at its end objects of ours may go after the driver's own, and
// it answers them with an error then.
const Driver& driver();

}  // namespace fusebn::detail::cuda
