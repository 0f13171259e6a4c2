#include "timer.h"

#include <algorithm>
#include <vector>

namespace {

constexpr std::size_t other_bytes = std::size_t{256} << 20;  // several L2 caches
constexpr int warm_up = 3, calls_in_a_row = 20, single_calls = 15;

}  // namespace

Timer::Timer() {
    enter_first_device();
    check(cuda().create_event(&begin_, 0), "cuEventCreate");
    check(cuda().create_event(&end_, 0), "cuEventCreate");
    check(cuda().allocate(&other_, other_bytes), "cuMemAlloc");
}

double Timer::between(const std::function<void()>& calls) const {
    check(cuda().record_event(begin_, nullptr), "cuEventRecord");
    calls();
    check(cuda().record_event(end_, nullptr), "cuEventRecord");
    check(cuda().synchronize_event(end_), "cuEventSynchronize");
    float milliseconds = 0;
    check(cuda().elapsed(&milliseconds, begin_, end_), "cuEventElapsedTime");
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
        check(cuda().fill(other_, static_cast<unsigned char>(i), other_bytes, nullptr), "cuMemsetD8Async");
        times.push_back(between(call));
    }
    std::nth_element(times.begin(), times.begin() + single_calls / 2, times.end());
    return times[single_calls / 2];
}

void Timer::copy(void* to, const void* from, std::size_t bytes) const {
    check(cuda().copy(reinterpret_cast<CudaAddress>(to), reinterpret_cast<CudaAddress>(from), bytes, nullptr),
          "cuMemcpyDtoDAsync");
}
