#include "fake_cuda.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>

namespace fusebn::test {
namespace {

enum Code {
    success = 0,
    invalid_value = 1,
    out_of_memory = 2,
    invalid_context = 201,
    no_binary = 209,
    not_found = 500,
    capture_unsupported = 900
};

struct Context {
    int device;
};
struct Function {
    std::string name;
    int shared_limit = 48 * 1024;
};
struct LoadedModule {
    void* context;
    std::vector<std::unique_ptr<Function>> functions;
};

FakeCuda& state() {
    static FakeCuda& fake = *new FakeCuda;  // outlives the layers of static objects
    return fake;
}

Context* primary(int device) {
    static Context contexts[16] = {{0}, {1}, {2},  {3},  {4},  {5},  {6},  {7},
                                   {8}, {9}, {10}, {11}, {12}, {13}, {14}, {15}};
    return &contexts[device];
}

// Notes a call, and whether it is the one that is to fail.
int begin(const char* name) {
    FakeCuda& fake = state();
    fake.calls.emplace_back(name);
    if (fake.fail_at <= 0 || (!fake.fail_name.empty() && fake.fail_name != name)) return success;
    if (--fake.fail_at > 0) return success;
    fake.has_failed = true;
    return fake.fail_code;
}

int fault(const std::string& what, int code) {
    state().faults.push_back(what);
    return code;
}

// What needs a context, and must not happen while anything is captured.
int begin_outside_capture(const char* name) {
    if (const int code = begin(name)) return code;
    if (state().contexts.empty()) return fault(std::string(name) + " without a context", invalid_context);
    if (!state().captured.empty()) return fault(std::string(name) + " during capture", capture_unsupported);
    return success;
}
int begin_in_context(const char* name) {
    if (const int code = begin(name)) return code;
    return state().contexts.empty() ? fault(std::string(name) + " without a context", invalid_context) : success;
}

const FakeCuda::Block* find(std::uint64_t address, std::size_t bytes) {
    auto next = state().memory.upper_bound(address);
    if (next == state().memory.begin()) return nullptr;
    --next;
    return address + bytes <= next->first + next->second.bytes ? &next->second : nullptr;
}

int check_range(const char* name, std::uint64_t address, std::size_t bytes) {
    const FakeCuda::Block* const block = find(address, bytes);
    if (block == nullptr) return fault(std::string(name) + " outside its memory", invalid_value);
    if (block->context != state().contexts.back())
        return fault(std::string(name) + " in another context", invalid_value);
    return success;
}

void run_or_keep(void* stream, std::function<void()> work) {
    if (state().captured.count(stream) != 0) {
        state().graph.push_back(std::move(work));
    } else {
        work();
    }
}

void* at(std::uint64_t address) { return reinterpret_cast<void*>(static_cast<std::uintptr_t>(address)); }

}  // namespace

void* FakeCuda::make_context(int device) {
    static std::deque<Context> made;
    made.push_back({device});
    return &made.back();
}

int FakeCuda::count(const std::string& name) const {
    return static_cast<int>(std::count(calls.begin(), calls.end(), name));
}

FakeCuda* fusebn_fake_cuda() { return &state(); }

extern "C" {

int cuInit(unsigned) { return begin("cuInit"); }
int cuDeviceGetCount(int* count) {
    *count = state().devices;
    return begin("cuDeviceGetCount");
}
int cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return begin("cuDeviceGet");
}
int cuDeviceGetName(char* name, int bytes, int) {
    std::strncpy(name, "Fake GPU", static_cast<std::size_t>(bytes));
    return begin("cuDeviceGetName");
}
int cuDeviceGetAttribute(int* value, int attribute, int) {
    if (attribute == 75) *value = state().capability / 10;
    if (attribute == 76) *value = state().capability % 10;
    return begin("cuDeviceGetAttribute");
}
int cuDevicePrimaryCtxRetain(void** context, int device) {
    *context = primary(device);
    return begin("cuDevicePrimaryCtxRetain");
}
int cuCtxGetCurrent(void** context) {
    *context = state().contexts.empty() ? nullptr : state().contexts.back();
    return begin("cuCtxGetCurrent");
}
int cuCtxGetDevice(int* device) {
    if (const int code = begin_in_context("cuCtxGetDevice")) return code;
    *device = static_cast<Context*>(state().contexts.back())->device;
    return success;
}
int cuCtxPushCurrent_v2(void* context) {
    if (const int code = begin("cuCtxPushCurrent")) return code;
    state().contexts.push_back(context);
    return success;
}
int cuCtxPopCurrent_v2(void** context) {
    // Never fails: a test would not tell whether the stack is whole.
    state().calls.emplace_back("cuCtxPopCurrent");
    if (state().contexts.empty()) return fault("cuCtxPopCurrent of an empty stack", invalid_context);
    *context = state().contexts.back();
    state().contexts.pop_back();
    return success;
}
int cuMemAlloc_v2(std::uint64_t* address, std::size_t bytes) {
    if (const int code = begin_outside_capture("cuMemAlloc")) return code;
    if (bytes == 0) return invalid_value;
    void* const block = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (block == nullptr) return out_of_memory;
    std::memset(block, 0xcd, bytes);  // as full of something else as a device's
    *address = reinterpret_cast<std::uintptr_t>(block);
    void* const context = state().contexts.back();
    state().memory[*address] = {bytes, static_cast<Context*>(context)->device, context};
    return success;
}
int cuMemFree_v2(std::uint64_t address) {
    state().calls.emplace_back("cuMemFree");
    if (state().memory.erase(address) == 0) return fault("cuMemFree of what is no allocation", invalid_value);
    std::free(at(address));
    return success;
}
int cuMemcpyHtoDAsync_v2(std::uint64_t to, const void* from, std::size_t bytes, void* stream) {
    if (const int code = begin_in_context("cuMemcpyHtoDAsync")) return code;
    if (const int code = check_range("cuMemcpyHtoDAsync", to, bytes)) return code;
    run_or_keep(stream, [=] { std::memcpy(at(to), from, bytes); });
    return success;
}
int cuMemcpyDtoHAsync_v2(void* to, std::uint64_t from, std::size_t bytes, void* stream) {
    if (const int code = begin_in_context("cuMemcpyDtoHAsync")) return code;
    if (const int code = check_range("cuMemcpyDtoHAsync", from, bytes)) return code;
    run_or_keep(stream, [=] { std::memcpy(to, at(from), bytes); });
    return success;
}
int cuMemcpyDtoDAsync_v2(std::uint64_t to, std::uint64_t from, std::size_t bytes, void* stream) {
    if (const int code = begin_in_context("cuMemcpyDtoDAsync")) return code;
    if (const int code = check_range("cuMemcpyDtoDAsync", to, bytes)) return code;
    if (const int code = check_range("cuMemcpyDtoDAsync", from, bytes)) return code;
    run_or_keep(stream, [=] { std::memcpy(at(to), at(from), bytes); });
    return success;
}
int cuMemsetD8Async(std::uint64_t to, unsigned char value, std::size_t bytes, void* stream) {
    if (const int code = begin_in_context("cuMemsetD8Async")) return code;
    if (const int code = check_range("cuMemsetD8Async", to, bytes)) return code;
    run_or_keep(stream, [=] { std::memset(at(to), value, bytes); });
    return success;
}
int cuStreamSynchronize(void*) { return begin_outside_capture("cuStreamSynchronize"); }
int cuStreamIsCapturing(void* stream, int* status) {
    *status = state().captured.count(stream) != 0 ? 1 : 0;
    return begin_in_context("cuStreamIsCapturing");
}
int cuPointerGetAttributes(unsigned count, int* attributes, void** values, std::uint64_t address) {
    if (const int code = begin_in_context("cuPointerGetAttributes")) return code;
    const FakeCuda::Block* const block = find(address, 1);
    for (unsigned i = 0; i < count; ++i) {
        if (attributes[i] == 1) *static_cast<void**>(values[i]) = block != nullptr ? block->context : nullptr;
        if (attributes[i] == 2) *static_cast<unsigned*>(values[i]) = block != nullptr ? 2 : 0;
        if (attributes[i] == 8) *static_cast<unsigned*>(values[i]) = 0;
        if (attributes[i] == 9) *static_cast<int*>(values[i]) = block != nullptr ? block->device : -2;
    }
    return success;
}
int cuModuleLoadDataEx(void** module, const void* image, unsigned, int*, void** values) {
    if (const int code = begin_outside_capture("cuModuleLoadDataEx")) return code;
    const std::string text = static_cast<const char*>(image);
    if (text == "broken") {
        std::strcpy(static_cast<char*>(values[0]), "line 1 is no PTX");
        return 218;
    }
    if (text == "for another") return no_binary;
    *module = new LoadedModule{state().contexts.back(), {}};
    state().loaded.push_back({text});
    ++state().modules;
    return success;
}
int cuModuleUnload(void* module) {
    state().calls.emplace_back("cuModuleUnload");
    if (static_cast<LoadedModule*>(module)->context != state().contexts.back()) {
        return fault("cuModuleUnload in another context", invalid_value);
    }
    delete static_cast<LoadedModule*>(module);
    --state().modules;
    return success;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
    if (const int code = begin_in_context("cuModuleGetFunction")) return code;
    if (state().kernels.count(name) == 0) return not_found;
    auto& functions = static_cast<LoadedModule*>(module)->functions;
    functions.push_back(std::make_unique<Function>(Function{name}));
    *function = functions.back().get();
    return success;
}
int cuFuncSetAttribute(void* function, int attribute, int value) {
    if (const int code = begin_in_context("cuFuncSetAttribute")) return code;
    if (attribute != 8 || value > 227 * 1024) return invalid_value;
    static_cast<Function*>(function)->shared_limit = value;
    return success;
}
int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared_bytes, void* stream, void** arguments, void**) {
    if (const int code = begin_in_context("cuLaunchKernel")) return code;
    const Function& f = *static_cast<Function*>(function);
    if (gx == 0 || gy == 0 || gz == 0 || bx * by * bz == 0 || bx * by * bz > 1024) {
        return fault(f.name + " with a grid or block that cannot be", invalid_value);
    }
    if (shared_bytes > static_cast<unsigned>(f.shared_limit)) {
        return fault(f.name + " with more shared memory than it asked for", invalid_value);
    }
    const FakeKernel& kernel = state().kernels.at(f.name);
    std::vector<std::vector<unsigned char>> kept;
    for (std::size_t i = 0; i < kernel.argument_bytes.size(); ++i) {
        const auto* const value = static_cast<const unsigned char*>(arguments[i]);
        kept.emplace_back(value, value + kernel.argument_bytes[i]);
    }
    run_or_keep(stream, [=, &kernel] {
        auto values = kept;
        std::vector<void*> places;
        for (auto& value : values) places.push_back(value.data());
        kernel.run({{gx, gy, gz}, {bx, by, bz}, shared_bytes, places.data()});
    });
    return success;
}
int cuGetErrorName(int code, const char** name) {
    *name = code == out_of_memory ? "CUDA_ERROR_OUT_OF_MEMORY" : code == 719 ? "CUDA_ERROR_LAUNCH_FAILED" : nullptr;
    return *name != nullptr ? success : invalid_value;
}
int cuGetErrorString(int code, const char** text) {
    *text = code == 719 ? "unspecified launch failure" : nullptr;
    return *text != nullptr ? success : invalid_value;
}

}  // extern "C"
}  // namespace fusebn::test
