// What kernels work in, kept from call to call.
#include "working_memory.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

namespace fusebn::detail {
namespace {

class WorkingMemory : public testing::Test {
protected:
    void SetUp() override { drop_memory(false); }
    void TearDown() override { drop_memory(false); }

    static void* take(std::uint64_t bytes) {
        void* const memory = take_memory(nullptr, bytes);
        EXPECT_NE(memory, nullptr) << bytes;
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % 64, 0u) << bytes;
        if (memory != nullptr) std::memset(memory, 0xa5, bytes);
        return memory;
    }
    static void give(void* memory) { give_memory(nullptr, memory); }
};

TEST_F(WorkingMemory, IsTheSameAtTheNextCall) {
    void* const first = take(192 << 10);
    void* const second = take(64);
    EXPECT_EQ(kept_bytes(), 0u) << "of what is in use";
    give(first);
    give(second);
    EXPECT_EQ(kept_bytes(), (192u << 10) + 64);
    EXPECT_EQ(take(64), second) << "the smallest that is large enough";
    EXPECT_EQ(take(100 << 10), first);
    EXPECT_EQ(kept_bytes(), 0u);
    give(first);
    give(second);
    void* const larger = take(256 << 10);
    EXPECT_NE(larger, first);
    give(larger);
    give(nullptr);
}

TEST_F(WorkingMemory, IsKeptUpToALimit) {
    std::vector<void*> blocks;
    for (int i = 0; i < 20; ++i) blocks.push_back(take(1 << 20));
    for (void* block : blocks) give(block);
    EXPECT_EQ(kept_bytes(), most_kept_bytes);
    void* const larger = take(3 << 20);
    give(larger);
    EXPECT_EQ(kept_bytes(), most_kept_bytes) << "three made room";
    EXPECT_EQ(take(2 << 20), larger);
    EXPECT_EQ(kept_bytes(), most_kept_bytes - (3 << 20));
    give(larger);
    drop_memory(false);
    give(take(most_kept_bytes + 64));
    EXPECT_EQ(kept_bytes(), 0u);
    // However many there are, and the large ones of them.
    blocks.clear();
    for (int i = 1; i <= 100; ++i) blocks.push_back(take(static_cast<std::uint64_t>(i) * 64));
    for (void* block : blocks) give(block);
    std::uint64_t largest = 0;
    for (std::uint64_t i = 69; i <= 100; ++i) largest += i * 64;
    EXPECT_EQ(kept_bytes(), largest);
}

TEST_F(WorkingMemory, ThatCannotBeHadIsNull) {
    EXPECT_EQ(take_memory(nullptr, std::uint64_t{1} << 60), nullptr);
    EXPECT_EQ(take_memory(nullptr, std::numeric_limits<std::uint64_t>::max() - 63), nullptr);
}

TEST_F(WorkingMemory, IsNotKeptOnceItIsDroppedForGood) {
    give(take(4096));
    void* const in_use = take(8192);
    drop_memory(true);
    EXPECT_EQ(kept_bytes(), 0u);
    give(in_use);
    give(take(64));
    EXPECT_EQ(kept_bytes(), 0u);
}

TEST_F(WorkingMemory, OfSmallerBlocksStaysWhereTheyWouldNotMakeRoom) {
    std::vector<void*> blocks;
    for (const int kilobytes : {14 << 10, 1 << 10, 512}) blocks.push_back(take(std::uint64_t{1024} * kilobytes));
    for (void* block : blocks) give(block);
    const std::uint64_t before = kept_bytes();
    EXPECT_GT(before, 15u << 20);
    blocks = {take(15 << 20)};
    give(blocks[0]);
    EXPECT_EQ(kept_bytes(), 15u << 20) << "in the place of all";
    drop_memory(false);
    blocks = {take(14 << 20), take(1 << 20), take(3 << 20)};
    for (void* block : blocks) give(block);
    EXPECT_EQ(kept_bytes(), 15u << 20) << "without the last";
}

// Of a parent of which another thread may be in the middle of its turn.
TEST_F(WorkingMemory, IsKeptInTheChildOfAFork) {
    give(take(4096));
    std::atomic<bool> stop{false};
    std::thread other([&] {
        while (!stop) give_memory(nullptr, take_memory(nullptr, 128));
    });
    for (int i = 0; i < 50; ++i) {
        const pid_t child = fork();
        if (child == 0) {
            give_memory(nullptr, take_memory(nullptr, 64));
            _exit(kept_bytes() > 0 ? 0 : 1);
        }
        int status = 0;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << i << ": " << status;
    }
    stop = true;
    other.join();
}

TEST_F(WorkingMemory, IsNeverGivenToTwo) {
    std::atomic<int> wrong{0};
    const auto work = [&](unsigned char mine) {
        for (int i = 0; i < 20000; ++i) {
            const std::size_t bytes = static_cast<std::size_t>(i % 7 + 1) * 64;
            auto* const memory = static_cast<unsigned char*>(take_memory(nullptr, bytes));
            std::memset(memory, mine, bytes);
            for (std::size_t at = 0; at < bytes; ++at) wrong += memory[at] != mine;
            give_memory(nullptr, memory);
        }
    };
    std::vector<std::thread> threads;
    for (unsigned char i = 1; i <= 4; ++i) threads.emplace_back(work, i);
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong.load(), 0);
    EXPECT_LE(kept_bytes(), 7 * 64 * 32u);
}

}  // namespace
}  // namespace fusebn::detail
