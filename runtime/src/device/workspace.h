// Device memory that grows, for what a layer's kernels work in and keep.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "device/backend.h"

namespace fusebn::detail {

// One piece. What was in it is lost where it has to grow. Where the backend cannot free what is in use, the pieces
// before stay until the object goes: each is half as large again as the one before at least, so they are bounded.
class GrowingPiece {
public:
    GrowingPiece() = default;
    GrowingPiece(const GrowingPiece&) = delete;
    GrowingPiece& operator=(const GrowingPiece&) = delete;
    GrowingPiece(GrowingPiece&& other) noexcept : all_(std::move(other.all_)), size_(std::exchange(other.size_, 0)) {}
    GrowingPiece& operator=(GrowingPiece&& other) noexcept {
        std::swap(all_, other.all_);
        std::swap(size_, other.size_);
        return *this;
    }

    std::size_t size() const { return size_; }
    Handle handle() const { return all_.empty() ? 0 : all_.back(); }
    // out_of_memory, and launch_failed while `stream` is captured: unchanged.
    Status reserve(Backend& backend, void* stream, std::size_t bytes);
    void release(Backend& backend) noexcept;

private:
    std::vector<Handle> all_;  // the last is in use
    std::size_t size_ = 0;
};

// The pieces that a kernel asks for while it runs, which it asks for in the same order every time. All work of a layer
// is on one stream, so a call takes the same pieces as the one before.
class Workspace {
public:
    void start_again() { next_ = 0; }
    Status take(Backend& backend, void* stream, std::size_t bytes, Handle& piece);
    void release(Backend& backend) noexcept;

private:
    std::vector<GrowingPiece> pieces_;
    std::size_t next_ = 0;
};

}  // namespace fusebn::detail
