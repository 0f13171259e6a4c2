// What is read at a cache's speed, told from what is not. Speeds in GB/s as they were measured, and as they might be.
#include "measure/usable_cache.h"

#include <gtest/gtest.h>

#include "measure/machine.h"

namespace fusebn::measure {
namespace {

constexpr std::int64_t MB = 1 << 20;

const std::vector<std::int64_t> sizes = {8 * MB, 16 * MB, 32 * MB, 64 * MB, 128 * MB, 256 * MB, 512 * MB, 1024 * MB};

TEST(UsableCache, EndsWhereReadingBecomesSlower) {
    EXPECT_EQ(knee(sizes, {28.1, 28.2, 28.5, 26.4, 16.3, 15.3, 15.4, 15.5}), 64 * MB);
    EXPECT_EQ(knee(sizes, {110, 115, 112, 114, 60, 40, 34, 34}), 64 * MB);
}

TEST(UsableCache, ADisturbedReadingDecidesNothing) {
    EXPECT_EQ(knee(sizes, {28.1, 9.0, 28.5, 26.4, 16.3, 15.3, 7.0, 15.5}), 64 * MB);
    EXPECT_EQ(knee(sizes, {28.1, 28.2, 11.0, 26.4, 16.3, 15.3, 15.4, 3.0}), 64 * MB);
}

TEST(UsableCache, IsNotKnownWhereEverythingIsReadAlike) {
    EXPECT_EQ(knee(sizes, {28, 28, 28, 28, 28, 27, 28, 26}), std::nullopt);
    EXPECT_EQ(knee({8 * MB, 16 * MB, 32 * MB}, {28, 20, 10}), std::nullopt);
}

TEST(UsableCache, IsNeverMoreThanIsStated) {
    Machine machine = this_machine();
    measure_caches(machine);
    EXPECT_GT(machine.l3_usable, 0);
    EXPECT_LE(machine.l3_usable, machine.l3);
    const bool less = machine.l3_usable < machine.l3;
    EXPECT_EQ(to_string(machine).find("usable") != std::string::npos, less) << to_string(machine);
}

}  // namespace
}  // namespace fusebn::measure
