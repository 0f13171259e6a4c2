// Batch normalisation layers over a generated library of kernels.
//
//   y = act( gamma * (x - mean) / sqrt(var + eps) + beta )
//
// In training mode mean and var (biased) are those of the batch, one pair a channel, over all other axes; in evaluation
// mode they are the running statistics. Semantics are those of torch.nn.BatchNorm1d, 2d and 3d.
// Ioffe and Szegedy 2015, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
// Shift".
//
// Every refusal is an error code with a sentence; when one is returned, y and the layer's state are as they were (but
// for y where a function given to set_parallel_for threw).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fusebn/parallel.h"
#include "fusebn/tensor.h"
#include "fusebn/types.h"

namespace fusebn {

using KernelTable = fusebn_kernel_table;

// running = (1 - momentum) * running + momentum * batch; `cumulative` averages over all batches seen, evenly
// (momentum = 1 / num_batches_tracked). PyTorch's convention: 0.1 here is 0.9 in ONNX and Keras.
class Momentum {
public:
    Momentum(double value) : value_(value) {}  // NOLINT: {.momentum = 0.1} is how it is written
    static Momentum cumulative() { return Momentum(); }
    bool is_cumulative() const { return cumulative_; }
    double value() const { return value_; }

private:
    Momentum() : cumulative_(true) {}
    double value_ = 0;
    bool cumulative_ = false;
};

struct BatchNormOptions {
    double eps = 1e-5;                // finite, > 0
    Momentum momentum = 0.1;          // in [0, 1]
    bool affine = true;               // false: gamma is 1 and beta 0, always
    bool track_running_stats = true;  // false: evaluation mode uses the batch's statistics too
    Activation activation = Activation::none;
};

// What a layer learns and remembers, by PyTorch's names in its file form (weight, bias, running_mean, running_var,
// num_batches_tracked). Vectors have `features` elements; gamma and beta are empty when not affine, the running
// statistics when not tracked.
struct BatchNormState {
    std::vector<float> gamma, beta, running_mean, running_var;
    std::int64_t num_batches_tracked = 0;
};

class BatchNorm {
public:
    virtual ~BatchNorm();
    BatchNorm(BatchNorm&&) noexcept;
    BatchNorm& operator=(BatchNorm&&) noexcept;

    // Whether construction succeeded: invalid_argument (features, an option), bad_library, out_of_memory. Every other
    // call returns this status when it is not ok. invalid_argument: the layer was moved from.
    const Status& status() const;

    int features() const;
    const BatchNormOptions& options() const;

    // Training mode is where a layer starts, as in PyTorch.
    void train(bool mode = true);
    void eval() { train(false); }
    bool is_training() const;

    // y = act(bn(x)). In training mode also updates the running statistics and keeps the batch's mean and inv_std.
    //   x, y   [features channels], the same layout and extents; y may be exactly x (in place)
    // Fails with: null_pointer, wrong_layout, shape_mismatch, empty_tensor, too_large, unsupported_strides, misaligned,
    // overlap, one_value_per_channel, no_kernel, unsupported_cpu, out_of_memory; with status() where that is not ok
    // (bad_library, for one). y untouched, state unchanged. And with invalid_argument where a function given to
    // set_parallel_for threw: state unchanged, but y incomplete, the one exception to "untouched".
    // In evaluation mode, calls from several threads at once on one layer are safe as long as nobody changes it.
    Status forward(const ConstTensor& x, const Tensor& y);

    // Statistics of the last training batch; empty before the first. inv_std = 1 / sqrt(var + eps), var biased.
    const std::vector<float>& saved_mean() const;
    const std::vector<float>& saved_inv_std() const;

    // The kernel of this thread's last forward call that succeeded, on any layer, e.g.
    // "bn_inference_f32_planar_n32_c64_s3136_relu x86-64-avx2 [vector=8 parallel=rows store=stream]"; "" before the
    // first. "without streaming: y is not aligned" is added where the streaming form could not run. A call that was
    // refused or failed leaves it as it was. That kernel's library must still be loaded.
    static std::string last_kernel();

    const BatchNormState& state() const;
    // invalid_argument: a vector whose size is not what state() has, a negative running_var; unchanged.
    Status set_state(const BatchNormState& state);
    // running_mean 0, running_var 1, num_batches_tracked 0.
    void reset_running_stats();

    // A safetensors file with the tensors of torch.nn.BatchNorm's state_dict under `prefix` ("bn1." gives
    // "bn1.weight").
    // save replaces a file as a whole or not at all, and where `path` is a symbolic link, the file that it names. The
    // file's permissions are a new file's. io_error: also for what is there and no regular file, which stays as it is;
    // and where the new file is in place, but its folder could not be synced. invalid_argument: a prefix that is no
    // UTF-8. out_of_memory.
    // load reads the tensors that this layer has and drops all others: the weight and bias of an affine state in a
    // layer without affine, the running statistics in one that tracks none. The layer is unchanged when it fails:
    // io_error, bad_file, shape_mismatch, out_of_memory.
    Status save(const std::string& path, const std::string& prefix = "") const;
    Status load(const std::string& path, const std::string& prefix = "");

protected:
    BatchNorm(int dimensions, int features, const KernelTable& kernels, const BatchNormOptions& options);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// [B, D] as NC, [B, D, T] as NCL, [B, T, D] as NLC.
class BatchNorm1d : public BatchNorm {
public:
    BatchNorm1d(int features, const KernelTable& kernels, const BatchNormOptions& options = {})
        : BatchNorm(1, features, kernels, options) {}
};

// [B, C, H, W] as NCHW or, channels last, [B, H, W, C] as NHWC.
class BatchNorm2d : public BatchNorm {
public:
    BatchNorm2d(int features, const KernelTable& kernels, const BatchNormOptions& options = {})
        : BatchNorm(2, features, kernels, options) {}
};

// [B, C, D, H, W] as NCDHW or [B, D, H, W, C] as NDHWC.
class BatchNorm3d : public BatchNorm {
public:
    BatchNorm3d(int features, const KernelTable& kernels, const BatchNormOptions& options = {})
        : BatchNorm(3, features, kernels, options) {}
};

}  // namespace fusebn
