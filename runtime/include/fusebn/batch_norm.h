// Batch normalisation layers over a generated library of kernels.
//
//   y = act( gamma * (x - mean) / sqrt(var + eps) + beta  [+ residual] )
//
// In training mode mean and var (biased) are those of the batch, one pair a channel, over all other axes; in evaluation
// mode they are the running statistics. Semantics are those of torch.nn.BatchNorm1d, 2d and 3d.
// Ioffe and Szegedy 2015, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
// Shift".
//
// Every refusal is an error code with a sentence; when one is returned, the outputs and the layer's state are as they
// were (but for the outputs where a function given to set_parallel_for threw or left out tasks; see parallel.h).
//
// On a device (BatchNormOptions::device) a layer takes tensors of the device's memory and is the same layer: the same
// calls, bits, state and files. What is different:
//
//   calls        Return when they are queued on the layer's stream (set_stream), in the order that they came. What goes
//                wrong on the device afterwards a later call says (launch_failed). The layer, its library and the
//                tensors must stay until the stream is done with them, and as long as a captured graph is replayed.
//   memory       Calls load code and allocate when they meet something for the first time; prepare() does that ahead.
//                Working memory and masks grow only, and go with the layer. Masks are a byte an element.
//   capture      After prepare() forward and backward may be captured into a CUDA graph: they queue launches and
//                nothing else. Replays go on from the state that the one before left, but num_batches_tracked counts
//                the capture as one, and cumulative momentum is refused (launch_failed). No layer may be made or go
//                while a stream is captured.
//   state        It is on the device. state(), grad_gamma(), grad_beta(), saved_mean() and saved_inv_std() copy it when
//                they are called, after all that is queued: they wait for the stream, change what the last call of them
//                returned, and are no calls for several threads at once. What cannot be copied is NaN; read_state() and
//                save() say why. set_state(), load() and reset_running_stats() wait too.
//   diagnostics  Where somebody listens, a training call waits, for what drift is measured by; not while it is
//                captured, when drift is not measured.
//   failures     Where the driver refuses a launch, what was queued before it runs all the same: outputs, gradients and
//                running statistics of that call may be incomplete. A call without a status (zero_grad,
//                reset_running_stats) that fails is told of by the next forward or backward.
//   context      CUDA: the thread's current context when the layer is made, if it is of that device, else the device's
//                primary one; calls make it current for their time. OpenCL: that of opencl_context().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fusebn/device.h"
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

// The factor of the batch's variance in the running one: n / (n - 1) (PyTorch, TensorFlow) or 1 (ONNX).
enum class RunningVariance { unbiased, biased };

struct BatchNormOptions {
    double eps = 1e-5;                // finite, > 0
    Momentum momentum = 0.1;          // in [0, 1]
    bool affine = true;               // false: gamma is 1 and beta 0, always
    bool track_running_stats = true;  // false: evaluation mode uses the batch's statistics too
    Activation activation = Activation::none;
    double slope = 0.01;  // leaky_relu's, of values below zero; finite, rounded to f32
    RunningVariance running_variance = RunningVariance::unbiased;
    Device device = {};  // where the tensors are, and where the kernels run; see above
};

// What becomes of a parameter's gradient: not touched, set, or added to.
enum class Gradient { skip, overwrite, accumulate };

struct BackwardOptions {
    Gradient gamma = Gradient::overwrite, beta = Gradient::overwrite;
    // What was added in the forward call; for backward_add alone (invalid_argument in others). Only silu and hardswish
    // need it: relu, relu6 and leaky_relu keep a bit an element, and without an activation there is nothing to know.
    ConstTensor residual;
};

// What a layer learns and remembers, by PyTorch's names in its file form (weight, bias, running_mean, running_var,
// num_batches_tracked). Vectors have `features` elements; gamma and beta are empty when not affine, the running
// statistics when not tracked.
struct BatchNormState {
    std::vector<float> gamma, beta, running_mean, running_var;
    std::int64_t num_batches_tracked = 0;
};

class BatchNorm;

// What a layer may say of its own use. Off (no function) it costs nothing.
struct Diagnostic {
    enum class Kind {
        few_values,            // training statistics of fewer values per channel than Diagnostics::min_values
        eval_before_training,  // running statistics used before a training batch was seen or a state loaded; once
        drift,                 // a running statistic was far from this batch's, before it was updated by it
    };
    Kind kind;
    std::string message;  // a sentence: what, which channel, which numbers, what to do
    const BatchNorm* layer = nullptr;
};
struct Diagnostics {
    // Called at the end of a forward call, on its thread. What it throws leaves the call, which has done its work.
    std::function<void(const Diagnostic&)> report;
    std::int64_t min_values = 16;  // at least 0, which is off
    // Of |running_mean - batch mean| in the batch's standard deviations, and of the two standard deviations' ratio,
    // either way, less 1. Checked in training mode from the tenth batch on. At least 0; with
    // infinity only a NaN is reported.
    double max_drift_sigmas = 3;
};

class BatchNorm {
public:
    virtual ~BatchNorm();
    BatchNorm(BatchNorm&&) noexcept;
    BatchNorm& operator=(BatchNorm&&) noexcept;

    // Whether construction succeeded: invalid_argument (features, an option), bad_library, out_of_memory, no_device,
    // launch_failed. Every other call returns this status when it is not ok. invalid_argument: it was moved from.
    const Status& status() const;

    int features() const;
    const BatchNormOptions& options() const;

    // Training mode is where a layer starts, as in PyTorch.
    void train(bool mode = true);
    void eval() { train(false); }
    bool is_training() const;

    // Frozen statistics: training mode too normalises by the running statistics and leaves them as they are, and
    // backward takes them for constants; gamma and beta go on learning. For fine-tuning on small batches. A layer that
    // tracks no running statistics cannot freeze them: invalid_argument.
    Status freeze_statistics(bool frozen = true);
    bool statistics_frozen() const;

    // The stream that all that follows is queued on: a CUstream or cudaStream_t of the layer's context, or an in-order
    // cl_command_queue of opencl_context(). Null, as at first, for the default one: CUDA's legacy stream,
    // opencl_queue(). The stream before it must still be there: it is waited for, as it uses the layer's memory.
    // launch_failed: one of the two is being captured, or what the driver says; invalid_argument: a stream that layers
    // cannot run on, or any on the CPU but null. Unchanged then.
    Status set_stream(void* stream);

    // Makes calls on tensors of x's form ready, so that they allocate and load nothing and wait for nothing: `ops` with
    // what `residual` says (forward_add and its gradient, for one), in the layer's mode as it is now. x's data is not
    // looked at and may be null; all tensors of the calls are to be as x is, strides too. For frozen statistics the
    // forward call is Op::inference. Nothing of the layer's state changes.
    // On the CPU it says whether the library has the kernels. Fails as forward does, and with invalid_argument for an
    // unknown op or residual.
    Status prepare(const ConstTensor& x, const std::vector<Op>& ops, Residual residual = Residual::none);

    // y = act(bn(x)). In training mode also updates the running statistics and keeps the batch's mean and inv_std.
    //   x, y   [features channels], the same layout, type and extents; y may be exactly x (in place; backward will then
    //          need x from elsewhere)
    // Fails with: null_pointer, wrong_layout, shape_mismatch, empty_tensor, too_large, unsupported_strides, misaligned,
    // overlap, one_value_per_channel, no_kernel, unsupported_cpu, out_of_memory; on a device not_device_memory and
    // launch_failed; with status() where that is not ok (bad_library, for one). y untouched, state unchanged. And with
    // invalid_argument where a function given to set_parallel_for threw: state unchanged, but y incomplete, the one
    // exception to "untouched" on the CPU, and the next backward call wants another forward call first.
    //
    // In evaluation mode, calls from several threads at once on one layer are safe as long as nobody changes it.
    //
    // OpenCL: a tensor's data is its cl_mem; anything else there cannot be told from one. Of two cl_mems that differ it
    // is not known whether they are parts of one buffer, so such an overlap is not seen.
    Status forward(const ConstTensor& x, const Tensor& y);

    // y = act(bn(x) + residual). `residual` is as x is; y may be exactly x or exactly residual. Needs a library with
    // rows of residual = "add". Training keeps a bit an element for backward where the activation is relu, relu6 or
    // leaky_relu; with frozen statistics those bits are read off y, in one more reading of it. Fails as forward does.
    Status forward_add(const ConstTensor& x, const ConstTensor& residual, const Tensor& y);

    // The gradient of the forward call that the layer's mode now stands for: in training mode (statistics not frozen)
    // of the last training call, by its mean and inv_std; else with the running statistics as constants. Sets
    // grad_gamma() and grad_beta(), and dx where it is given. The activation's derivative is made again from x.
    //   x        as it was given to forward
    //   dy, dx   as x is; dx may be exactly dy or exactly x
    // std::nullopt for dx, and Gradient::skip: not wanted, and not computed where nothing else needs it.
    // Fails as forward does; no_forward without a training forward call of that shape.
    Status backward(const ConstTensor& x, const ConstTensor& dy, const std::optional<Tensor>& dx,
                    const BackwardOptions& options = {});

    // The gradient of forward_add. dx and dresidual: both, or neither (invalid_argument otherwise); each may be exactly
    // dy, x or the options' residual, but they must not share memory. invalid_argument: options.residual is missing
    // for silu or hardswish. Where a bit an element is kept (relu, relu6, leaky_relu), the last training call must have
    // been a forward_add by the same statistics, no_forward otherwise: so for backward_add by the running ones call
    // forward_add in training mode with freeze_statistics() (and a slope of at least 0), as evaluation mode keeps none.
    Status backward_add(const ConstTensor& x, const ConstTensor& dy, const std::optional<Tensor>& dx,
                        const std::optional<Tensor>& dresidual, const BackwardOptions& options = {});

    // y = act(bn(x) + other(x_other)), two branches that meet, in one pass: a ResNet's downsample block. The activation
    // is this layer's, `other` is another layer, of as many features and dimensions, without one; both must use batch
    // statistics or both running ones (invalid_argument otherwise). y may be exactly x or exactly x_other. Needs rows
    // of residual = "batch_norm" in this layer's library. Each layer keeps and updates its own statistics, both or
    // neither. Errors that concern x_other say so.
    Status forward_sum(const ConstTensor& x, BatchNorm& other, const ConstTensor& x_other, const Tensor& y);
    // Its gradient: of both layers' parameters, and dx and dx_other, both or neither; each may be exactly dy, x or
    // x_other, but they must not share memory. Nothing but the statistics is kept in between.
    Status backward_sum(const ConstTensor& x, BatchNorm& other, const ConstTensor& x_other, const ConstTensor& dy,
                        const std::optional<Tensor>& dx, const std::optional<Tensor>& dx_other,
                        const BackwardOptions& options = {});

    // The parameters, `features` values each, for an optimiser to write between calls; null when not affine. On a
    // device, for an optimiser's kernels: addresses of its memory (OpenCL: each a cl_mem).
    float* gamma();
    float* beta();
    // The same of their gradients on a device; null on the CPU.
    float* device_grad_gamma();
    float* device_grad_beta();
    // Gradients of the parameters, `features` values each; zeros at first, empty when not affine.
    const std::vector<float>& grad_gamma() const;
    const std::vector<float>& grad_beta() const;
    void zero_grad();

    // Statistics of the last training batch; empty before the first. inv_std = 1 / sqrt(var + eps), var biased. They
    // are kept in double precision so that backward makes the very numbers of the forward pass again.
    const std::vector<double>& saved_mean() const;
    const std::vector<double>& saved_inv_std() const;
    // Bytes that the last training call keeps for backward: 16 a channel, and after forward_add with relu, relu6 or
    // leaky_relu a bit an element, rows rounded up to 4 bytes; on a device a byte, rows rounded up to 32.
    std::size_t saved_bytes() const;

    // invalid_argument: a negative min_values, a max_drift_sigmas that is negative or NaN; what was set before stays.
    Status set_diagnostics(Diagnostics diagnostics);

    // The kernel of this thread's last call that succeeded, on any layer, e.g.
    // "bn_inference_f32_planar_n32_c64_s3136_relu x86-64-avx2 [vector=8 parallel=rows store=stream]"; "" before the
    // first. "without streaming: y is not aligned" (or dx, for one) is added where the streaming form could not run,
    // "apart: x has gaps between channels" where planar rows could not be joined (neighbours in memory read as one). A
    // call that was refused or failed leaves it as it was. (backward too: "bn_backward_...".) That kernel's library
    // must still be loaded.
    static std::string last_kernel();

    const BatchNormState& state() const;
    // The same into `state`, and why it cannot be had, as on a device it may not: launch_failed; `state` as it was.
    Status read_state(BatchNormState& state) const;
    // invalid_argument: a vector whose size is not what state() has, a negative running_var; unchanged.
    Status set_state(const BatchNormState& state);
    // running_mean 0, running_var 1, num_batches_tracked 0.
    void reset_running_stats();

    // A safetensors file with the tensors of torch.nn.BatchNorm's state_dict under `prefix` ("bn1." gives
    // "bn1.weight").
    // save replaces a file as a whole or not at all, and where `path` is a symbolic link, the file that it names. The
    // file's permissions are a new file's. io_error: also for what is there and no regular file, which stays as it is;
    // for a path that is empty or has a zero byte in it; and where the new file is in place, but its folder could not
    // be synced. invalid_argument: a prefix that is no UTF-8. out_of_memory.
    // load reads the tensors that this layer has and drops all others: the weight and bias of an affine state in a
    // layer without affine, the running statistics in one that tracks none. The layer is unchanged when it fails:
    // io_error (a path as for save), bad_file (also for what the format forbids of tensors that it drops),
    // shape_mismatch, out_of_memory.
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

// Puts layers into evaluation mode, and back into what each was when it goes out of scope:
//
//   {
//       fusebn::EvalGuard evaluating({&bn1, &bn2});
//       accuracy = test(network);
//   }  // bn1 and bn2 train again, if they did before
//
// The layers must outlive it. Guards may be nested.
class EvalGuard {
public:
    explicit EvalGuard(const std::vector<BatchNorm*>& layers);
    ~EvalGuard();
    EvalGuard(const EvalGuard&) = delete;
    EvalGuard& operator=(const EvalGuard&) = delete;

private:
    std::vector<std::pair<BatchNorm*, bool>> before_;
};

}  // namespace fusebn
