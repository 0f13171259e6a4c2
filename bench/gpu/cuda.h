// What the benchmark asks of CUDA's driver beside the runtime: events, copies to compare with, graphs.
#pragma once

#include <cstddef>
#include <cstdint>

using CudaAddress = std::uint64_t;

#define FUSEBN_BENCH_CUDA_FUNCTIONS(F)                                                                      \
    F(init, "cuInit", unsigned flags)                                                                       \
    F(driver_version, "cuDriverGetVersion", int* version)                                                   \
    F(retain_primary, "cuDevicePrimaryCtxRetain", void** context, int device)                               \
    F(make_current, "cuCtxSetCurrent", void* context)                                                       \
    F(synchronize, "cuCtxSynchronize")                                                                      \
    F(allocate, "cuMemAlloc_v2", CudaAddress* address, std::size_t bytes)                                   \
    F(copy, "cuMemcpyDtoDAsync_v2", CudaAddress to, CudaAddress from, std::size_t bytes, void* stream)      \
    F(fill, "cuMemsetD8Async", CudaAddress to, unsigned char value, std::size_t count, void* stream)        \
    F(create_event, "cuEventCreate", void** event, unsigned flags)                                          \
    F(record_event, "cuEventRecord", void* event, void* stream)                                             \
    F(synchronize_event, "cuEventSynchronize", void* event)                                                 \
    F(elapsed, "cuEventElapsedTime", float* milliseconds, void* begin, void* end)                           \
    F(create_stream, "cuStreamCreate", void** stream, unsigned flags)                                       \
    F(begin_capture, "cuStreamBeginCapture_v2", void* stream, int mode)                                     \
    F(end_capture, "cuStreamEndCapture", void* stream, void** graph)                                        \
    F(instantiate, "cuGraphInstantiateWithFlags", void** executable, void* graph, unsigned long long flags) \
    F(launch_graph, "cuGraphLaunch", void* executable, void* stream)                                        \
    F(destroy_graph, "cuGraphDestroy", void* graph)                                                         \
    F(destroy_executable, "cuGraphExecDestroy", void* executable)

struct Cuda {
#define FUSEBN_BENCH_CUDA_MEMBER(member, symbol, ...) int (*member)(__VA_ARGS__) = nullptr;
    FUSEBN_BENCH_CUDA_FUNCTIONS(FUSEBN_BENCH_CUDA_MEMBER)
#undef FUSEBN_BENCH_CUDA_MEMBER
};

// The runtime's driver (libcuda.so.1, or what FUSEBN_LIBCUDA names), initialised; no context is made. Exits with a
// sentence where there is none.
const Cuda& cuda();
// Exits with what failed where `result` is not 0.
void check(int result, const char* what);
// The primary context of device 0, current in this thread.
void enter_first_device();
