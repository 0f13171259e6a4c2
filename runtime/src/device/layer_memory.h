// What a layer has on its device: its values of one a channel, its mask, and the means to run kernels.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>

#include "device/backend.h"
#include "device/launcher.h"
#include "device/workspace.h"
#include "results.h"

namespace fusebn::detail {

// Addresses of the device are in pointers, as kernels' arguments are; never followed here.
class DeviceLayer {
public:
    explicit DeviceLayer(std::shared_ptr<Backend> backend) : launcher(backend), backend_(std::move(backend)) {}
    ~DeviceLayer();
    DeviceLayer(const DeviceLayer&) = delete;
    DeviceLayer& operator=(const DeviceLayer&) = delete;

    // Gradients are zeros, and what a layer without parameters or running statistics uses in their place is there too:
    // gamma and var ones, beta and mean zeros.
    Status allocate(int features);

    Backend& backend() const { return *backend_; }
    Parameters parameters() const { return {f32(gamma), f32(beta), f32(running_mean), f32(running_var)}; }

    enum Piece {
        gamma,
        beta,
        running_mean,
        running_var,
        grad_gamma,
        grad_beta,
        spare_dgamma,  // what nobody is to have
        spare_dbeta,
        saved_mean,  // from here on f64
        saved_inv_std,
        spare_mean,  // of running statistics, as backward takes them; of a batch, where nobody is to have it
        spare_inv_std,
        piece_count
    };
    float* f32(Piece piece) const { return pointer<float>(pieces_[piece]); }
    double* f64(Piece piece) const { return pointer<double>(pieces_[piece]); }
    template <class T>
    static T* pointer(Handle handle) {
        return reinterpret_cast<T*>(static_cast<std::uintptr_t>(handle));
    }

    // Wait for the layer's stream. launch_failed while it is captured.
    Status upload(Piece piece, const void* from);
    Status download(Piece piece, void* to);
    Status fill_zeros(Piece piece);

    Launcher launcher;
    GrowingPiece mask, spare_mask;
    bool has_saved = false;  // saved_mean and saved_inv_std are a batch's
    // Calls of one layer may come from several threads in evaluation mode: each queues its launches at a stretch.
    std::mutex busy;

private:
    std::size_t bytes(Piece piece) const;

    std::shared_ptr<Backend> backend_;
    std::size_t features_ = 0;
    Handle pieces_[piece_count] = {};
};

}  // namespace fusebn::detail
