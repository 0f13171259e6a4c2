#include "device/opencl_driver.h"

#include <dlfcn.h>

#include <cstdlib>

#include "text.h"

namespace fusebn::detail::opencl {
namespace {

const char* library_name() {
    const char* const given = std::getenv("FUSEBN_LIBOPENCL");
    return given != nullptr && *given != '\0' ? given : "libOpenCL.so.1";
}

template <class F>
bool find(void* library, const char* symbol, F& function) {
    function = reinterpret_cast<F>(::dlsym(library, symbol));
    return function != nullptr;
}

Driver load() {
    Driver loaded;
    const char* const name = library_name();
    void* const library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        const char* const why = ::dlerror();
        loaded.missing = sentence("OpenCL cannot be loaded (", why != nullptr ? why : name, ")");
        return loaded;
    }
    const char* absent = nullptr;
#define FUSEBN_OPENCL_FIND(result, member, symbol, ...) \
    if (!find(library, symbol, loaded.member) && absent == nullptr) absent = symbol;
    FUSEBN_OPENCL_FUNCTIONS(FUSEBN_OPENCL_FIND)
#undef FUSEBN_OPENCL_FIND
    if (absent != nullptr) {
        loaded.missing = sentence(name, " has no ", absent, "; it is older than OpenCL 1.2");
        return loaded;
    }
    std::uint32_t count = 0;
    if (const Result result = loaded.platforms(0, nullptr, &count); result != success || count == 0) {
        loaded.missing = sentence(name, " has no platform", result != success ? ": " + error(result) : std::string(),
                                  "; expected a driver, such as PoCL's");
        return loaded;
    }
    std::vector<Platform> platforms(count);
    if (loaded.platforms(count, platforms.data(), nullptr) != success) platforms.clear();
    for (const Platform platform : platforms) {
        if (loaded.devices(platform, all_device_types, 0, nullptr, &count) != success || count == 0) continue;
        std::vector<DeviceId> devices(count);
        if (loaded.devices(platform, all_device_types, count, devices.data(), nullptr) != success) continue;
        loaded.all_devices.insert(loaded.all_devices.end(), devices.begin(), devices.end());
    }
    return loaded;
}

struct Name {
    Result result;
    const char* text;
};
constexpr Name names[] = {
    {-1, "CL_DEVICE_NOT_FOUND"},         {-2, "CL_DEVICE_NOT_AVAILABLE"},
    {-3, "CL_COMPILER_NOT_AVAILABLE"},   {-4, "CL_MEM_OBJECT_ALLOCATION_FAILURE"},
    {-5, "CL_OUT_OF_RESOURCES"},         {-6, "CL_OUT_OF_HOST_MEMORY"},
    {-11, "CL_BUILD_PROGRAM_FAILURE"},   {-30, "CL_INVALID_VALUE"},
    {-33, "CL_INVALID_DEVICE"},          {-34, "CL_INVALID_CONTEXT"},
    {-36, "CL_INVALID_COMMAND_QUEUE"},   {-38, "CL_INVALID_MEM_OBJECT"},
    {-43, "CL_INVALID_BUILD_OPTIONS"},   {-46, "CL_INVALID_KERNEL_NAME"},
    {-49, "CL_INVALID_ARG_INDEX"},       {-50, "CL_INVALID_ARG_VALUE"},
    {-51, "CL_INVALID_ARG_SIZE"},        {-52, "CL_INVALID_KERNEL_ARGS"},
    {-54, "CL_INVALID_WORK_GROUP_SIZE"}, {-55, "CL_INVALID_WORK_ITEM_SIZE"},
    {-61, "CL_INVALID_BUFFER_SIZE"},     {-1001, "CL_PLATFORM_NOT_FOUND_KHR"},
};

}  // namespace

std::string error(Result result) {
    for (const Name& name : names) {
        if (name.result == result) return sentence(name.text, " (", result, ")");
    }
    return sentence("error ", result);
}

Status Driver::outcome(Result result, const char* subject, const char* what) const {
    if (result == success) return Status();
    const bool memory = result == allocation_failure || result == out_of_host_memory;
    return Status(memory ? ErrorCode::out_of_memory : ErrorCode::launch_failed,
                  sentence(subject, ": ", what, " failed: ", error(result)));
}

const Driver& driver() {
    static const Driver& loaded = *new Driver(load());
    return loaded;
}

}  // namespace fusebn::detail::opencl
