// What memory holds before anything is timed in it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

#include "measure/workload.h"

namespace fusebn::measure {
namespace {

constexpr std::int64_t line = 16;  // floats

// A processor may write lines of zeros faster than others, and a copy of them would then be no yardstick.
TEST(Buffer, HoldsNumbersInEveryLine) {
    Buffer buffer;
    for (const std::int64_t floats : {line, 1000 * line, 100 * line}) {
        const auto* const x = static_cast<const float*>(buffer.at_least(floats * std::int64_t{sizeof(float)}));
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(x) % 64, 0U);
        EXPECT_TRUE(std::all_of(x, x + floats, [](float v) { return v >= 0.5f && v < 1; }));
        EXPECT_NE(x[0], x[1]);
    }
}

}  // namespace
}  // namespace fusebn::measure
