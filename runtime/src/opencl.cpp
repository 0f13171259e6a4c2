// OpenCL 1.2 through its loader, which is loaded when it is first asked for. Declared here, so that building the
// runtime needs no headers; names, numbers and types are those of CL/cl.h.
#include <dlfcn.h>

#include <cstring>
#include <map>
#include <mutex>

#include "backend.h"
#include "text.h"

namespace fusebn::detail {

namespace {

using Result = std::int32_t;       // cl_int
using Handle = void*;              // cl_context and so on
using Properties = std::intptr_t;  // cl_context_properties

constexpr std::uint64_t all_devices = 0xFFFFFFFF;
constexpr std::uint32_t name_of_device = 0x102B, extensions_of_device = 0x1030, log_of_build = 0x1183;
constexpr std::uint64_t read_write = 1;
constexpr Result no_memory_on_device = -4, no_resources = -5, no_memory_on_host = -6;

struct Loader {
    Result (*platforms)(std::uint32_t, Handle*, std::uint32_t*);
    Result (*devices)(Handle, std::uint64_t, std::uint32_t, Handle*, std::uint32_t*);
    Result (*device_info)(Handle, std::uint32_t, std::size_t, void*, std::size_t*);
    Handle (*create_context)(const Properties*, std::uint32_t, const Handle*,
                             void (*)(const char*, const void*, std::size_t, void*), void*, Result*);
    Result (*release_context)(Handle);
    Handle (*create_queue)(Handle, Handle, std::uint64_t, Result*);
    Result (*release_queue)(Handle);
    Handle (*create_buffer)(Handle, std::uint64_t, std::size_t, void*, Result*);
    Result (*release_buffer)(Handle);
    Result (*write)(Handle, Handle, std::uint32_t, std::size_t, std::size_t, const void*, std::uint32_t, const Handle*,
                    Handle*);
    Result (*read)(Handle, Handle, std::uint32_t, std::size_t, std::size_t, void*, std::uint32_t, const Handle*,
                   Handle*);
    Result (*fill)(Handle, Handle, const void*, std::size_t, std::size_t, std::size_t, std::uint32_t, const Handle*,
                   Handle*);
    Result (*finish)(Handle);
    Handle (*create_program)(Handle, std::uint32_t, const char**, const std::size_t*, Result*);
    Result (*build)(Handle, std::uint32_t, const Handle*, const char*, void (*)(Handle, void*), void*);
    Result (*build_info)(Handle, Handle, std::uint32_t, std::size_t, void*, std::size_t*);
    Result (*release_program)(Handle);
    Handle (*create_kernel)(Handle, const char*, Result*);
    Result (*release_kernel)(Handle);
    Result (*set_argument)(Handle, std::uint32_t, std::size_t, const void*);
    Result (*enqueue)(Handle, Handle, std::uint32_t, const std::size_t*, const std::size_t*, const std::size_t*,
                      std::uint32_t, const Handle*, Handle*);

    std::string missing;        // why there is none; empty where there is one
    std::vector<Handle> known;  // devices with doubles, of all platforms

    Loader() {
        void* const library = open_library("FUSEBN_LIBOPENCL", "libOpenCL.so.1", missing);
        if (library == nullptr) return;
        const auto get = [&](auto& function, const char* name) {
            void* const symbol = dlsym(library, name);
            if (symbol == nullptr && missing.empty()) missing = sentence("the loader has no ", name);
            std::memcpy(&function, &symbol, sizeof(symbol));
        };
        get(platforms, "clGetPlatformIDs");
        get(devices, "clGetDeviceIDs");
        get(device_info, "clGetDeviceInfo");
        get(create_context, "clCreateContext");
        get(release_context, "clReleaseContext");
        get(create_queue, "clCreateCommandQueue");
        get(release_queue, "clReleaseCommandQueue");
        get(create_buffer, "clCreateBuffer");
        get(release_buffer, "clReleaseMemObject");
        get(write, "clEnqueueWriteBuffer");
        get(read, "clEnqueueReadBuffer");
        get(fill, "clEnqueueFillBuffer");
        get(finish, "clFinish");
        get(create_program, "clCreateProgramWithSource");
        get(build, "clBuildProgram");
        get(build_info, "clGetProgramBuildInfo");
        get(release_program, "clReleaseProgram");
        get(create_kernel, "clCreateKernel");
        get(release_kernel, "clReleaseKernel");
        get(set_argument, "clSetKernelArg");
        get(enqueue, "clEnqueueNDRangeKernel");
        if (missing.empty()) find_devices();
    }

    std::string info(Handle device, std::uint32_t what) const {
        std::size_t size = 0;
        if (device_info(device, what, 0, nullptr, &size) != 0) return "";
        std::string text(size, '\0');
        if (device_info(device, what, size, text.data(), nullptr) != 0) return "";
        return text.c_str();
    }

private:
    void find_devices() {
        std::uint32_t count = 0;
        if (platforms(0, nullptr, &count) != 0) return;
        std::vector<Handle> all(count);
        if (count == 0 || platforms(count, all.data(), nullptr) != 0) return;
        for (Handle platform : all) {
            std::uint32_t here = 0;
            if (devices(platform, all_devices, 0, nullptr, &here) != 0) continue;
            std::vector<Handle> found(here);
            if (here == 0 || devices(platform, all_devices, here, found.data(), nullptr) != 0) continue;
            for (Handle device : found) {
                if (info(device, extensions_of_device).find("cl_khr_fp64") != std::string::npos)
                    known.push_back(device);
            }
        }
    }
};

const Loader& loader() {
    static const Loader* const the = new Loader;
    return *the;
}

Status outcome(Result r, const char* what) {
    if (r == 0) return Status();
    const bool memory = r == no_memory_on_device || r == no_resources || r == no_memory_on_host;
    return Status(memory ? ErrorCode::out_of_memory : ErrorCode::launch_failed,
                  sentence("device: ", what, " failed: OpenCL error ", r));
}

Handle handle(DevicePointer memory) { return reinterpret_cast<Handle>(memory); }

class OpenCl final : public Backend {
public:
    OpenCl(Handle device, Handle context, Handle queue) : device_(device), context_(context), queue_(queue) {}
    ~OpenCl() override {
        loader().release_queue(queue_);
        loader().release_context(context_);
    }

    InstructionSet target() const override { return InstructionSet::opencl; }
    bool has_addresses() const override { return false; }

    Status allocate(std::size_t bytes, DevicePointer& memory) override {
        Result r = 0;
        const Handle made = loader().create_buffer(context_, read_write, bytes, nullptr, &r);
        memory = reinterpret_cast<DevicePointer>(made);
        return outcome(r, "an allocation");
    }
    void free(DevicePointer memory) noexcept override {
        if (memory != 0) loader().release_buffer(handle(memory));
    }
    Status upload(DevicePointer to, const void* from, std::size_t bytes, void* stream) override {
        return outcome(loader().write(queue(stream), handle(to), 1, 0, bytes, from, 0, nullptr, nullptr),
                       "a copy to it");
    }
    Status download(void* to, DevicePointer from, std::size_t bytes, void* stream) override {
        return outcome(loader().read(queue(stream), handle(from), 1, 0, bytes, to, 0, nullptr, nullptr),
                       "a copy from it");
    }
    Status clear(DevicePointer memory, std::size_t bytes, void* stream) override {
        const unsigned char zero = 0;
        return outcome(loader().fill(queue(stream), handle(memory), &zero, 1, 0, bytes, 0, nullptr, nullptr),
                       "a filling");
    }
    void finish() noexcept override { loader().finish(queue_); }
    Status check_memory(const char*, const void*) override { return Status(); }  // a handle cannot be asked
    bool is_capturing(void*) override { return false; }

    // A kernel's arguments are its own state: one launch at a time.
    Status launch(void* function, const char* name, const Launch& l, void* stream) override {
        const std::lock_guard<std::mutex> lock(launching_);
        std::uint32_t i = 0;
        Result r = 0;
        for (; r == 0 && l.arguments[i] != nullptr; ++i) {
            void* const argument = l.arguments[i];
            r = l.is_buffer[i] != 0
                    ? loader().set_argument(function, i, sizeof(Handle), &static_cast<fusebn_buffer*>(argument)->device)
                    : loader().set_argument(function, i, static_cast<std::size_t>(l.sizes[i]), argument);
        }
        // Local memory comes last, whether there is any or not.
        const auto shared = static_cast<std::size_t>(l.shared_bytes > 0 ? l.shared_bytes : 1);
        if (r == 0) r = loader().set_argument(function, i, shared, nullptr);
        std::size_t global[3], local[3];
        for (int axis = 0; axis < 3; ++axis) {
            local[axis] = static_cast<std::size_t>(l.block[axis]);
            global[axis] = static_cast<std::size_t>(l.grid[axis]) * local[axis];
        }
        if (r == 0) r = loader().enqueue(queue(stream), function, 3, nullptr, global, local, 0, nullptr, nullptr);
        return outcome(r, name);
    }

protected:
    Status load(const fusebn_device_code& code, void*& module) override {
        const char* text = code.text;
        const auto length = static_cast<std::size_t>(code.text_bytes);
        Result r = 0;
        const Handle program = loader().create_program(context_, 1, &text, &length, &r);
        if (r != 0) return outcome(r, "a program");
        r = loader().build(program, 1, &device_, "-cl-std=CL1.2", nullptr, nullptr);
        if (r != 0) {
            std::string log(4096, '\0');
            loader().build_info(program, device_, log_of_build, log.size(), log.data(), nullptr);
            loader().release_program(program);
            return Status(ErrorCode::launch_failed, sentence("kernels: the driver cannot compile them: ", log.c_str()));
        }
        module = program;
        return Status();
    }
    void unload(void* module) noexcept override { loader().release_program(module); }
    Status find(void* module, const char* name, void*& function) override {
        Result r = 0;
        function = loader().create_kernel(module, name, &r);
        return outcome(r, name);
    }
    Status allow_shared(void*, const char*, std::int32_t) override { return Status(); }
    void drop(void* function) noexcept override { loader().release_kernel(function); }

private:
    Handle queue(void* stream) const { return stream != nullptr ? stream : queue_; }

    Handle device_, context_, queue_;
    std::mutex launching_;
};

}  // namespace

Status open_opencl(int ordinal, std::shared_ptr<Backend>& backend) {
    const Loader& l = loader();
    if (!l.missing.empty())
        return Status(ErrorCode::no_device, sentence("device: there is no OpenCL here: ", l.missing));
    const int count = opencl_device_count();
    if (ordinal < 0 || ordinal >= count) {
        return Status(ErrorCode::no_device, sentence("device: there is no OpenCL device ", ordinal,
                                                     " with cl_khr_fp64; this machine has ", count));
    }
    static std::mutex mutex;
    static std::map<int, std::weak_ptr<Backend>>& open = *new std::map<int, std::weak_ptr<Backend>>;
    const std::lock_guard<std::mutex> lock(mutex);
    if ((backend = open[ordinal].lock())) return Status();
    const Handle device = l.known[static_cast<std::size_t>(ordinal)];
    Result r = 0;
    const Handle context = l.create_context(nullptr, 1, &device, nullptr, nullptr, &r);
    if (r != 0) return Status(ErrorCode::no_device, sentence("device: it gives no context: OpenCL error ", r));
    const Handle queue = l.create_queue(context, device, 0, &r);
    if (r != 0) {
        l.release_context(context);
        return Status(ErrorCode::no_device, sentence("device: it gives no queue: OpenCL error ", r));
    }
    backend = std::make_shared<OpenCl>(device, context, queue);
    open[ordinal] = backend;
    return Status();
}

int opencl_device_count() { return static_cast<int>(loader().known.size()); }

std::string opencl_device_name(int ordinal) {
    if (ordinal < 0 || ordinal >= opencl_device_count()) return "";
    return loader().info(loader().known[static_cast<std::size_t>(ordinal)], name_of_device);
}

}  // namespace fusebn::detail
