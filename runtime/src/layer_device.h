// A layer's part of a device: its state there, its kernels' working memory, and its calls.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "backend.h"
#include "dispatch.h"
#include "fusebn/batch_norm.h"
#include "fusebn/kernel_abi.h"

namespace fusebn::detail {

// What lies on the device, `features` values each; the last four in f64.
enum class Array {
    gamma,
    beta,
    running_mean,
    running_var,
    grad_gamma,
    grad_beta,
    made_mean,  // f32 results that do not become the layer's, or not as they are
    made_var,
    saved_mean,
    saved_inv_std,
    other_mean,  // f64 values of a call that are not saved
    other_inv_std,
};
// What a kernel's return code says of the call (kernel_call.cpp).
Status outcome(int code, const Choice& choice);

inline constexpr int array_count = 12, f32_arrays = 8;

class LayerDevice {
public:
    // no_device, out_of_memory. Parameters ones and zeros, statistics zeros and ones, gradients zeros.
    static Status open(Device device, int features, std::unique_ptr<LayerDevice>& made);
    ~LayerDevice();
    LayerDevice(const LayerDevice&) = delete;
    LayerDevice& operator=(const LayerDevice&) = delete;

    Backend& backend() const { return *backend_; }
    void* stream = nullptr;

    DevicePointer at(Array array) const { return arrays_[static_cast<std::size_t>(array)]; }
    // For a kernel's arguments: not to be read on the host.
    float* f32(Array array) const { return reinterpret_cast<float*>(at(array)); }
    double* f64(Array array) const { return reinterpret_cast<double*>(at(array)); }
    std::size_t bytes(Array array) const;

    // In the stream's order, done when they return.
    Status upload(Array to, const void* values);
    Status download(void* values, Array from) const;

    // to += from, `features` f32 values.
    Status add(Array to, Array from);
    // other_mean and other_inv_std of the running statistics: 1 / sqrt(var + eps), in f64 as the CPU has it.
    Status make_constants(double eps);
    // What the two above need, loaded now.
    Status prepare_helpers();

    // Memory for a mask of so many elements, a byte each. What was in it is lost where it had to grow.
    Status reserve_mask(std::size_t bytes);
    DevicePointer mask() const { return mask_.memory; }

private:
    friend class DeviceCall;
    struct Piece {
        DevicePointer memory = 0;
        std::size_t bytes = 0;
    };

    LayerDevice(std::shared_ptr<Backend> backend, int features) : backend_(std::move(backend)), features_(features) {}
    // A piece of at least so many bytes. What it was before may be in use by work that is queued, so it is kept.
    Status grow(Piece& piece, std::size_t bytes);
    Status function(const fusebn_device_code* code, const char* name, std::int32_t shared_bytes, void*& function);
    Status run_helper(const char* name, void* const* arguments, const std::uint64_t* sizes,
                      const std::int8_t* is_buffer);
    const fusebn_device_code* helpers() const;

    std::shared_ptr<Backend> backend_;
    int features_;
    std::array<DevicePointer, array_count> arrays_{};
    std::vector<Piece> pieces_;  // by the order in which a kernel asks for them
    Piece mask_;
    std::vector<DevicePointer> retired_;
    std::vector<const fusebn_device_code*> codes_;
};

// One run of a kernel on a device.
class DeviceCall {
public:
    // `dry`: functions are loaded and memory is reserved, nothing is launched.
    explicit DeviceCall(LayerDevice& device, bool dry = false);
    DeviceCall(const DeviceCall&) = delete;
    DeviceCall& operator=(const DeviceCall&) = delete;

    const fusebn_context* context() const { return &context_; }
    // Of the code that the kernel's entry returned.
    Status outcome(int code, const Choice& choice);
    Status outcome_of_dry_run(int code, const Choice& choice);

private:
    static int launch(const fusebn_context* context, const fusebn_device_code* code, const char* function,
                      const std::int32_t* grid, const std::int32_t* block, std::int32_t shared_bytes,
                      const std::uint64_t* sizes, void* const* arguments, const std::int8_t* is_buffer);
    static int allocate(const fusebn_context* context, fusebn_buffer* buffer);

    LayerDevice& device_;
    bool dry_;
    std::size_t next_ = 0;
    Status status_;
    fusebn_context context_;
};

}  // namespace fusebn::detail
