#include "measure/usable_cache.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include "measure/copy.h"

namespace fusebn::measure {
namespace {

// Seconds of reading so many bytes once more: the fastest of some.
double seconds_of(const std::function<void()>& read) {
    using Clock = std::chrono::steady_clock;
    double fastest = std::numeric_limits<double>::infinity();
    read();
    const auto start = Clock::now();
    for (int i = 0; i < 5 || (i < 50 && Clock::now() - start < std::chrono::milliseconds(20)); ++i) {
        const auto before = Clock::now();
        read();
        fastest = std::min(fastest, std::chrono::duration<double>(Clock::now() - before).count());
    }
    return fastest;
}

std::int64_t measure_usable_l3(const Machine& machine) {
    // From what no L2 cache holds, two steps to the double, to eight times the stated L3 cache: the last three are more
    // than four times it, or, of a very large one, 512 MB and more.
    const std::int64_t most = std::min(8 * machine.l3, std::int64_t{1} << 30);
    std::vector<std::int64_t> sizes;
    for (std::int64_t bytes = 2 * machine.l2 * machine.threads; bytes <= most; bytes *= 2) {
        sizes.push_back(bytes);
        if (bytes + bytes / 2 <= most) sizes.push_back(bytes + bytes / 2);
    }
    if (sizes.empty()) return machine.l3;
    const std::vector<float> tensor(static_cast<std::size_t>(sizes.back()) / sizeof(float));
    std::vector<double> speeds(sizes.size());
    for (int round = 0; round < 3; ++round) {
        for (std::size_t i = 0; i < sizes.size(); ++i) {
            const double speed = static_cast<double>(sizes[i]) / seconds_of(make_read(tensor.data(), sizes[i]));
            speeds[i] = std::max(speeds[i], speed);
        }
    }
    return std::min(machine.l3, knee(sizes, speeds).value_or(machine.l3));
}

}  // namespace

std::optional<std::int64_t> knee(const std::vector<std::int64_t>& sizes, const std::vector<double>& speeds) {
    // What disturbs a reading makes it slower, so the fastest of three is nearest to what the memory can do.
    const std::size_t n = speeds.size();
    if (n < 4) return std::nullopt;
    const double near = std::max({speeds[0], speeds[1], speeds[2]});
    const double far = std::max({speeds[n - 1], speeds[n - 2], speeds[n - 3]});
    constexpr double told_apart = 1.25;
    if (near < told_apart * far) return std::nullopt;
    const double between = std::sqrt(near * far);
    std::size_t last = 0;
    for (std::size_t i = 0; i < n; ++i) {
        if (speeds[i] >= between) last = i;
    }
    return sizes[last];
}

std::int64_t usable_l3(const Machine& machine) {
    static const std::int64_t usable = measure_usable_l3(machine);
    return usable;
}

}  // namespace fusebn::measure
