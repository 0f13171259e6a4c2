#include "working_memory.h"

#include <algorithm>
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

std::uint64_t bytes_of(const Header* block) noexcept { return block != nullptr ? block->bytes : 0; }

// The smallest block that is large enough.
Header* take_kept(std::uint64_t bytes) noexcept {
    const Turn turn;
    if (!turn) return nullptr;
    Header** best = nullptr;
    for (Header*& block : kept) {
        if (bytes_of(block) >= bytes && (best == nullptr || block->bytes < (*best)->bytes)) best = &block;
    }
    if (best == nullptr) return nullptr;
    Header* const found = *best;
    *best = nullptr;
    kept_now -= found->bytes;
    return found;
}

// Puts a block in the place of an empty slot or of the smallest block, which is then to be freed, as the block is where
// it is not kept.
Header* keep(Header* block) noexcept {
    const Turn turn;
    if (!turn || !keeps) return block;
    Header*& slot = *std::min_element(std::begin(kept), std::end(kept),
                                      [](const Header* a, const Header* b) { return bytes_of(a) < bytes_of(b); });
    const std::uint64_t others = kept_now - bytes_of(slot);
    if (bytes_of(slot) >= block->bytes || others + block->bytes > most_kept_bytes) return block;
    Header* const smallest = slot;
    slot = block;
    kept_now = others + block->bytes;
    return smallest;
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
    if (memory != nullptr) std::free(keep(static_cast<Header*>(memory) - 1));
}

std::uint64_t kept_bytes() noexcept {
    const Turn turn;
    return turn ? kept_now : 0;
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
