#include "device/cuda_driver.h"

#include <dlfcn.h>

#include <cstdlib>

#include "text.h"

namespace fusebn::detail::cuda {
namespace {

const char* library_name() {
    const char* const given = std::getenv("FUSEBN_LIBCUDA");
    return given != nullptr && *given != '\0' ? given : "libcuda.so.1";
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
        loaded.missing = sentence("the CUDA driver cannot be loaded (", why != nullptr ? why : name, ")");
        return loaded;
    }
    const char* absent = nullptr;
#define FUSEBN_CUDA_FIND(member, symbol, ...) \
    if (!find(library, symbol, loaded.member) && absent == nullptr) absent = symbol;
    FUSEBN_CUDA_FUNCTIONS(FUSEBN_CUDA_FIND)
#undef FUSEBN_CUDA_FIND
    if (absent != nullptr) {
        loaded.missing = sentence("the CUDA driver ", name, " has no ", absent, "; it is older than CUDA 10");
        return loaded;
    }
    Result result = loaded.init(0);
    if (result == success) result = loaded.device_count(&loaded.count);
    if (result != success) {
        loaded.missing = sentence("the CUDA driver ", name, " does not start: ", loaded.error(result));
        loaded.count = 0;
    }
    return loaded;
}

}  // namespace

std::string Driver::error(Result result) const {
    const char* name = nullptr;
    const char* text = nullptr;
    if (error_name(result, &name) != success || name == nullptr) name = "an error that the driver has no name for";
    if (error_text(result, &text) != success || text == nullptr) text = "no more is known";
    return sentence(name, " (", result, ", ", text, ")");
}

Status Driver::outcome(Result result, const char* subject, const char* what) const {
    if (result == success) return Status();
    const ErrorCode code = result == cuda::out_of_memory ? ErrorCode::out_of_memory : ErrorCode::launch_failed;
    return Status(code, sentence(subject, ": ", what, " failed: ", error(result)));
}

const Driver& driver() {
    static const Driver& loaded = *new Driver(load());
    return loaded;
}

}  // namespace fusebn::detail::cuda
