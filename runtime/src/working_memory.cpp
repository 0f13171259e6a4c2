#include "working_memory.h"

#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <limits>

namespace fusebn::detail {
namespace {

// Before a block, which stays on a cache line.
struct alignas(64) Header {
    std::uint64_t bytes;  // of the block behind it
};

// A kernel with two branches has some twenty at once.
constexpr int slots = 32;

// Plain words and pointers without destructors, as in parallel.cpp.
std::atomic_flag in_use = ATOMIC_FLAG_INIT;
Header* kept[slots] = {};  // free blocks; null: an empty slot
std::uint64_t kept_now = 0;
bool keeps = true;

// Where a turn is had at once.
class Turn {
public:
    Turn() noexcept : mine_(!in_use.test_and_set(std::memory_order_acquire)) {}
    ~Turn() {
        if (mine_) in_use.clear(std::memory_order_release);
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    explicit operator bool() const noexcept { return mine_; }

private:
    bool mine_;
};

// The smallest block that is large enough.
Header* take_kept(std::uint64_t bytes) noexcept {
    const Turn turn;
    if (!turn) return nullptr;
    Header** best = nullptr;
    for (Header*& block : kept) {
        if (block != nullptr && block->bytes >= bytes && (best == nullptr || block->bytes < (*best)->bytes))
            best = &block;
    }
    if (best == nullptr) return nullptr;
    Header* const found = *best;
    *best = nullptr;
    kept_now -= found->bytes;
    return found;
}

// Whether a block can be kept, be it in the place of smaller ones.
bool has_room(const Header* block) noexcept {
    std::uint64_t larger = 0;
    bool slot = false;
    for (const Header* other : kept) {
        if (other != nullptr && other->bytes >= block->bytes) {
            larger += other->bytes;
        } else {
            slot = true;
        }
    }
    return slot && larger + block->bytes <= most_kept_bytes;
}

// Keeps a block, or frees it. Smaller ones, the smallest first, make room for it where there is none.
void keep(Header* block) noexcept {
    if (const Turn turn; turn && keeps && has_room(block)) {
        // A fork may come in the middle of another thread's turn.
        static const bool handler [[maybe_unused]] = pthread_atfork(nullptr, nullptr, forget_memory_in_child) == 0;
        for (;;) {
            Header** empty = nullptr;
            Header** smallest = nullptr;
            for (Header*& other : kept) {
                if (other == nullptr) {
                    empty = &other;
                } else if (smallest == nullptr || other->bytes < (*smallest)->bytes) {
                    smallest = &other;
                }
            }
            if (empty != nullptr && kept_now + block->bytes <= most_kept_bytes) {
                *empty = block;
                kept_now += block->bytes;
                return;
            }
            kept_now -= (*smallest)->bytes;
            std::free(*smallest);
            *smallest = nullptr;
        }
    }
    std::free(block);
}

}  // namespace

void* take_memory(const fusebn_context*, std::uint64_t bytes) noexcept {
    Header* block = take_kept(bytes);
    if (block == nullptr) {
        if (bytes > std::numeric_limits<std::size_t>::max() - sizeof(Header)) return nullptr;
        block = static_cast<Header*>(std::aligned_alloc(alignof(Header), sizeof(Header) + bytes));
        if (block == nullptr) return nullptr;
        block->bytes = bytes;
    }
    return block + 1;
}

void give_memory(const fusebn_context*, void* memory) noexcept {
    if (memory != nullptr) keep(static_cast<Header*>(memory) - 1);
}

std::uint64_t kept_bytes() noexcept {
    const Turn turn;
    return turn ? kept_now : 0;
}

void forget_memory_in_child() noexcept {
    if (in_use.test_and_set()) {
        for (Header*& block : kept) block = nullptr;
        kept_now = 0;
    }
    in_use.clear();
}

void drop_memory(bool for_good) noexcept {
    const Turn turn;
    if (!turn) return;
    for (Header*& block : kept) {
        std::free(block);
        block = nullptr;
    }
    kept_now = 0;
    keeps = !for_good;
}

}  // namespace fusebn::detail
