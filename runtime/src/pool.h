// The built-in pool of threads.
//
// Each participant of a loop has a contiguous range of its indices, the same one in every loop of the same length, so
// that a channel stays in the cache of the core that had it last; who is done takes half of what another has left.
// Threads that have nothing to do look out for the next loop for a while, then sleep.
//
// A thread of the program that runs a loop of its own meanwhile, as the pool is in use, is a guest on the CPUs: for
// each there is one a thread of the pool fewer, or it would be kept waiting by threads that wait for a CPU in a task.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <memory>

#include "fusebn/kernel_abi.h"

namespace fusebn::detail {

inline constexpr int max_threads = 1024;

// The CPUs this process may use, 1 to max_threads.
int usable_cpus() noexcept;

class Pool {
public:
    // `threads` includes the caller of run(). Fewer are started where the system has no more to give; null where it
    // has none at all. `guests` counts them, and has to stay.
    static std::unique_ptr<Pool> start(int threads, const std::atomic<int>& guests) noexcept;
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    // One loop at a time: callers take turns among themselves. 0, or the first non-zero value of a task.
    int run(const fusebn_context* context, fusebn_task task, std::int32_t min, std::int32_t count,
            std::uint8_t* closure) noexcept;

    // In the child of a fork, where the threads do not exist: the destructor joins none.
    void forget_threads() noexcept { started_ = 0; }

private:
    struct Loop {
        const fusebn_context* context;
        fusebn_task task;
        std::int32_t min;
        std::uint8_t* closure;
        std::uint32_t float_mode;
    };
    struct Worker {
        Pool* pool;
        int self;  // 1 and up; the caller of run() is 0
        pthread_t thread;
    };
    // Indices not yet taken: the first in the low half, the end in the high half; one word, so that taking is one CAS.
    // A line each: owners take from their own without touching another's.
    struct alignas(64) Range {
        std::atomic<std::uint64_t> bounds{0};
    };

    explicit Pool(const std::atomic<int>& guests) : guests_(guests) {}
    static void* thread_main(void* worker);
    void serve(int self) noexcept;
    std::uint32_t next_epoch(int self, std::uint32_t seen) noexcept;
    void work(int self) noexcept;
    bool steal(int self) noexcept;
    bool has_cpu(int self) const noexcept;
    bool enter() noexcept;
    void leave() noexcept;
    void close() noexcept;

    const std::atomic<int>& guests_;
    int threads_ = 1;  // with the caller
    int started_ = 0;  // without
    std::int64_t spin_nanoseconds_ = 0;
    std::unique_ptr<Range[]> ranges_;
    std::unique_ptr<Worker[]> workers_;
    Loop loop_{};

    alignas(64) std::atomic<std::uint32_t> epoch_{0};  // counts loops; threads sleep on it
    std::atomic<std::uint32_t> sleepers_{0};
    std::atomic<bool> stop_{false};
    alignas(64) std::atomic<std::uint32_t> gate_{0};  // open bit, waiting bit, and how many threads are inside
    std::atomic<int> error_{0};
    std::atomic<bool> unfinished_{false};  // a thread went before its range was empty, and perhaps nobody took the rest
};

}  // namespace fusebn::detail
