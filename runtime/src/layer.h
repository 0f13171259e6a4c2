// A layer's insides: its state, its kernels, and the calls of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "check.h"
#include "dispatch.h"
#include "fusebn/batch_norm.h"
#include "kernel_call.h"
#include "layer_device.h"
#include "mask.h"
#include "scratch.h"

namespace fusebn {

struct BatchNorm::Impl {
    int dimensions = 0;
    int features = 0;
    BatchNormOptions options;
    Status status;
    bool training = true;
    bool frozen = false;
    BatchNormState state;
    std::vector<float> grad_gamma, grad_beta;
    std::vector<double> saved_mean, saved_inv_std;

    detail::KernelIndex kernels;
    float slope = 0;        // as kernels take it
    std::int32_t ddof = 1;  // likewise
    // What stands in for gamma, beta and the running statistics where the layer has none.
    std::vector<float> ones, zeros;
    detail::Scratch scratch;
    // Null on the CPU. On a device the vectors above are copies for the host to look at.
    std::unique_ptr<detail::LayerDevice> device;

    // The training call that backward is the gradient of.
    enum class Forward { none, plain, add, sum_first, sum_second };
    struct Last {
        Forward forward = Forward::none;
        detail::Shape shape;
        DataType dtype = DataType::f32;
        const Impl* partner = nullptr;  // forward_sum: the other layer. Compared only
    };
    Last last;
    detail::Mask mask;

    Diagnostics diagnostics;
    bool state_is_known = false;  // by a training batch, set_state or load
    struct Drift {
        std::size_t channel = 0;
        double far = 0;  // as Diagnostics::max_drift_sigmas counts
        double running_mean = 0, running_sigma = 0, mean = 0, sigma = 0;
    };
    Drift drift;                                        // of the last training batch
    std::atomic_flag reported_eval = ATOMIC_FLAG_INIT;  // Diagnostic::Kind::eval_before_training

    // A layer that was moved from answers every call with a status too.
    static const Impl& of(const std::unique_ptr<Impl>& impl);

    struct ForwardRun {
        Residual residual;
        Impl* other;
        const detail::Call& call;
        const detail::Choice& choice;
    };

    // --- batch_norm.cpp
    void set_up(const KernelTable& table);
    void allocate();

    // Whether the layer's mode now stands for the batch's statistics, and not the running ones.
    bool by_batch() const { return !options.track_running_stats || (training && !frozen); }
    const float* gamma() const {
        if (device) return device->f32(detail::Array::gamma);
        return (options.affine ? state.gamma : ones).data();
    }
    const float* beta() const {
        if (device) return device->f32(detail::Array::beta);
        return (options.affine ? state.beta : zeros).data();
    }
    const float* running_mean() const {
        if (device) return device->f32(detail::Array::running_mean);
        return (options.track_running_stats ? state.running_mean : zeros).data();
    }
    const float* running_var() const {
        if (device) return device->f32(detail::Array::running_var);
        return (options.track_running_stats ? state.running_var : ones).data();
    }

    // --- on_device.cpp, where there is a device
    // check_call, and whether the tensors lie on the device.
    Status check(const detail::Given* given, int count, detail::Call& call);
    Status forward_on_device(const ForwardRun& run, bool batch);
    void add_results_on_device(detail::KernelCall& kernel) const;
    // gamma, beta and the running statistics to the device, and back; statistics and gradients of the last calls back.
    Status send_state();
    Status fetch_state();
    Status fetch_saved();
    Status fetch_saved_into(detail::Scratch& to);
    Status fetch_gradients();
    Status add_statistics_on_device(detail::KernelCall& kernel, const std::int32_t* batch_statistics);
    void add_gradients_on_device(detail::KernelCall& kernel, const BackwardOptions& backward_options) const;
    Status keep_gradients_on_device(const BackwardOptions& backward_options);
    Status prepare(const ConstTensor& x, Residual residual);
    Status prepare_operation(Op op, Residual residual, const detail::Call& call);

    // --- sum.cpp, of forward_sum and backward_sum
    // invalid_argument: `other` is no second branch for this layer.
    Status check_other(const Impl& other) const;

    // --- forward.cpp
    // `addend` is what `residual` says: none, the tensor that is added, or the input of `other`.
    Status forward(Residual residual, const ConstTensor& x, const ConstTensor* addend, Impl* other, const Tensor& y);
    Status forward_by_running(const ForwardRun& run);
    Status forward_by_batch(const ForwardRun& run);
    double next_momentum() const;
    void keep_results(const detail::Scratch& results);
    // Of the bits that `mask` now holds.
    void describe_mask(const ForwardRun& run, bool by_batch_statistics);
    // Parts of a kernel's arguments, in their order.
    void add_running(detail::KernelCall& kernel, detail::Role x) const;
    void add_training(detail::KernelCall& kernel, detail::Role x, const double* momentum) const;
    void add_results(detail::KernelCall& kernel, detail::Scratch& results) const;

    // --- backward.cpp
    struct BackwardArguments {
        Residual residual;
        const ConstTensor& x;
        const ConstTensor& dy;
        const ConstTensor* addend;  // forward_sum's x_other
        Impl* other;
        const std::optional<Tensor>& dx;
        const std::optional<Tensor>& daddend;
        const BackwardOptions& options;
    };
    Status backward(const BackwardArguments& arguments);
    Status check_forward(const BackwardArguments& arguments, const detail::Call& call) const;
    bool wants_gradients(const BackwardOptions& backward_options) const;
    // mean and inv_std as backward takes them: the saved ones, or the running ones as constants in `scratch`.
    Status add_statistics(detail::KernelCall& kernel, const std::int32_t* batch_statistics);
    void keep_gradients(const BackwardOptions& backward_options);

    // --- diagnostics.cpp
    // After a forward call that succeeded.
    void diagnose(const BatchNorm& layer);
    void diagnose_evaluation(const BatchNorm& layer);
    void measure_drift(const detail::Scratch& results);  // before they become the layer's
    void diagnose_drift(const BatchNorm& layer) const;
};

namespace detail {

// invalid_argument: what BatchNorm::set_state refuses. `own`: what the layer has.
Status check_state(const BatchNormState& state, const BatchNormState& own);

}  // namespace detail
}  // namespace fusebn
