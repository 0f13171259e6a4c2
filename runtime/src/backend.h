// A device's context, whichever driver it is behind. Nothing here throws but for memory; what a driver refuses is a
// Status.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "fusebn/device.h"
#include "fusebn/kernel_abi.h"
#include "fusebn/types.h"

namespace fusebn::detail {

using DevicePointer = std::uint64_t;  // CUDA: an address; OpenCL: a cl_mem

struct Launch {
    const std::int32_t* grid;
    const std::int32_t* block;
    std::int32_t shared_bytes;
    const std::uint64_t* sizes;
    void* const* arguments;  // as fusebn_context::launch takes them
    const std::int8_t* is_buffer;
};

class Backend {
public:
    virtual ~Backend() = default;

    // The highest target whose kernels it runs; its variants are those of the same kind up to it.
    virtual InstructionSet target() const = 0;
    // Whether a tensor's data is an address.
    virtual bool has_addresses() const = 0;

    virtual Status allocate(std::size_t bytes, DevicePointer& memory) = 0;
    virtual void free(DevicePointer memory) noexcept = 0;
    // In the stream's order; both return when the copy is done.
    virtual Status upload(DevicePointer to, const void* from, std::size_t bytes, void* stream) = 0;
    virtual Status download(void* to, DevicePointer from, std::size_t bytes, void* stream) = 0;
    virtual Status clear(DevicePointer memory, std::size_t bytes, void* stream) = 0;
    virtual void finish() noexcept = 0;  // waits for all of the device's work

    // not_device_memory: data is no memory of this device. `name` is the tensor's.
    virtual Status check_memory(const char* name, const void* data) = 0;
    // Whether the stream's work is being captured, and nothing may be allocated or loaded.
    virtual bool is_capturing(void* stream) = 0;

    // A function of a code, loaded once; kept while anyone who called this for the code has not released it.
    Status function(const fusebn_device_code* code, const char* name, std::int32_t shared_bytes, bool may_load,
                    void*& function);
    void retain(const fusebn_device_code* code);
    void release(const fusebn_device_code* code) noexcept;

    virtual Status launch(void* function, const char* name, const Launch& launch, void* stream) = 0;

protected:
    virtual Status load(const fusebn_device_code& code, void*& module) = 0;
    virtual void unload(void* module) noexcept = 0;
    virtual Status find(void* module, const char* name, void*& function) = 0;
    virtual Status allow_shared(void* function, const char* name, std::int32_t bytes) = 0;
    virtual void drop(void* function) noexcept = 0;

private:
    struct Loaded {
        void* function = nullptr;
        std::int32_t shared_bytes = 0;  // as much as it may be launched with
    };
    struct Module {
        void* module = nullptr;
        int users = 0;
        std::map<std::string, Loaded, std::less<>> functions;
    };
    std::mutex mutex_;
    std::map<const fusebn_device_code*, Module> modules_;
};

// no_device: there is no such driver or device. The same object for the same device (CUDA: and context) as long as
// anyone has it.
Status open_backend(Device device, std::shared_ptr<Backend>& backend);

// The drivers' parts of the functions above.
Status open_cuda(int ordinal, std::shared_ptr<Backend>& backend);
int cuda_device_count();
std::string cuda_device_name(int ordinal);
Status open_opencl(int ordinal, std::shared_ptr<Backend>& backend);
int opencl_device_count();
std::string opencl_device_name(int ordinal);

// A function of a shared library, or null.
void* open_library(const char* environment, const char* name, std::string& why);

}  // namespace fusebn::detail
