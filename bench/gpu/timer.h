// Times on CUDA device 0, by events.
#pragma once

#include <cstddef>
#include <functional>

#include "cuda.h"

class Timer {
public:
    Timer();  // makes the context of device 0 current; exits with a sentence where there is no driver

    // Microseconds of a call, in the default stream or one that waits for it: of many one after the other.
    double back_to_back(const std::function<void()>& call) const;
    // The median of single calls, each after the L2 cache was filled with something else.
    double cold(const std::function<void()>& call) const;
    void copy(void* to, const void* from, std::size_t bytes) const;

private:
    void *begin_ = nullptr, *end_ = nullptr;
    CudaAddress other_ = 0;

    double between(const std::function<void()>& calls) const;
};
