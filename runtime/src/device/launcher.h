// What the kernels of one layer are given to run on a device: fusebn_context's launch and allocate.
#pragma once

#include <memory>
#include <vector>

#include "device/backend.h"
#include "device/workspace.h"
#include "dispatch.h"
#include "fusebn/kernel_abi.h"
#include "kernel_call.h"

namespace fusebn::detail {

class Launcher {
public:
    explicit Launcher(std::shared_ptr<Backend> backend) : backend_(std::move(backend)) {}
    ~Launcher();
    Launcher(const Launcher&) = delete;
    Launcher& operator=(const Launcher&) = delete;

    Backend& backend() { return *backend_; }
    void* stream() const { return stream_; }
    void set_stream(void* stream) { stream_ = stream; }

    // Queues a kernel. `queued`: whether any of it was, which it may be where it fails too.
    Status run(KernelCall& kernel, const Choice& choice, bool& queued);
    // As run(), but launches nothing: loads, finds and reserves what a run would.
    Status rehearse(KernelCall& kernel, const Choice& choice, fusebn_entry entry);

    // Launches a kernel by its name.
    Status launch(const fusebn_device_code& code, const char* name, const LaunchArguments& arguments);
    Status find(const fusebn_device_code& code, const char* name, Function*& function);

private:
    struct Found {
        const fusebn_device_code* code;
        const char* name;  // by its address: the same string elsewhere is another entry
        std::shared_ptr<Module> module;
        std::unique_ptr<Function> function;
    };
    struct Run {
        Launcher* launcher;
        bool rehearsal = false;
        bool queued = false;
        Status status{};
    };

    static int launch_for_kernel(const fusebn_context* context, const fusebn_device_code* code, const char* function,
                                 const std::int32_t* grid, const std::int32_t* block, std::int32_t shared_bytes,
                                 const std::uint64_t* sizes, void* const* arguments,
                                 const std::int8_t* is_buffer) noexcept;
    static int allocate_for_kernel(const fusebn_context* context, fusebn_buffer* buffer) noexcept;
    Status call(KernelCall& kernel, const Choice& choice, fusebn_entry entry, Run& run);

    std::shared_ptr<Backend> backend_;
    void* stream_ = nullptr;
    Workspace workspace_;
    std::vector<Found> found_;
};

}  // namespace fusebn::detail
