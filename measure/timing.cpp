#include "measure/timing.h"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <random>
#include <thread>

namespace fusebn::measure {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double cpu_seconds() {
    timespec t{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Returns when the process has used next to no CPU time while this thread slept. OpenMP's threads spin for some
// milliseconds after a loop, so the limit is only for a pool that never stops.
void wait_until_idle() {
    const Clock::time_point start = Clock::now();
    while (seconds_since(start) < 0.1) {
        const Clock::time_point nap = Clock::now();
        const double cpu = cpu_seconds();
        std::this_thread::sleep_for(std::chrono::microseconds(300));
        if (cpu_seconds() - cpu < 0.25 * seconds_since(nap)) return;
    }
}

double time_calls(const Contender& contender, int calls) {
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < calls; ++i) contender.run();
    if (contender.finish) contender.finish();
    return 1e3 * seconds_since(start) / calls;
}

// A turn of small tensors is long enough for the clock and for one interruption not to count much.
constexpr double turn_ms = 1.0;
// Calls that say how long one of a queue takes.
constexpr int queued_calls = 16;
// A call of this length does not notice that threads had to be woken, nor what the caches held.
constexpr double long_call_ms = 50;

// A virtual CPU that slept, or that another pool's threads had, can take ten milliseconds and more to come back, and
// the caches as long to fill. Who shares its work out as threads turn up runs on one thread until then, and who does
// not waits: neither is the steady state that a training loop sees. Hence Budget::warm_up_ms.
void warm_up(const Contender& contender, double warm_up_ms) {
    const Clock::time_point start = Clock::now();
    do {
        time_calls(contender, 1);
    } while (1e3 * seconds_since(start) < warm_up_ms);
}

struct Turn {
    int calls = 1;
    bool warm = true;
};

Turn turn_of(const Contender& contender, double warm_up_ms) {
    wait_until_idle();
    warm_up(contender, warm_up_ms);
    double ms = time_calls(contender, 1);
    if (ms > long_call_ms) return {1, false};
    // What waiting for a queue takes is shared by its calls.
    ms = std::min(ms, time_calls(contender, contender.finish ? queued_calls : 1));
    return {std::clamp(static_cast<int>(std::ceil(turn_ms / std::max(ms, 1e-6))), 1, 1000), true};
}

double interpolated(const std::vector<double>& sorted, double fraction) {
    const double position = fraction * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(position);
    const std::size_t above = std::min(below + 1, sorted.size() - 1);
    return std::lerp(sorted[below], sorted[above], position - static_cast<double>(below));
}

}  // namespace

std::vector<Samples> race(const std::vector<Contender>& contenders, const Budget& budget) {
    std::vector<Samples> samples;
    std::vector<Turn> turns;
    for (const Contender& contender : contenders) {
        samples.push_back({contender.name, {}});
        turns.push_back(turn_of(contender, budget.warm_up_ms));
    }
    std::vector<std::size_t> order(contenders.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::mt19937 random(1);

    const Clock::time_point start = Clock::now();
    for (int round = 0; round < budget.max_rounds; ++round) {
        if (round >= budget.min_rounds && seconds_since(start) > budget.seconds) break;
        std::shuffle(order.begin(), order.end(), random);
        for (const std::size_t i : order) {
            wait_until_idle();
            if (turns[i].warm) warm_up(contenders[i], budget.warm_up_ms);
            samples[i].ms.push_back(time_calls(contenders[i], turns[i].calls));
        }
    }
    return samples;
}

Quartiles quartiles(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return {interpolated(values, 0.25), interpolated(values, 0.5), interpolated(values, 0.75)};
}

Quartiles paired_ratio(const Samples& a, const Samples& b) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < a.ms.size(); ++i) ratios.push_back(a.ms[i] / b.ms[i]);
    return quartiles(std::move(ratios));
}

double nanoseconds(const std::function<void()>& run) {
    constexpr int loops = 15, calls = 20000;
    std::vector<double> ns;
    for (int loop = 0; loop < loops; ++loop) ns.push_back(1e6 * time_calls({"", run}, calls));
    return quartiles(std::move(ns)).median;
}

}  // namespace fusebn::measure
