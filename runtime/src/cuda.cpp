// CUDA through its driver, which is loaded when it is first asked for. Declared here, so that building the runtime
// needs no toolkit; names, numbers and types are those of cuda.h, whose ABI is stable.
#include <dlfcn.h>

#include <array>
#include <cstring>
#include <map>
#include <mutex>

#include "backend.h"
#include "text.h"

namespace fusebn::detail {

namespace {

using Result = int;     // CUresult
using Context = void*;  // CUcontext
using Stream = void*;   // CUstream

constexpr Result out_of_memory_result = 2;
constexpr int capability_major = 75, capability_minor = 76;         // CUdevice_attribute
constexpr int pointer_memory_type = 2, pointer_device_ordinal = 9;  // CUpointer_attribute
constexpr unsigned device_memory = 2;                               // CUmemorytype
constexpr int max_dynamic_shared = 8;                               // CUfunction_attribute
constexpr int jit_error_log = 5, jit_error_log_bytes = 6;           // CUjit_option
constexpr std::int32_t shared_without_asking = 48 << 10;

struct Driver {
    Result (*init)(unsigned);
    Result (*device_count)(int*);
    Result (*device_get)(int*, int);
    Result (*device_name)(char*, int, int);
    Result (*device_attribute)(int*, int, int);
    Result (*primary_retain)(Context*, int);
    Result (*primary_release)(int);
    Result (*context_current)(Context*);
    Result (*context_device)(int*);
    Result (*context_push)(Context);
    Result (*context_pop)(Context*);
    Result (*context_synchronize)();
    Result (*memory_allocate)(DevicePointer*, std::size_t);
    Result (*memory_free)(DevicePointer);
    Result (*upload)(DevicePointer, const void*, std::size_t, Stream);
    Result (*download)(void*, DevicePointer, std::size_t, Stream);
    Result (*set_bytes)(DevicePointer, unsigned char, std::size_t, Stream);
    Result (*stream_synchronize)(Stream);
    Result (*stream_is_capturing)(Stream, int*);
    Result (*module_load)(void**, const void*, unsigned, int*, void**);
    Result (*module_unload)(void*);
    Result (*module_function)(void**, void*, const char*);
    Result (*function_set)(void*, int, int);
    Result (*launch)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Stream, void**,
                     void**);
    Result (*pointer_attribute)(void*, int, DevicePointer);
    Result (*error_string)(Result, const char**);

    std::string missing;  // why there is none; empty where there is one

    Driver() {
        void* const library = open_library("FUSEBN_LIBCUDA", "libcuda.so.1", missing);
        if (library == nullptr) return;
        const auto get = [&](auto& function, const char* name) {
            void* const symbol = dlsym(library, name);
            if (symbol == nullptr && missing.empty()) missing = sentence("the driver has no ", name);
            std::memcpy(&function, &symbol, sizeof(symbol));
        };
        get(init, "cuInit");
        get(device_count, "cuDeviceGetCount");
        get(device_get, "cuDeviceGet");
        get(device_name, "cuDeviceGetName");
        get(device_attribute, "cuDeviceGetAttribute");
        get(primary_retain, "cuDevicePrimaryCtxRetain");
        get(primary_release, "cuDevicePrimaryCtxRelease_v2");
        get(context_current, "cuCtxGetCurrent");
        get(context_device, "cuCtxGetDevice");
        get(context_push, "cuCtxPushCurrent_v2");
        get(context_pop, "cuCtxPopCurrent_v2");
        get(context_synchronize, "cuCtxSynchronize");
        get(memory_allocate, "cuMemAlloc_v2");
        get(memory_free, "cuMemFree_v2");
        get(upload, "cuMemcpyHtoDAsync_v2");
        get(download, "cuMemcpyDtoHAsync_v2");
        get(set_bytes, "cuMemsetD8Async");
        get(stream_synchronize, "cuStreamSynchronize");
        get(stream_is_capturing, "cuStreamIsCapturing");
        get(module_load, "cuModuleLoadDataEx");
        get(module_unload, "cuModuleUnload");
        get(module_function, "cuModuleGetFunction");
        get(function_set, "cuFuncSetAttribute");
        get(launch, "cuLaunchKernel");
        get(pointer_attribute, "cuPointerGetAttribute");
        get(error_string, "cuGetErrorString");
        if (!missing.empty()) return;
        if (const Result r = init(0); r != 0) missing = text(r);
    }

    std::string text(Result r) const {
        const char* words = nullptr;
        if (error_string(r, &words) != 0 || words == nullptr) words = "an unknown error";
        return sentence(words, " (CUDA error ", r, ")");
    }
};

// Never closed: a driver does not survive it, and others in the process use it too.
const Driver& driver() {
    static const Driver* const the = new Driver;
    return *the;
}

class Cuda final : public Backend {
public:
    Cuda(int ordinal, Context context, bool primary, int capability)
        : ordinal_(ordinal), context_(context), primary_(primary), capability_(capability) {}
    ~Cuda() override {
        if (primary_) driver().primary_release(ordinal_);
    }

    InstructionSet target() const override {
        return static_cast<InstructionSet>(FUSEBN_ISA_CUDA_SM_80 - 80 + capability_);
    }
    bool has_addresses() const override { return true; }

    Status allocate(std::size_t bytes, DevicePointer& memory) override {
        const Scope scope(*this);
        const Result r = driver().memory_allocate(&memory, bytes);
        if (r == 0) return Status();
        return Status(r == out_of_memory_result ? ErrorCode::out_of_memory : ErrorCode::launch_failed,
                      sentence("device memory: ", bytes, " bytes could not be had: ", driver().text(r)));
    }
    void free(DevicePointer memory) noexcept override {
        const Scope scope(*this);
        if (memory != 0) driver().memory_free(memory);
    }
    Status upload(DevicePointer to, const void* from, std::size_t bytes, void* stream) override {
        const Scope scope(*this);
        Result r = driver().upload(to, from, bytes, stream);
        if (r == 0) r = driver().stream_synchronize(stream);
        return outcome(r, "a copy to the device");
    }
    Status download(void* to, DevicePointer from, std::size_t bytes, void* stream) override {
        const Scope scope(*this);
        Result r = driver().download(to, from, bytes, stream);
        if (r == 0) r = driver().stream_synchronize(stream);
        return outcome(r, "a copy from the device");
    }
    Status clear(DevicePointer memory, std::size_t bytes, void* stream) override {
        const Scope scope(*this);
        return outcome(driver().set_bytes(memory, 0, bytes, stream), "setting device memory");
    }
    void finish() noexcept override {
        const Scope scope(*this);
        driver().context_synchronize();
    }

    Status check_memory(const char* name, const void* data) override {
        const Scope scope(*this);
        unsigned type = 0;
        int ordinal = ordinal_;
        const auto address = reinterpret_cast<DevicePointer>(data);
        const Result r = driver().pointer_attribute(&type, pointer_memory_type, address);
        if (r != 0 || type != device_memory) {
            return Status(ErrorCode::not_device_memory,
                          sentence(name, ": its data is no CUDA device memory; expected memory of device ", ordinal_,
                                   ", where the layer is (cudaMalloc, DeviceMemory)"));
        }
        if (driver().pointer_attribute(&ordinal, pointer_device_ordinal, address) == 0 && ordinal != ordinal_) {
            return Status(ErrorCode::not_device_memory, sentence(name, ": its data is memory of device ", ordinal,
                                                                 ", but the layer is on device ", ordinal_));
        }
        return Status();
    }
    bool is_capturing(void* stream) override {
        const Scope scope(*this);
        int status = 0;
        return driver().stream_is_capturing(stream, &status) == 0 && status != 0;
    }

    Status launch(void* function, const char* name, const Launch& l, void* stream) override {
        constexpr int most = 64;
        std::array<void*, most> values;
        for (int i = 0; l.arguments[i] != nullptr; ++i) {
            if (i == most) return Status(ErrorCode::bad_library, sentence(name, ": it has over ", most, " arguments"));
            void* const argument = l.arguments[i];
            values[static_cast<std::size_t>(i)] =
                l.is_buffer[i] != 0 ? &static_cast<fusebn_buffer*>(argument)->device : argument;
        }
        const auto u = [](std::int32_t v) { return static_cast<unsigned>(v); };
        const Scope scope(*this);
        const Result r =
            driver().launch(function, u(l.grid[0]), u(l.grid[1]), u(l.grid[2]), u(l.block[0]), u(l.block[1]),
                            u(l.block[2]), u(l.shared_bytes), stream, values.data(), nullptr);
        return outcome(r, name);
    }

protected:
    Status load(const fusebn_device_code& code, void*& module) override {
        const Scope scope(*this);
        // A cubin runs on its own major version, from its minor one on.
        for (int i = 0; i < code.image_count; ++i) {
            const fusebn_device_image& image = code.images[i];
            if (image.sm / 10 != capability_ / 10 || image.sm > capability_) continue;
            if (driver().module_load(&module, image.data, 0, nullptr, nullptr) == 0) return Status();
        }
        std::array<char, 2048> log{};
        int options[] = {jit_error_log, jit_error_log_bytes};
        void* values[] = {log.data(), reinterpret_cast<void*>(log.size())};
        const Result r = driver().module_load(&module, code.text, 2, options, values);
        if (r == 0) return Status();
        return Status(ErrorCode::launch_failed,
                      sentence("kernels: the driver cannot load them: ", driver().text(r), " ", log.data()));
    }
    void unload(void* module) noexcept override {
        const Scope scope(*this);
        driver().module_unload(module);
    }
    Status find(void* module, const char* name, void*& function) override {
        const Scope scope(*this);
        return outcome(driver().module_function(&function, module, name), name);
    }
    Status allow_shared(void* function, const char* name, std::int32_t bytes) override {
        if (bytes <= shared_without_asking) return Status();
        const Scope scope(*this);
        return outcome(driver().function_set(function, max_dynamic_shared, bytes), name);
    }
    void drop(void*) noexcept override {}

private:
    // The context is the thread's while this is, and what was is again afterwards.
    class Scope {
    public:
        explicit Scope(const Cuda& cuda) {
            Context now = nullptr;
            if (driver().context_current(&now) == 0 && now == cuda.context_) return;
            pushed_ = driver().context_push(cuda.context_) == 0;
        }
        ~Scope() {
            Context popped = nullptr;
            if (pushed_) driver().context_pop(&popped);
        }
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;

    private:
        bool pushed_ = false;
    };

    Status outcome(Result r, const char* what) const {
        if (r == 0) return Status();
        return Status(ErrorCode::launch_failed,
                      sentence("device ", ordinal_, ": ", what, " failed: ", driver().text(r)));
    }

    int ordinal_;
    Context context_;
    bool primary_;
    int capability_;  // 90 for 9.0
};

}  // namespace

Status open_cuda(int ordinal, std::shared_ptr<Backend>& backend) {
    const Driver& d = driver();
    if (!d.missing.empty()) return Status(ErrorCode::no_device, sentence("device: there is no CUDA here: ", d.missing));
    const int count = cuda_device_count();
    if (ordinal < 0 || ordinal >= count) {
        return Status(ErrorCode::no_device,
                      sentence("device: there is no CUDA device ", ordinal, "; this machine has ", count));
    }
    int device = 0, major = 0, minor = 0;
    Result r = d.device_get(&device, ordinal);
    if (r == 0) r = d.device_attribute(&major, capability_major, device);
    if (r == 0) r = d.device_attribute(&minor, capability_minor, device);
    if (r != 0) return Status(ErrorCode::no_device, sentence("device: CUDA device ", ordinal, ": ", d.text(r)));
    Context context = nullptr;
    int current = -1;
    const bool own =
        d.context_current(&context) == 0 && context != nullptr && d.context_device(&current) == 0 && current == device;
    if (!own) {
        r = d.primary_retain(&context, device);
        if (r != 0) {
            return Status(ErrorCode::no_device,
                          sentence("device: CUDA device ", ordinal, " gives no context: ", d.text(r)));
        }
    }
    static std::mutex mutex;
    static std::map<Context, std::weak_ptr<Backend>>& open = *new std::map<Context, std::weak_ptr<Backend>>;
    const std::lock_guard<std::mutex> lock(mutex);
    if (auto there = open[context].lock()) {
        if (!own) d.primary_release(device);  // it holds one already, or the context's owner does
        backend = std::move(there);
        return Status();
    }
    backend = std::make_shared<Cuda>(ordinal, context, !own, 10 * major + minor);
    open[context] = backend;
    return Status();
}

int cuda_device_count() {
    int count = 0;
    const Driver& d = driver();
    return d.missing.empty() && d.device_count(&count) == 0 ? count : 0;
}

std::string cuda_device_name(int ordinal) {
    const Driver& d = driver();
    std::array<char, 256> name{};
    int device = 0;
    if (ordinal < 0 || ordinal >= cuda_device_count() || d.device_get(&device, ordinal) != 0 ||
        d.device_name(name.data(), static_cast<int>(name.size()) - 1, device) != 0) {
        return "";
    }
    return name.data();
}

}  // namespace fusebn::detail
