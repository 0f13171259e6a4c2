#include "fusebn/parallel.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

#include "context.h"
#include "pool.h"
#include "text.h"
#include "working_memory.h"

namespace fusebn {
namespace detail {
namespace {

// Plain words and pointers without destructors, so that a kernel that runs while the program's statics are being
// destroyed still finds them.
std::atomic<bool> busy{false};  // who sets it may use the pool and change what is below
std::atomic<int> guests{0};     // threads in a loop of their own because the pool is busy
Pool* pool = nullptr;
bool pool_is_gone = false;  // at exit
ParallelFor* users_function = nullptr;
std::atomic<const fusebn_context*> context_in_use{nullptr};
std::atomic<int> thread_count{0};  // 0: not asked yet

thread_local bool in_task = false;
thread_local bool in_users_function = false;  // and in no task: where the function itself is
thread_local IncompleteLoop incomplete_loop{};

int run_inline(const fusebn_context* context, fusebn_task task, std::int32_t min, std::int32_t count,
               std::uint8_t* closure) noexcept {
    int first_error = 0;
    for (std::int32_t i = 0; i < count; ++i) {
        const int code = task(const_cast<fusebn_context*>(context), min + i, closure);
        if (first_error == 0) first_error = code;
    }
    return first_error;
}

// The child of a fork has the forking thread only.
void forget_pool_in_child() {
    if (pool != nullptr && !in_task) {
        pool->forget_threads();
        delete pool;
    }
    pool = nullptr;
    busy.store(false);
    guests.store(0);
}

Pool* started_pool() noexcept {
    if (pool == nullptr && !pool_is_gone) {
        static const bool handler [[maybe_unused]] = pthread_atfork(nullptr, nullptr, forget_pool_in_child) == 0;
        pool = Pool::start(num_threads(), guests).release();
    }
    return pool;
}

int pool_parallel_for(const fusebn_context* context, fusebn_task task, std::int32_t min, std::int32_t count,
                      std::uint8_t* closure) noexcept {
    if (count <= 1 || in_task || num_threads() == 1) return run_inline(context, task, min, count, closure);
    // Another thread's loop has the pool: its CPUs are in use, and waiting would only add to that.
    if (busy.exchange(true, std::memory_order_acquire)) {
        guests.fetch_add(1, std::memory_order_relaxed);
        const int code = run_inline(context, task, min, count, closure);
        guests.fetch_sub(1, std::memory_order_relaxed);
        return code;
    }
    int code = 0;
    if (Pool* const threads = started_pool()) {
        in_task = true;
        code = threads->run(context, task, min, count, closure);
        in_task = false;
        busy.store(false, std::memory_order_release);
    } else {
        busy.store(false, std::memory_order_release);
        code = run_inline(context, task, min, count, closure);
    }
    return code;
}

// So many tasks, and a bit for each, are given to the user's function at once.
constexpr std::int32_t max_users_tasks = 1 << 14;

struct UsersLoop {
    const fusebn_context* context;
    fusebn_task task;
    std::int32_t min, count;
    std::uint8_t* closure;
    std::atomic<int> error{0};
    std::atomic<std::int32_t> outside{0};  // an index that is none of the loop's; 0, which always is one, for none
    // A bit for every index that has been run: a count would take one that is run twice for another that is left out.
    std::atomic<std::uint64_t> done[max_users_tasks / 64]{};
};

void run_one(void* argument, std::int32_t index) {
    UsersLoop& loop = *static_cast<UsersLoop*>(argument);
    if (index < 0 || index >= loop.count) return loop.outside.store(index, std::memory_order_relaxed);
    const bool outer = std::exchange(in_task, true);
    const int code = loop.task(const_cast<fusebn_context*>(loop.context), loop.min + index, loop.closure);
    in_task = outer;
    int none = 0;
    if (code != 0) loop.error.compare_exchange_strong(none, code);
    // Relaxed: what the function waits by orders this as it orders what the task wrote.
    loop.done[index / 64].fetch_or(std::uint64_t{1} << index % 64, std::memory_order_relaxed);
}

int run_users_loop(const ParallelFor& function, UsersLoop& loop) noexcept {
    const bool outer = std::exchange(in_users_function, true);
    bool threw = false;
    try {
        function(loop.count, run_one, &loop);
    } catch (...) {
        threw = true;  // a kernel's C frames are above: nothing may pass through them
    }
    in_users_function = outer;
    if (threw) return loop_threw;
    if (const int code = loop.error.load()) return code;
    IncompleteLoop found{0, loop.count, loop.outside.load(std::memory_order_relaxed)};
    for (std::int32_t i = 0; i < loop.count; i += 64) {
        found.run += __builtin_popcountll(loop.done[i / 64].load(std::memory_order_relaxed));
    }
    if (found.run == found.count && found.outside == 0) return 0;
    incomplete_loop = found;
    return loop_incomplete;
}

int users_parallel_for(const fusebn_context* context, fusebn_task task, std::int32_t min, std::int32_t count,
                       std::uint8_t* closure) noexcept {
    if (count <= 1 || in_task) return run_inline(context, task, min, count, closure);
    int first_error = 0;
    for (std::int32_t done = 0; done < count;) {
        const std::int32_t tasks = std::min(count - done, max_users_tasks);
        UsersLoop loop{context, task, min + done, tasks, closure};
        const int code = run_users_loop(*static_cast<const ParallelFor*>(context->pool), loop);
        if (first_error == 0) first_error = code;
        if (code == loop_threw || code == loop_incomplete) break;
        done += tasks;
    }
    return first_error;
}

const fusebn_context pool_context{pool_parallel_for, nullptr, nullptr, nullptr, nullptr, take_memory, give_memory};
fusebn_context users_context{users_parallel_for, nullptr, nullptr, nullptr, nullptr, take_memory, give_memory};

// Waits for a loop in progress; false from within one, where that would be for ever.
bool take_turn() noexcept {
    if (in_task || in_users_function) return false;
    while (busy.exchange(true, std::memory_order_acquire)) sched_yield();
    return true;
}

void end_turn() noexcept { busy.store(false, std::memory_order_release); }

void stop_pool() noexcept {
    delete pool;
    pool = nullptr;
}

// At exit, or when the shared library that this is part of is closed: no thread may be left in its code.
struct AtExit {
    ~AtExit() {
        drop_memory(true);
        if (!take_turn()) return;
        stop_pool();
        pool_is_gone = true;
        context_in_use.store(nullptr);
        delete users_function;
        users_function = nullptr;
        end_turn();
    }
} at_exit;

int default_thread_count() noexcept {
    const char* const text = std::getenv("FUSEBN_NUM_THREADS");
    if (text == nullptr || *text == '\0') return usable_cpus();
    if (const int count = parse_thread_count(text)) return count;
    std::fprintf(stderr, "fusebn: FUSEBN_NUM_THREADS=%.40s is no number from 1 to %d; ignored\n", text, max_threads);
    return usable_cpus();
}

}  // namespace

const fusebn_context* kernel_context() noexcept {
    const fusebn_context* const context = context_in_use.load(std::memory_order_acquire);
    return context != nullptr ? context : &pool_context;
}

IncompleteLoop last_incomplete_loop() noexcept { return incomplete_loop; }

int parse_thread_count(const char* text) noexcept {
    int count = 0;
    for (; *text != '\0'; ++text) {
        if (*text < '0' || *text > '9' || count > max_threads) return 0;
        count = count * 10 + (*text - '0');
    }
    return count <= max_threads ? count : 0;
}

}  // namespace detail

void set_parallel_for(ParallelFor parallel_for) {
    using namespace detail;
    auto next = parallel_for ? std::make_unique<ParallelFor>(std::move(parallel_for)) : nullptr;
    if (!take_turn()) return;
    stop_pool();
    delete users_function;
    users_function = next.release();
    users_context.pool = users_function;
    context_in_use.store(users_function != nullptr ? &users_context : nullptr, std::memory_order_release);
    end_turn();
}

Status set_num_threads(int count) {
    using namespace detail;
    if (count < 1 || count > max_threads) {
        return Status(ErrorCode::invalid_argument,
                      sentence("count: it is ", count, "; expected a number of threads from 1 to ", max_threads));
    }
    if (!take_turn()) {
        return Status(ErrorCode::invalid_argument,
                      "count: the number of threads cannot change from within a parallel loop or the function given to "
                      "set_parallel_for; set it before");
    }
    if (count != thread_count.load()) {
        stop_pool();
        thread_count.store(count);
    }
    end_turn();
    return Status();
}

int num_threads() {
    using namespace detail;
    int count = thread_count.load(std::memory_order_relaxed);
    if (count != 0) return count;
    static const int initial = default_thread_count();  // once, so that a complaint is printed once
    thread_count.compare_exchange_strong(count, initial);
    return thread_count.load();
}

}  // namespace fusebn
