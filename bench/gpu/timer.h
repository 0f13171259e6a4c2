// What the benchmark asks of CUDA's driver beside the runtime: events, and a copy to compare with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

class Timer {
public:
    Timer();  // exits with a sentence where there is no driver

    // Microseconds of a call, in the default stream: of many one after the other.
    double back_to_back(const std::function<void()>& call) const;
    // The median of single calls, each after the L2 cache was filled with something else.
    double cold(const std::function<void()>& call) const;
    void copy(void* to, const void* from, std::size_t bytes) const;

private:
    using Pointer = std::uint64_t;
    int (*event_create_)(void**, unsigned);
    int (*event_record_)(void*, void*);
    int (*event_synchronize_)(void*);
    int (*event_elapsed_)(float*, void*, void*);
    int (*copy_)(Pointer, Pointer, std::size_t, void*);
    int (*set_)(Pointer, unsigned char, std::size_t, void*);
    int (*allocate_)(Pointer*, std::size_t);
    void *begin_ = nullptr, *end_ = nullptr;
    Pointer other_ = 0;

    double between(const std::function<void()>& calls) const;
};
