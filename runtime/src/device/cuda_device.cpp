#include "device/cuda_device.h"

#include <new>
#include <utility>

#include "device/cuda_driver.h"
#include "text.h"

namespace fusebn::detail {
namespace {

using cuda::Context;
using cuda::driver;
using cuda::Stream;

constexpr std::size_t piece_alignment = 256;
// As much shared memory as a kernel may have without asking for more.
constexpr std::int32_t plain_shared_bytes = 48 * 1024;
constexpr int max_launch_arguments = 128;

Stream stream_of(void* stream) { return static_cast<Stream>(stream); }

// A context that is made current for a while.
class Current {
public:
    explicit Current(Context context) : pushed_(driver().push_context(context) == cuda::success) {}
    ~Current() {
        Context popped = nullptr;
        if (pushed_) driver().pop_context(&popped);
    }
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;
    explicit operator bool() const { return pushed_; }

private:
    bool pushed_;
};

struct CudaModule final : Module {
    CudaModule(Context owner, cuda::ModuleHandle loaded) : context(owner), handle(loaded) {}
    CudaModule(const CudaModule&) = delete;
    CudaModule& operator=(const CudaModule&) = delete;
    // At the process's end the driver may be gone before: it says so, and there is nothing to unload then.
    ~CudaModule() override {
        if (const Current current(context); current) driver().unload_module(handle);
    }
    Context context;
    cuda::ModuleHandle handle;
};

struct CudaFunction final : Function {
    explicit CudaFunction(cuda::FunctionHandle found) : handle(found) {}
    cuda::FunctionHandle handle;
    std::int32_t max_shared_bytes = plain_shared_bytes;
};

// Machine code that runs on the device as it is, the newest; null: none.
const fusebn_device_image* best_image(const fusebn_device_code& code, int capability) {
    const fusebn_device_image* best = nullptr;
    for (int i = 0; i < code.image_count; ++i) {
        const fusebn_device_image& image = code.images[i];
        if (image.sm / 10 != capability / 10 || image.sm > capability) continue;
        if (best == nullptr || image.sm > best->sm) best = &image;
    }
    return best;
}

class CudaDevice final : public Backend {
public:
    CudaDevice(const Device& device, std::string text, Context context, cuda::Ordinal ordinal, int capability)
        : Backend(device, std::move(text)), context_(context), ordinal_(ordinal), capability_(capability) {}

    InstructionSet lowest_isa() const override { return InstructionSet::cuda_sm_80; }
    std::int32_t highest_isa() const override { return 1000 + capability_; }
    bool opaque_memory() const override { return false; }

    Status enter(bool& entered) override {
        Context current = nullptr;
        if (driver().current_context(&current) == cuda::success && current == context_) return Status();
        const cuda::Result result = driver().push_context(context_);
        entered = result == cuda::success;
        return outcome(result, "making its context current");
    }
    void leave() noexcept override {
        Context popped = nullptr;
        driver().pop_context(&popped);
    }

    Status allocate(const std::size_t* bytes, int count, Handle* pieces) override {
        std::size_t total = 0, asked = 0;
        for (int i = 0; i < count; ++i) {
            pieces[i] = total;
            asked += bytes[i];
            std::size_t padded = 0;
            if (__builtin_add_overflow(bytes[i], piece_alignment - 1, &padded) ||
                __builtin_add_overflow(total, padded / piece_alignment * piece_alignment, &total)) {
                return Status(ErrorCode::out_of_memory,
                              sentence(text(), ": more memory is asked for than there can be"));
            }
        }
        cuda::Address begin = 0;
        if (Status s = outcome(driver().allocate(&begin, total > 0 ? total : piece_alignment),
                               sentence("an allocation of ", asked, " bytes").c_str());
            !s.ok()) {
            return s;
        }
        for (int i = 0; i < count; ++i) pieces[i] += begin;
        return Status();
    }
    void free(const Handle* pieces, int count) noexcept override {
        if (count > 0) driver().free(pieces[0]);
    }
    // A graph that was captured names it for as long as it lives.
    bool frees_after_use() const override { return false; }

    Status upload(void* stream, Handle to, const void* from, std::size_t bytes) override {
        if (Status s = outcome(driver().upload(to, from, bytes, stream_of(stream)), "a copy to it"); !s.ok()) return s;
        return synchronize(stream);
    }
    Status download(void* stream, void* to, Handle from, std::size_t bytes) override {
        if (Status s = outcome(driver().download(to, from, bytes, stream_of(stream)), "a copy from it"); !s.ok()) {
            return s;
        }
        return synchronize(stream);
    }
    Status synchronize(void* stream) override {
        return outcome(driver().synchronize(stream_of(stream)), "waiting for the stream");
    }
    Status fill_zeros(void* stream, Handle to, std::size_t bytes) override {
        return outcome(driver().fill(to, 0, bytes, stream_of(stream)), "filling with zeros");
    }
    void flush(void*) noexcept override {}

    // The legacy stream answers with an error while another stream is captured that must not mix with it.
    Status is_captured(void* stream, bool& captured) override {
        int status = 0;
        const cuda::Result result = driver().capture_status(stream_of(stream), &status);
        captured = status != 0 || result == cuda::implicit_capture;
        return captured ? Status() : outcome(result, "asking for the stream's state");
    }
    Status check_stream(void* stream) override {
        bool captured = false;
        return is_captured(stream, captured);
    }
    Status check_memory(const Operand& operand, std::uint64_t bytes) override;

    Status function(Module& module, const char* name, std::unique_ptr<Function>& function) override {
        cuda::FunctionHandle handle = nullptr;
        const cuda::Result result = driver().module_function(&handle, static_cast<CudaModule&>(module).handle, name);
        if (result != cuda::success) return outcome(result, sentence("looking for kernel ", name).c_str());
        function = std::make_unique<CudaFunction>(handle);
        return Status();
    }
    Status prepare_launch(Function& function, std::int32_t shared_bytes) override {
        auto& f = static_cast<CudaFunction&>(function);
        if (shared_bytes <= f.max_shared_bytes) return Status();
        const cuda::Result result =
            driver().set_function_attribute(f.handle, cuda::max_dynamic_shared_bytes, shared_bytes);
        if (result != cuda::success) {
            return outcome(result, sentence("asking for ", shared_bytes, " bytes of shared memory").c_str());
        }
        f.max_shared_bytes = shared_bytes;
        return Status();
    }
    Status launch(void* stream, Function& function, const LaunchArguments& launch) override;

private:
    Status load(const fusebn_device_code& code, std::shared_ptr<Module>& module) override;
    Status outcome(cuda::Result result, const char* what) const {
        return driver().outcome(result, text().c_str(), what);
    }

    const Context context_;
    const cuda::Ordinal ordinal_;
    const int capability_;  // 90 for 9.0
};

Status CudaDevice::check_memory(const Operand& operand, std::uint64_t) {
    static constexpr int attributes[] = {cuda::pointer_context, cuda::pointer_memory_type, cuda::pointer_is_managed,
                                         cuda::pointer_device};
    Context context = nullptr;
    unsigned type = 0, managed = 0;
    int ordinal = 0;
    void* values[] = {&context, &type, &managed, &ordinal};
    // Of a pointer that it does not know, the driver gives zeros.
    const auto address = static_cast<cuda::Address>(reinterpret_cast<std::uintptr_t>(operand.data));
    const cuda::Result result = driver().pointer_attributes(4, attributes, values, address);
    if (result != cuda::success && result != cuda::invalid_value)
        return outcome(result, "asking for a pointer's place");
    const auto refuse = [&](const auto&... what) {
        return Status(ErrorCode::not_device_memory,
                      sentence(operand.name, ": its data is ", what..., "; expected memory of ", text()));
    };
    if (managed != 0) return Status();
    if (result != cuda::success || type != cuda::memory_of_device) return refuse("memory of the host");
    if (ordinal != ordinal_) return refuse("memory of cuda:", ordinal);
    if (context != nullptr && context != context_) {
        return refuse("memory of another context on cuda:", ordinal, " than the one that the layer was made in");
    }
    return Status();
}

Status CudaDevice::load(const fusebn_device_code& code, std::shared_ptr<Module>& module) {
    char log[1024] = "";
    const int options[] = {cuda::error_log, cuda::error_log_bytes};
    void* values[] = {log, reinterpret_cast<void*>(sizeof(log))};
    cuda::ModuleHandle handle = nullptr;
    cuda::Result result = cuda::no_binary_for_gpu;
    if (const fusebn_device_image* image = best_image(code, capability_)) {
        result = driver().load_module(&handle, image->data, 2, options, values);
    }
    // The driver's own compiler makes what no image is for.
    const bool has_text = code.text != nullptr && code.text_bytes > 0;
    if ((result == cuda::no_binary_for_gpu || result == cuda::invalid_image) && has_text) {
        log[0] = '\0';
        result = driver().load_module(&handle, code.text, 2, options, values);
    }
    if (result != cuda::success) {
        log[sizeof(log) - 1] = '\0';
        const char* const before = log[0] != '\0' ? " (" : "";
        return outcome(result, sentence("loading kernels", before, log, log[0] != '\0' ? ")" : "").c_str());
    }
    try {
        module = std::make_shared<CudaModule>(context_, handle);
    } catch (const std::bad_alloc&) {
        driver().unload_module(handle);
        throw;
    }
    return Status();
}

Status CudaDevice::launch(void* stream, Function& function, const LaunchArguments& launch) {
    if (Status s = prepare_launch(function, launch.shared_bytes); !s.ok()) return s;
    void* arguments[max_launch_arguments];
    int count = 0;
    for (; launch.arguments[count] != nullptr; ++count) {
        if (count == max_launch_arguments) {
            return Status(ErrorCode::bad_library, sentence(text(), ": a kernel has more arguments than ", count));
        }
        void* const given = launch.arguments[count];
        arguments[count] = launch.is_buffer[count] != 0 ? &static_cast<fusebn_buffer*>(given)->device : given;
    }
    const auto extent = [](std::int32_t value) { return static_cast<unsigned>(value); };
    const cuda::Result result =
        driver().launch(static_cast<CudaFunction&>(function).handle, extent(launch.grid[0]), extent(launch.grid[1]),
                        extent(launch.grid[2]), extent(launch.block[0]), extent(launch.block[1]),
                        extent(launch.block[2]), extent(launch.shared_bytes), stream_of(stream), arguments, nullptr);
    if (result == cuda::success) return Status();
    return outcome(result, sentence("a launch of ", launch.grid[0], "x", launch.grid[1], "x", launch.grid[2],
                                    " blocks of ", launch.block[0], "x", launch.block[1], "x", launch.block[2],
                                    " threads with ", launch.shared_bytes, " bytes of shared memory")
                               .c_str());
}

Status no_device(const std::string& why) { return Status(ErrorCode::no_device, sentence("options.device: ", why)); }

}  // namespace

int cuda_device_count() { return driver().count; }

std::string cuda_device_name(int ordinal) {
    if (ordinal < 0 || ordinal >= driver().count) return "";
    cuda::Ordinal device = 0;
    char name[256] = "";
    if (driver().device(&device, ordinal) != cuda::success) return "";
    if (driver().device_name(name, sizeof(name) - 1, device) != cuda::success) return "";
    return name;
}

void* cuda_context_of_thread(int ordinal) {
    Context current = nullptr;
    cuda::Ordinal device = 0, wanted = 0;
    if (ordinal < 0 || ordinal >= driver().count || driver().device(&wanted, ordinal) != cuda::success) return nullptr;
    if (driver().current_context(&current) != cuda::success || current == nullptr) return nullptr;
    return driver().context_device(&device) == cuda::success && device == wanted ? current : nullptr;
}

Status open_cuda(int ordinal, void* context, std::shared_ptr<Backend>& backend) {
    if (!driver().missing.empty()) return no_device(driver().missing);
    if (ordinal < 0 || ordinal >= driver().count) {
        return no_device(
            sentence("there is no cuda:", ordinal, "; the driver has ", driver().count, " devices, counted from 0"));
    }
    cuda::Ordinal device = 0;
    int major = 0, minor = 0;
    cuda::Result result = driver().device(&device, ordinal);
    if (result == cuda::success) result = driver().device_attribute(&major, cuda::capability_major, device);
    if (result == cuda::success) result = driver().device_attribute(&minor, cuda::capability_minor, device);
    auto chosen = static_cast<Context>(context);
    // Retained until the process ends, as the CUDA runtime does: releasing the last reference would destroy it with all
    // memory that the program has in it.
    if (result == cuda::success && chosen == nullptr) result = driver().retain_primary(&chosen, device);
    if (result != cuda::success)
        return no_device(sentence("cuda:", ordinal, " cannot be used: ", driver().error(result)));
    std::string text = sentence("cuda:", ordinal, " (", cuda_device_name(ordinal), ")");
    backend = std::make_shared<CudaDevice>(Device::cuda(ordinal), std::move(text), chosen, device, major * 10 + minor);
    return Status();
}

}  // namespace fusebn::detail
