#include "pool.h"

#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <new>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fusebn::detail {
namespace {

// The next kernel of a model follows within tens of microseconds, and waking a sleeping thread takes about as long.
constexpr std::int64_t default_spin_nanoseconds = 50'000;

constexpr std::uint32_t gate_open = 1u << 31;
constexpr std::uint32_t gate_waiting = 1u << 30;
constexpr std::uint32_t gate_inside = gate_waiting - 1;

void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t while_value) noexcept {
    static_assert(sizeof(word) == 4 && std::atomic<std::uint32_t>::is_always_lock_free);
    syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, while_value, nullptr, nullptr, 0);
}

void futex_wake(std::atomic<std::uint32_t>& word, int threads) noexcept {
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, threads, nullptr, nullptr, 0);
}

void relax() noexcept {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

// Looks for `done` for about `nanoseconds`; whether it came.
template <class Condition>
bool spin(std::int64_t nanoseconds, Condition done) noexcept {
    if (done()) return true;
    if (nanoseconds == 0) return false;
    using Clock = std::chrono::steady_clock;
    const auto deadline = Clock::now() + std::chrono::nanoseconds(nanoseconds);
    do {
        for (int i = 0; i < 16; ++i) {
            relax();
            if (done()) return true;
        }
    } while (Clock::now() < deadline);
    return false;
}

// How the calling thread rounds and whether it flushes subnormals to zero (the sticky flags of exceptions left out).
std::uint32_t float_mode() noexcept {
#if defined(__x86_64__)
    return _mm_getcsr() & ~0x3fu;
#else
    return 0;
#endif
}

// Only ever called on the pool's own threads.
void set_float_mode([[maybe_unused]] std::uint32_t mode) noexcept {
#if defined(__x86_64__)
    if (float_mode() != mode) _mm_setcsr(mode);
#endif
}

constexpr std::uint64_t pack(std::uint32_t begin, std::uint32_t end) { return std::uint64_t{end} << 32 | begin; }
constexpr std::uint32_t begin_of(std::uint64_t bounds) { return static_cast<std::uint32_t>(bounds); }
constexpr std::uint32_t end_of(std::uint64_t bounds) { return static_cast<std::uint32_t>(bounds >> 32); }

}  // namespace

int usable_cpus() noexcept {
    cpu_set_t set;
    CPU_ZERO(&set);
    // Fails on machines with more CPUs than a cpu_set_t counts, which is max_threads.
    if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::clamp(CPU_COUNT(&set), 1, max_threads);
    return static_cast<int>(std::clamp(sysconf(_SC_NPROCESSORS_ONLN), 1L, static_cast<long>(max_threads)));
}

std::unique_ptr<Pool> Pool::start(int threads, const std::atomic<int>& guests) noexcept {
    std::unique_ptr<Pool> pool(new (std::nothrow) Pool(guests));
    if (!pool) return nullptr;
    pool->ranges_.reset(new (std::nothrow) Range[threads]);
    pool->workers_.reset(new (std::nothrow) Worker[threads]);
    if (!pool->ranges_ || !pool->workers_) return nullptr;
    pool->threads_ = threads;
    // More threads than CPUs: one that looks out would keep another from its work.
    pool->spin_nanoseconds_ = threads <= usable_cpus() ? default_spin_nanoseconds : 0;

    // The program's signals are for the program's threads; what an instruction raises comes where it ran.
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (const int raised : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS}) sigdelset(&blocked, raised);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    for (int self = 1; self < threads; ++self) {
        Worker& worker = pool->workers_[self];
        worker.pool = pool.get();
        worker.self = self;
        if (pthread_create(&worker.thread, nullptr, thread_main, &worker) != 0) break;
        pool->started_ = self;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return pool->started_ > 0 ? std::move(pool) : nullptr;
}

Pool::~Pool() {
    stop_.store(true);
    epoch_.fetch_add(1);
    futex_wake(epoch_, INT_MAX);
    for (int self = 1; self <= started_; ++self) pthread_join(workers_[self].thread, nullptr);
}

int Pool::run(const fusebn_context* context, fusebn_task task, std::int32_t min, std::int32_t count,
              std::uint8_t* closure) noexcept {
    loop_ = Loop{context, task, min, closure, float_mode()};
    error_.store(0, std::memory_order_relaxed);
    unfinished_.store(false, std::memory_order_relaxed);
    const std::int64_t parts = std::min<std::int64_t>(threads_, count);
    for (std::int64_t part = 0; part < threads_; ++part) {
        const auto begin = static_cast<std::uint32_t>(part * count / parts);
        const auto end = static_cast<std::uint32_t>((part + 1) * count / parts);
        ranges_[part].bounds.store(part < parts ? pack(begin, end) : 0, std::memory_order_relaxed);
    }
    gate_.store(gate_open, std::memory_order_release);
    // Sequentially consistent, as is the sleepers' side: either they see the new epoch, or this sees them.
    epoch_.fetch_add(1);
    const std::int64_t wanted = std::min<std::int64_t>(parts, threads_ - guests_.load(std::memory_order_relaxed)) - 1;
    if (wanted > 0 && sleepers_.load() > 0) futex_wake(epoch_, static_cast<int>(wanted));
    work(0);
    close();
    if (unfinished_.load(std::memory_order_relaxed)) work(0);  // alone: the gate is closed
    return error_.load(std::memory_order_relaxed);
}

void* Pool::thread_main(void* argument) {
    const Worker& worker = *static_cast<Worker*>(argument);
    worker.pool->serve(worker.self);
    return nullptr;
}

void Pool::serve(int self) noexcept {
    for (std::uint32_t seen = 0;;) {
        seen = next_epoch(self, seen);
        if (stop_.load()) return;
        if (!has_cpu(self) || !enter()) continue;
        set_float_mode(loop_.float_mode);  // the caller's, so that who runs an index makes no difference to a bit
        work(self);
        leave();
    }
}

std::uint32_t Pool::next_epoch(int self, std::uint32_t seen) noexcept {
    const auto came = [&] { return epoch_.load(std::memory_order_acquire) != seen; };
    if (!spin(spin_nanoseconds_, [&] { return came() || !has_cpu(self); }) || !came()) {
        sleepers_.fetch_add(1);
        while (epoch_.load() == seen) futex_wait(epoch_, seen);
        sleepers_.fetch_sub(1);
    }
    return epoch_.load(std::memory_order_acquire);
}

void Pool::work(int self) noexcept {
    std::atomic<std::uint64_t>& mine = ranges_[self].bounds;
    do {
        std::uint64_t bounds = mine.load(std::memory_order_relaxed);
        while (begin_of(bounds) < end_of(bounds)) {
            if (!has_cpu(self)) {
                unfinished_.store(true, std::memory_order_relaxed);  // run() sees it, as leave() comes after
                return;
            }
            const std::uint32_t index = begin_of(bounds);
            if (!mine.compare_exchange_weak(bounds, pack(index + 1, end_of(bounds)), std::memory_order_relaxed))
                continue;
            const int code = loop_.task(const_cast<fusebn_context*>(loop_.context),
                                        loop_.min + static_cast<std::int32_t>(index), loop_.closure);
            int none = 0;
            if (code != 0) error_.compare_exchange_strong(none, code, std::memory_order_relaxed);
            bounds = mine.load(std::memory_order_relaxed);
        }
    } while (steal(self));
}

// The caller of run() always has: it is one of the program's threads, as the guests are.
bool Pool::has_cpu(int self) const noexcept {
    return self == 0 || self < threads_ - guests_.load(std::memory_order_relaxed);
}

// Takes half of what another participant has left, the last half: its owner goes on with the first.
bool Pool::steal(int self) noexcept {
    for (int step = 1; step < threads_; ++step) {
        std::atomic<std::uint64_t>& theirs = ranges_[(self + step) % threads_].bounds;
        std::uint64_t bounds = theirs.load(std::memory_order_relaxed);
        while (begin_of(bounds) < end_of(bounds)) {
            const std::uint32_t begin = begin_of(bounds), end = end_of(bounds);
            const std::uint32_t middle = begin + (end - begin) / 2;
            if (!theirs.compare_exchange_weak(bounds, pack(begin, middle), std::memory_order_relaxed)) continue;
            // No one takes from an empty range, so a plain store is enough.
            ranges_[self].bounds.store(pack(middle, end), std::memory_order_relaxed);
            return true;
        }
    }
    return false;
}

// A thread that comes too late finds the gate closed, and nobody waits for it.
bool Pool::enter() noexcept {
    std::uint32_t gate = gate_.load(std::memory_order_relaxed);
    while (gate & gate_open) {
        if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acquire, std::memory_order_relaxed))
            return true;
    }
    return false;
}

void Pool::leave() noexcept {
    const std::uint32_t before = gate_.fetch_sub(1, std::memory_order_release);
    if (before == (gate_waiting | 1)) futex_wake(gate_, 1);
}

// No index is left to take; those taken by others are done when the last of them has left.
void Pool::close() noexcept {
    gate_.fetch_and(~gate_open, std::memory_order_acquire);
    const auto empty = [&] { return (gate_.load(std::memory_order_acquire) & gate_inside) == 0; };
    if (spin(spin_nanoseconds_, empty)) return;
    std::uint32_t gate = gate_.fetch_or(gate_waiting, std::memory_order_acquire) | gate_waiting;
    while ((gate & gate_inside) != 0) {
        futex_wait(gate_, gate);
        gate = gate_.load(std::memory_order_acquire);
    }
}

}  // namespace fusebn::detail
