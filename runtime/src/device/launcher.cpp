#include "device/launcher.h"

#include <new>

#include "context.h"
#include "text.h"

namespace fusebn::detail {
namespace {

// The return value of a context's function; what went wrong is the run's status.
constexpr int failed = -1001;

bool size_of(const fusebn_buffer& buffer, std::uint64_t& bytes) {
    std::int64_t elements = 1;
    for (int i = 0; i < buffer.dimensions; ++i) {
        const fusebn_dim& dim = buffer.dim[i];
        if (dim.extent <= 0) {
            bytes = 0;
            return true;
        }
        std::int64_t span = 0;
        if (__builtin_mul_overflow(static_cast<std::int64_t>(dim.extent - 1), static_cast<std::int64_t>(dim.stride),
                                   &span) ||
            __builtin_add_overflow(elements, span, &elements)) {
            return false;
        }
    }
    return !__builtin_mul_overflow(static_cast<std::uint64_t>(elements),
                                   static_cast<std::uint64_t>((buffer.type_bits + 7) / 8) * buffer.type_lanes, &bytes);
}

}  // namespace

Launcher::~Launcher() {
    found_.clear();
    const ContextScope scope(*backend_);
    if (scope.status().ok()) workspace_.release(*backend_);
}

Status Launcher::find(const fusebn_device_code& code, const char* name, Function*& function) {
    for (const Found& found : found_) {
        if (found.code != &code || found.name != name) continue;
        function = found.function.get();
        return Status();
    }
    Found found{&code, name, nullptr, nullptr};
    if (!backend_->has_module(code)) {
        if (Status s = backend_->refuse_capture(
                stream_, sentence("kernel ", name,
                                  " is not loaded, which it cannot be meanwhile; call prepare() before the capture"));
            !s.ok()) {
            return s;
        }
    }
    if (Status s = backend_->module(code, found.module); !s.ok()) return s;
    if (Status s = backend_->function(*found.module, name, found.function); !s.ok()) return s;
    function = found.function.get();
    found_.push_back(std::move(found));
    return Status();
}

Status Launcher::launch(const fusebn_device_code& code, const char* name, const LaunchArguments& arguments) {
    Function* function = nullptr;
    if (Status s = find(code, name, function); !s.ok()) return s;
    return backend_->launch(stream_, *function, arguments);
}

int Launcher::launch_for_kernel(const fusebn_context* context, const fusebn_device_code* code, const char* function,
                                const std::int32_t* grid, const std::int32_t* block, std::int32_t shared_bytes,
                                const std::uint64_t* sizes, void* const* arguments,
                                const std::int8_t* is_buffer) noexcept {
    Run& run = *static_cast<Run*>(context->device);
    try {
        Launcher& self = *run.launcher;
        if (run.rehearsal) {
            Function* found = nullptr;
            run.status = self.find(*code, function, found);
            if (run.status.ok()) run.status = self.backend_->prepare_launch(*found, shared_bytes);
        } else if (grid[0] > 0 && grid[1] > 0 && grid[2] > 0) {
            run.status = self.launch(*code, function, {grid, block, shared_bytes, sizes, arguments, is_buffer});
            run.queued |= run.status.ok();
        }
        return run.status.ok() ? 0 : failed;
    } catch (const std::bad_alloc&) {
        return FUSEBN_KERNEL_OUT_OF_MEMORY;
    }
}

int Launcher::allocate_for_kernel(const fusebn_context* context, fusebn_buffer* buffer) noexcept {
    if (buffer->device != 0) return 0;
    Run& run = *static_cast<Run*>(context->device);
    try {
        Launcher& self = *run.launcher;
        std::uint64_t bytes = 0;
        if (!size_of(*buffer, bytes)) return FUSEBN_KERNEL_OUT_OF_MEMORY;
        run.status = self.workspace_.take(*self.backend_, self.stream_, bytes, buffer->device);
        return run.status.ok() ? 0 : failed;
    } catch (const std::bad_alloc&) {
        return FUSEBN_KERNEL_OUT_OF_MEMORY;
    }
}

Status Launcher::call(KernelCall& kernel, const Choice& choice, fusebn_entry entry, Run& run) {
    fusebn_context context = *kernel_context();
    context.launch = launch_for_kernel;
    context.allocate = allocate_for_kernel;
    context.device = &run;
    workspace_.start_again();
    const int code = kernel.run_on(context, entry);
    if (code == 0 || !run.status.ok()) return run.status;
    if (code == FUSEBN_KERNEL_OUT_OF_MEMORY) return outcome(code, choice);
    return Status(ErrorCode::launch_failed, sentence(backend_->text(), ": ", choice.kernel->name, " stopped with code ",
                                                     code, "; the outputs are incomplete"));
}

Status Launcher::run(KernelCall& kernel, const Choice& choice, bool& queued) {
    Run run{this};
    Status status = call(kernel, choice, choice.entry, run);
    queued = run.queued;
    if (queued) backend_->flush(stream_);
    return status.ok() ? outcome(0, choice) : status;
}

Status Launcher::rehearse(KernelCall& kernel, const Choice& choice, fusebn_entry entry) {
    Run run{this, true};
    return call(kernel, choice, entry, run);
}

}  // namespace fusebn::detail
