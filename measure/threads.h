// Loops of the benchmark's own, beside anything that is timed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

namespace fusebn::measure {

// Calls body(begin, end) for one contiguous part of [0, count) a CPU, all at once.
template <class Body>
void in_parts(std::int64_t count, const Body& body) {
    const std::int64_t parts =
        std::clamp<std::int64_t>(std::thread::hardware_concurrency(), 1, std::max<std::int64_t>(count, 1));
    std::vector<std::thread> threads;
    for (std::int64_t part = 1; part < parts; ++part) {
        threads.emplace_back([&body, count, parts, part] { body(count * part / parts, count * (part + 1) / parts); });
    }
    body(0, count / parts);
    for (std::thread& thread : threads) thread.join();
}

}  // namespace fusebn::measure
