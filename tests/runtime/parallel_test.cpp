// The pool, and loops that run on the caller's own.
#include "fusebn/parallel.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>

#include "context.h"
#include "fake_library.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__SANITIZE_THREAD__)
#define FUSEBN_TEST_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FUSEBN_TEST_TSAN 1
#endif
#endif

namespace fusebn::test {
namespace {

template <class Body>
int loop(std::int32_t min, std::int32_t count, const Body& body) {
    const fusebn_context* context = detail::kernel_context();
    const auto task = [](void* given, std::int32_t index, std::uint8_t* closure) -> int {
        EXPECT_NE(given, nullptr);
        return (*reinterpret_cast<const Body*>(closure))(index);
    };
    return context->parallel_for(context, task, min, count, reinterpret_cast<std::uint8_t*>(const_cast<Body*>(&body)));
}

// Every index of [min, min + count) once, and no other.
void expect_each_once(std::int32_t min, std::int32_t count) {
    std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count) + 2);
    EXPECT_EQ(loop(min, count,
                   [&](std::int32_t i) {
                       seen[static_cast<std::size_t>(i - min + 1)].fetch_add(1);
                       return 0;
                   }),
              0);
    for (std::int32_t i = 0; i < count + 2; ++i) {
        EXPECT_EQ(seen[static_cast<std::size_t>(i)].load(), i == 0 || i == count + 1 ? 0 : 1) << i;
    }
}

class Parallel : public testing::Test {
protected:
    int threads_before_ = num_threads();
    ~Parallel() override {
        set_parallel_for({});
        EXPECT_TRUE(set_num_threads(threads_before_).ok());
    }
};

TEST_F(Parallel, RunsEveryIndexOnce) {
    for (const int threads : {1, 2, 3, 8}) {
        ASSERT_TRUE(set_num_threads(threads).ok());
        for (const std::int32_t count : {0, 1, 2, 3, 1000}) {
            for (const std::int32_t min : {0, 7, -3}) {
                for (int repeat = 0; repeat < 20; ++repeat) expect_each_once(min, count);
            }
        }
    }
}

TEST_F(Parallel, RunsManyShortLoops) {
    for (const int threads : {2, 4}) {
        ASSERT_TRUE(set_num_threads(threads).ok());
        std::atomic<std::int64_t> sum{0};
        for (int i = 0; i < 5000; ++i) {
            loop(0, 5, [&](std::int32_t index) {
                sum.fetch_add(index, std::memory_order_relaxed);
                return 0;
            });
        }
        EXPECT_EQ(sum.load(), 5000 * 10);
    }
}

TEST_F(Parallel, UsesTheThreadsAndWakesThemAfterAPause) {
    ASSERT_TRUE(set_num_threads(3).ok());
    for (int round = 0; round < 3; ++round) {
        std::mutex mutex;
        std::set<std::thread::id> ids;
        loop(0, 3, [&](std::int32_t) {
            {
                const std::lock_guard<std::mutex> lock(mutex);
                ids.insert(std::this_thread::get_id());
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            return 0;
        });
        EXPECT_EQ(ids.size(), 3u);
        std::this_thread::sleep_for(std::chrono::milliseconds(2));  // long enough for them to fall asleep
    }
}

TEST_F(Parallel, TakesOverWhatASlowThreadHasLeft) {
    ASSERT_TRUE(set_num_threads(2).ok());
    std::atomic<int> others{0};
    EXPECT_EQ(loop(0, 100,
                   [&](std::int32_t index) {
                       if (index != 0) {
                           others.fetch_add(1);
                           return 0;
                       }
                       // The first index of the caller's own range returns only when all the others have been run.
                       for (int wait = 0; wait < 5000 && others.load() < 99; ++wait) {
                           std::this_thread::sleep_for(std::chrono::milliseconds(1));
                       }
                       return others.load() == 99 ? 0 : 1;
                   }),
              0);
}

TEST_F(Parallel, RunsLoopsWithinALoop) {
    for (const int threads : {1, 2, 4}) {
        ASSERT_TRUE(set_num_threads(threads).ok());
        std::atomic<int> runs{0};
        loop(0, 10, [&](std::int32_t) { return loop(0, 10, [&](std::int32_t) { return runs.fetch_add(1) < 0; }); });
        EXPECT_EQ(runs.load(), 100);
    }
}

TEST_F(Parallel, ServesSeveralCallersAtOnce) {
    ASSERT_TRUE(set_num_threads(3).ok());
    std::vector<std::thread> callers;
    std::atomic<std::int64_t> sum{0};
    for (int caller = 0; caller < 3; ++caller) {
        callers.emplace_back([&] {
            for (int i = 0; i < 300; ++i) {
                loop(0, 17, [&](std::int32_t index) {
                    sum.fetch_add(index);
                    return 0;
                });
            }
        });
    }
    for (std::thread& caller : callers) caller.join();
    EXPECT_EQ(sum.load(), 3 * 300 * 136);
}

// Three threads on two CPUs would have one of them wait for another that waits for a CPU.
TEST_F(Parallel, LeavesTheCpuToAnotherCaller) {
    ASSERT_TRUE(set_num_threads(2).ok());
    expect_each_once(0, 100);
    std::atomic<bool> begun{false}, guest_is_in{false}, done{false};
    const auto wait_for = [](const std::atomic<bool>& flag) {
        for (int wait = 0; wait < 5000 && !flag.load(); ++wait)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return flag.load() ? 0 : 1;
    };
    std::thread guest([&] {
        EXPECT_EQ(wait_for(begun), 0);
        EXPECT_EQ(loop(0, 2,
                       [&](std::int32_t) {
                           guest_is_in.store(true);
                           return wait_for(done);
                       }),
                  0);
    });
    const std::thread::id caller = std::this_thread::get_id();
    std::vector<std::atomic<int>> runs(50);
    std::atomic<int> by_the_pool{0};
    EXPECT_EQ(loop(0, 50,
                   [&](std::int32_t index) {
                       runs[static_cast<std::size_t>(index)].fetch_add(1);
                       if (index == 0) {
                           begun.store(true);
                           return wait_for(guest_is_in);
                       }
                       if (std::this_thread::get_id() != caller && guest_is_in.load()) by_the_pool.fetch_add(1);
                       std::this_thread::sleep_for(std::chrono::milliseconds(1));
                       return 0;
                   }),
              0);
    done.store(true);
    guest.join();
    EXPECT_LE(by_the_pool.load(), 1);  // one that had been taken before
    for (const std::atomic<int>& count : runs) EXPECT_EQ(count.load(), 1);
    expect_each_once(0, 100);
}

TEST_F(Parallel, ReturnsATasksErrorAndRunsTheOthers) {
    for (const int threads : {1, 3}) {
        ASSERT_TRUE(set_num_threads(threads).ok());
        std::atomic<int> runs{0};
        EXPECT_EQ(loop(0, 50,
                       [&](std::int32_t index) {
                           runs.fetch_add(1);
                           return index == 31 ? -11 : 0;
                       }),
                  -11);
        EXPECT_EQ(runs.load(), 50);
        expect_each_once(0, 50);
    }
}

TEST_F(Parallel, StartsAfreshInTheChildOfAFork) {
#ifdef FUSEBN_TEST_TSAN
    GTEST_SKIP() << "the thread sanitizer does not let a forked child start threads";
#endif
    ASSERT_TRUE(set_num_threads(3).ok());
    expect_each_once(0, 100);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        alarm(20);
        std::atomic<int> runs{0};
        for (int i = 0; i < 10; ++i) loop(0, 100, [&](std::int32_t) { return runs.fetch_add(1) < 0; });
        const bool changed = set_num_threads(2).ok();
        loop(0, 100, [&](std::int32_t) { return runs.fetch_add(1) < 0; });
        _exit(changed && runs.load() == 1100 ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    expect_each_once(0, 100);
}

TEST_F(Parallel, RefusesImpossibleNumbersOfThreads) {
    ASSERT_TRUE(set_num_threads(2).ok());
    for (const int count : {0, -1, 1025, -2147483647}) {
        EXPECT_EQ(set_num_threads(count).code(), ErrorCode::invalid_argument);
        EXPECT_EQ(num_threads(), 2);
    }
    EXPECT_EQ(detail::parse_thread_count("3"), 3);
    EXPECT_EQ(detail::parse_thread_count("1024"), 1024);
    for (const char* bad : {"0", "-1", "1025", "2x", " 2", "", "99999999999999999999", "two"}) {
        EXPECT_EQ(detail::parse_thread_count(bad), 0) << bad;
    }
}

TEST_F(Parallel, RefusesChangesFromWithinALoop) {
    ASSERT_TRUE(set_num_threads(1).ok());
    set_parallel_for([](std::int32_t count, void (*body)(void*, std::int32_t), void* arg) {
        for (std::int32_t i = 0; i < count; ++i) body(arg, i);
    });
    loop(0, 2, [&](std::int32_t) {
        EXPECT_EQ(set_num_threads(2).code(), ErrorCode::invalid_argument);
        return 0;
    });
    EXPECT_EQ(num_threads(), 1);
}

TEST_F(Parallel, RunsOnTheCallersOwnPool) {
    int loops = 0;
    set_parallel_for([&loops](std::int32_t count, auto body, void* arg) {
        ++loops;
        std::thread other([&] {
            for (std::int32_t i = 0; i < count; i += 2) body(arg, i);
        });
        for (std::int32_t i = 1; i < count; i += 2) body(arg, i);
        other.join();
    });
    for (const std::int32_t count : {0, 1, 2, 3, 1000}) expect_each_once(5, count);
    EXPECT_EQ(loops, 3) << "nothing to share in loops of 0 and 1";
    EXPECT_EQ(loop(0, 10, [](std::int32_t i) { return i == 4 ? 5 : 0; }), 5);
    loop(0, 4, [](std::int32_t) { return loop(0, 4, [](std::int32_t) { return 0; }); });
    EXPECT_EQ(loops, 5) << "a loop within a loop is not shared again";
    set_parallel_for({});
    expect_each_once(0, 100);
    EXPECT_EQ(loops, 5);
}

TEST_F(Parallel, TurnsAnExceptionOfTheCallersPoolIntoAnError) {
    FakeLibrary library = generic_library();
    BatchNorm1d layer(2, library.table());
    const std::vector<float> x = noise(10);
    std::vector<float> y(10);
    BatchNorm1d evaluated(2, library.table());
    evaluated.eval();
    ASSERT_TRUE(evaluated.forward(tensor(x.data(), Layout::NC, {5, 2}), tensor(y.data(), Layout::NC, {5, 2})).ok());
    set_parallel_for([](std::int32_t, auto, void*) { throw std::runtime_error("no threads today"); });
    const Status s = layer.forward(tensor(x.data(), Layout::NC, {5, 2}), tensor(y.data(), Layout::NC, {5, 2}));
    EXPECT_EQ(s.code(), ErrorCode::invalid_argument);
    EXPECT_NE(s.message().find("set_parallel_for threw"), std::string::npos) << s.message();
    EXPECT_EQ(layer.state().num_batches_tracked, 0);
    EXPECT_TRUE(layer.saved_mean().empty());
    EXPECT_EQ(BatchNorm::last_kernel().rfind("bn_inference", 0), 0u) << "a call that failed leaves it";
}

#if defined(__x86_64__)
TEST_F(Parallel, LeavesTheCallersFloatModeAndGivesItToEveryIndex) {
    ASSERT_TRUE(set_num_threads(2).ok());
    constexpr unsigned flush_to_zero = 0x8040, control = 0xffc0;
    const unsigned before = _mm_getcsr();
    for (const unsigned mode : {before | flush_to_zero, before & ~flush_to_zero, before | 0x6000u}) {
        _mm_setcsr(mode);
        std::atomic<int> started{0}, different{0};
        loop(0, 2, [&](std::int32_t) {
            // Neither is done before the other has begun, so that both threads have one.
            started.fetch_add(1);
            for (int wait = 0; wait < 5000 && started.load() < 2; ++wait) {
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
            if ((_mm_getcsr() & control) != (mode & control)) different.fetch_add(1);
            return 0;
        });
        const unsigned after = _mm_getcsr();
        _mm_setcsr(before);
        EXPECT_EQ(after & control, mode & control);
        EXPECT_EQ(different.load(), 0);
    }
}
#endif

}  // namespace
}  // namespace fusebn::test
