#include "device/layer_memory.h"

#include <vector>

namespace fusebn::detail {

DeviceLayer::~DeviceLayer() {
    const ContextScope scope(*backend_);
    if (!scope.status().ok()) return;  // the context is gone, and all that was in it
    if (pieces_[0] != 0) backend_->free(pieces_, piece_count);
    mask.release(*backend_);
    spare_mask.release(*backend_);
}

std::size_t DeviceLayer::bytes(Piece piece) const {
    return features_ * (piece >= saved_mean ? sizeof(double) : sizeof(float));
}

Status DeviceLayer::allocate(int features) {
    features_ = static_cast<std::size_t>(features);
    std::size_t sizes[piece_count];
    for (int i = 0; i < piece_count; ++i) sizes[i] = bytes(static_cast<Piece>(i));
    Handle made[piece_count] = {};
    if (Status s = backend_->allocate(sizes, piece_count, made); !s.ok()) return s;
    for (int i = 0; i < piece_count; ++i) pieces_[i] = made[i];
    for (int i = 0; i < piece_count; ++i) {
        if (Status s = fill_zeros(static_cast<Piece>(i)); !s.ok()) return s;
    }
    const std::vector<float> ones(features_, 1.0f);
    if (Status s = upload(gamma, ones.data()); !s.ok()) return s;
    return upload(running_var, ones.data());
}

Status DeviceLayer::upload(Piece piece, const void* from) {
    void* const stream = launcher.stream();
    if (Status s = backend_->refuse_capture(
            stream, "setting the layer's values waits for it; do that before the capture or after it");
        !s.ok()) {
        return s;
    }
    return backend_->upload(stream, pieces_[piece], from, bytes(piece));
}

Status DeviceLayer::download(Piece piece, void* to) {
    void* const stream = launcher.stream();
    if (Status s = backend_->refuse_capture(
            stream, "reading the layer's values waits for it; do that before the capture or after it");
        !s.ok()) {
        return s;
    }
    return backend_->download(stream, to, pieces_[piece], bytes(piece));
}

Status DeviceLayer::fill_zeros(Piece piece) {
    return backend_->fill_zeros(launcher.stream(), pieces_[piece], bytes(piece));
}

}  // namespace fusebn::detail
