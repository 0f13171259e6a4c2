#include "cuda.h"

#include <dlfcn.h>

#include <cstdlib>

#include "fail.h"

void check(int result, const char* what) {
    if (result != 0) fail(std::string(what) + ": CUDA error " + std::to_string(result));
}

namespace {

Cuda load() {
    const char* const given = std::getenv("FUSEBN_LIBCUDA");
    void* const library = dlopen(given != nullptr && *given != '\0' ? given : "libcuda.so.1", RTLD_NOW);
    if (library == nullptr) fail(std::string(dlerror()) + "; this benchmark needs a CUDA GPU");
    Cuda loaded;
    const auto find = [&](auto& function, const char* symbol) {
        function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, symbol));
        if (function != nullptr) return;
        fail(std::string("the CUDA driver has no ") + symbol + "; expected CUDA 11.4 or newer");
    };
#define FUSEBN_BENCH_CUDA_FIND(member, symbol, ...) find(loaded.member, symbol);
    FUSEBN_BENCH_CUDA_FUNCTIONS(FUSEBN_BENCH_CUDA_FIND)
#undef FUSEBN_BENCH_CUDA_FIND
    check(loaded.init(0), "cuInit");
    return loaded;
}

}  // namespace

const Cuda& cuda() {
    static const Cuda loaded = load();
    return loaded;
}

void enter_first_device() {
    void* context = nullptr;
    check(cuda().retain_primary(&context, 0), "cuDevicePrimaryCtxRetain");
    check(cuda().make_current(context), "cuCtxSetCurrent");
}
