// A device as layers see it. Two backends are behind it: cuda_device.cpp and opencl_device.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "check.h"
#include "fusebn/device.h"
#include "fusebn/kernel_abi.h"
#include "fusebn/types.h"

namespace fusebn::detail {

// Memory of a device. CUDA: its address; OpenCL: its cl_mem.
using Handle = std::uint64_t;

// Device code that is loaded; unloaded with the object.
class Module {
public:
    virtual ~Module() = default;
};

// A kernel of a module. Belongs to one layer: OpenCL's hold the arguments of the launch that is being made.
class Function {
public:
    virtual ~Function() = default;
};

// As fusebn_context::launch takes them.
struct LaunchArguments {
    const std::int32_t* grid;
    const std::int32_t* block;
    std::int32_t shared_bytes;
    const std::uint64_t* sizes;
    void* const* arguments;
    const std::int8_t* is_buffer;
};

// All functions but enter() and leave() are for a thread between these (ContextScope). `stream`: a CUstream or a
// cl_command_queue, null for the default one. Errors: out_of_memory, launch_failed, or as said.
class Backend {
public:
    virtual ~Backend() = default;
    Backend(const Backend&) = delete;
    Backend& operator=(const Backend&) = delete;

    const Device& device() const { return device_; }
    // "cuda:0 (NVIDIA H100 80GB HBM3)"
    const std::string& text() const { return text_; }
    // The variants that it runs are of these, the highest the best.
    virtual InstructionSet lowest_isa() const = 0;
    virtual std::int32_t highest_isa() const = 0;
    // Whether tensors are handles, from which no address can be told.
    virtual bool opaque_memory() const = 0;

    // Makes the device the thread's; `entered`: leave() has something to undo.
    virtual Status enter(bool& entered) = 0;
    virtual void leave() noexcept = 0;

    // `count` pieces of memory, of their own or of one allocation, each at a multiple of 256 bytes. All or none.
    virtual Status allocate(const std::size_t* bytes, int count, Handle* pieces) = 0;
    virtual void free(const Handle* pieces, int count) noexcept = 0;
    // Whether memory that is freed stays until all work that uses it is done, and no later work can name it.
    virtual bool frees_after_use() const = 0;

    // Wait for the stream.
    virtual Status upload(void* stream, Handle to, const void* from, std::size_t bytes) = 0;
    virtual Status download(void* stream, void* to, Handle from, std::size_t bytes) = 0;
    virtual Status synchronize(void* stream) = 0;
    // Is queued.
    virtual Status fill_zeros(void* stream, Handle to, std::size_t bytes) = 0;
    // What is queued begins to run.
    virtual void flush(void* stream) noexcept = 0;

    // Whether what is queued on the stream becomes part of a graph instead of running: nothing may be allocated, loaded
    // or waited for then.
    virtual Status is_captured(void* stream, bool& captured) = 0;
    // launch_failed where it is: "stream: it is being captured, and `why`".
    Status refuse_capture(void* stream, const std::string& why);
    // invalid_argument: a stream that layers cannot run on.
    virtual Status check_stream(void* stream) = 0;
    // not_device_memory: what `operand` points to is no memory of this device, or less than `bytes`.
    virtual Status check_memory(const Operand& operand, std::uint64_t bytes) = 0;

    // Shared by all layers that use it.
    Status module(const fusebn_device_code& code, std::shared_ptr<Module>& module);
    bool has_module(const fusebn_device_code& code);
    virtual Status function(Module& module, const char* name, std::unique_ptr<Function>& function) = 0;
    // Anything that a launch with so many bytes of shared memory needs once.
    virtual Status prepare_launch(Function& function, std::int32_t shared_bytes) = 0;
    // The grid has blocks.
    virtual Status launch(void* stream, Function& function, const LaunchArguments& launch) = 0;

protected:
    Backend(const Device& device, std::string text) : device_(device), text_(std::move(text)) {}
    virtual Status load(const fusebn_device_code& code, std::shared_ptr<Module>& module) = 0;

private:
    Device device_;
    std::string text_;
    std::mutex modules_busy_;
    // A library's code goes with its last layer here, as the library may be unloaded then, and another be at its place.
    std::map<const fusebn_device_code*, std::weak_ptr<Module>> modules_;
};

class ContextScope {
public:
    explicit ContextScope(Backend& backend) : backend_(backend), status_(backend.enter(entered_)) {}
    ~ContextScope() {
        if (entered_) backend_.leave();
    }
    ContextScope(const ContextScope&) = delete;
    ContextScope& operator=(const ContextScope&) = delete;
    const Status& status() const { return status_; }

private:
    Backend& backend_;
    bool entered_ = false;
    Status status_;
};

// no_device: a sentence that says what is missing. The same object for all that are given the same device (and context)
// while one of them has it.
Status open_backend(const Device& device, std::shared_ptr<Backend>& backend);

}  // namespace fusebn::detail
