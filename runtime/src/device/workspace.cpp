#include "device/workspace.h"

#include <algorithm>
#include <limits>

#include "text.h"

namespace fusebn::detail {

Status GrowingPiece::reserve(Backend& backend, void* stream, std::size_t bytes) {
    if (bytes <= size_) return Status();
    if (Status s = backend.refuse_capture(
            stream, sentence("the call needs ", bytes, " bytes where it has ", size_,
                             ", which cannot be had meanwhile; call prepare() for this shape before the capture"));
        !s.ok()) {
        return s;
    }
    const std::size_t more = size_ < std::numeric_limits<std::size_t>::max() / 2 ? size_ + size_ / 2 : size_;
    const std::size_t size = std::max(bytes, more);
    all_.reserve(all_.size() + 1);  // so that nothing throws once there is the memory
    Handle piece = 0;
    if (Status s = backend.allocate(&size, 1, &piece); !s.ok()) return s;
    if (backend.frees_after_use()) release(backend);
    all_.push_back(piece);
    size_ = size;
    return Status();
}

void GrowingPiece::release(Backend& backend) noexcept {
    for (const Handle piece : all_) backend.free(&piece, 1);
    all_.clear();
    size_ = 0;
}

Status Workspace::take(Backend& backend, void* stream, std::size_t bytes, Handle& piece) {
    if (next_ == pieces_.size()) pieces_.emplace_back();
    GrowingPiece& next = pieces_[next_];
    // A piece of nothing has an address too: kernels' code takes none for one that it has to ask for.
    if (Status s = next.reserve(backend, stream, std::max<std::size_t>(bytes, 1)); !s.ok()) return s;
    piece = next.handle();
    ++next_;
    return Status();
}

void Workspace::release(Backend& backend) noexcept {
    for (GrowingPiece& piece : pieces_) piece.release(backend);
    pieces_.clear();
    next_ = 0;
}

}  // namespace fusebn::detail
