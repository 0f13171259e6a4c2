#include "timer.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

constexpr std::size_t other_bytes = std::size_t{256} << 20;  // several L2 caches
constexpr int warm_up = 3, calls_in_a_row = 20, single_calls = 15;

void check(int result, const char* what) {
    if (result == 0) return;
    std::fprintf(stderr, "%s: CUDA error %d\n", what, result);
    std::exit(1);
}

}  // namespace

Timer::Timer() {
    void* const driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == nullptr) {
        std::fprintf(stderr, "%s; this benchmark needs a CUDA GPU\n", dlerror());
        std::exit(1);
    }
    const auto get = [&](auto& function, const char* name) {
        void* const symbol = dlsym(driver, name);
        check(symbol == nullptr, name);
        std::memcpy(&function, &symbol, sizeof(symbol));
    };
    get(event_create_, "cuEventCreate");
    get(event_record_, "cuEventRecord");
    get(event_synchronize_, "cuEventSynchronize");
    get(event_elapsed_, "cuEventElapsedTime");
    get(copy_, "cuMemcpyDtoDAsync_v2");
    get(set_, "cuMemsetD8Async");
    get(allocate_, "cuMemAlloc_v2");
    int (*retain)(void**, int);
    int (*make_current)(void*);
    get(retain, "cuDevicePrimaryCtxRetain");
    get(make_current, "cuCtxSetCurrent");
    int (*init)(unsigned);
    get(init, "cuInit");
    void* context = nullptr;
    check(init(0), "cuInit");
    check(retain(&context, 0), "cuDevicePrimaryCtxRetain");
    check(make_current(context), "cuCtxSetCurrent");
    check(event_create_(&begin_, 0), "cuEventCreate");
    check(event_create_(&end_, 0), "cuEventCreate");
    check(allocate_(&other_, other_bytes), "cuMemAlloc");
}

double Timer::between(const std::function<void()>& calls) const {
    check(event_record_(begin_, nullptr), "cuEventRecord");
    calls();
    check(event_record_(end_, nullptr), "cuEventRecord");
    check(event_synchronize_(end_), "cuEventSynchronize");
    float milliseconds = 0;
    check(event_elapsed_(&milliseconds, begin_, end_), "cuEventElapsedTime");
    return 1000.0 * static_cast<double>(milliseconds);
}

double Timer::back_to_back(const std::function<void()>& call) const {
    for (int i = 0; i < warm_up; ++i) call();
    return between([&] {
               for (int i = 0; i < calls_in_a_row; ++i) call();
           }) /
           calls_in_a_row;
}

double Timer::cold(const std::function<void()>& call) const {
    std::vector<double> times;
    for (int i = 0; i < single_calls; ++i) {
        check(set_(other_, static_cast<unsigned char>(i), other_bytes, nullptr), "cuMemsetD8Async");
        times.push_back(between(call));
    }
    std::nth_element(times.begin(), times.begin() + single_calls / 2, times.end());
    return times[single_calls / 2];
}

void Timer::copy(void* to, const void* from, std::size_t bytes) const {
    check(copy_(reinterpret_cast<Pointer>(to), reinterpret_cast<Pointer>(from), bytes, nullptr), "cuMemcpyDtoDAsync");
}
