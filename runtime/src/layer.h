// A layer's insides: its state, its kernels, and the calls of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "check.h"
#include "device/layer_memory.h"
#include "dispatch.h"
#include "fusebn/batch_norm.h"
#include "kernel_call.h"
#include "mask.h"
#include "results.h"
#include "scratch.h"

namespace fusebn {

struct BatchNorm::Impl {
    int dimensions = 0;
    int features = 0;
    BatchNormOptions options;
    Status status;
    bool training = true;
    bool frozen = false;
    // On a device, copies of what is there, made when somebody asks.
    BatchNormState state;
    std::vector<float> grad_gamma, grad_beta;
    std::vector<double> saved_mean, saved_inv_std;

    detail::KernelIndex kernels;
    float slope = 0;        // as kernels take it
    std::int32_t ddof = 1;  // likewise
    // What stands in for gamma, beta and the running statistics where the layer has none.
    std::vector<float> ones, zeros;
    detail::Scratch scratch;
    detail::Parameters parameters;                // as kernels take them: of `state`, or on the device
    bool opaque = false;                          // detail::Call::opaque
    std::unique_ptr<detail::DeviceLayer> device;  // null: on the CPU
    Status deferred;                              // of a call that could not return it; the next one does

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

    // --- batch_norm.cpp
    void set_up(const KernelTable& table);
    void allocate();

    // Whether the layer's mode now stands for the batch's statistics, and not the running ones.
    bool by_batch() const { return !options.track_running_stats || (training && !frozen); }

    // --- sum.cpp, of forward_sum and backward_sum
    // invalid_argument: `other` is no second branch for this layer.
    Status check_other(const Impl& other) const;

    // --- forward.cpp
    // `addend` is what `residual` says: none, the tensor that is added, or the input of `other`.
    Status forward(Residual residual, const ConstTensor& x, const ConstTensor* addend, Impl* other, const Tensor& y);
    struct ForwardRun {
        Residual residual;
        Impl* other;
        const detail::Call& call;
        const detail::Choice& choice;
    };
    Status forward_by_running(const ForwardRun& run);
    Status forward_by_batch(const ForwardRun& run);
    double next_momentum() const;
    // Whether a training call by the running statistics keeps a mask, which it reads off y.
    bool keeps_mask_of_result(Residual residual) const;
    void keep_results(const detail::Scratch& results);
    void count_batch();
    // Of the bits that `mask` now holds.
    void describe_mask(const ForwardRun& run, bool by_batch_statistics);
    // Parts of a kernel's arguments, in their order.
    void add_running(detail::KernelCall& kernel, detail::Role x) const;
    void add_training(detail::KernelCall& kernel, detail::Role x, const double* momentum) const;
    static void add_results(detail::KernelCall& kernel, const detail::Results& results);

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
    struct BackwardRun {
        const BackwardArguments& arguments;
        const detail::Call& call;
        const detail::Choice& choice;
        bool wanted;  // the gradients of parameters
    };
    // What backward's kernel takes of one layer.
    struct BackwardSide {
        detail::Statistics statistics;
        float *dgamma = nullptr, *dbeta = nullptr;
    };
    // All arguments; `mask` where there is one, `other_side` where there is another layer.
    void add_backward(detail::KernelCall& kernel, const BackwardRun& run, std::uint8_t* mask, const BackwardSide& side,
                      const BackwardSide* other_side) const;
    void add_statistics(detail::KernelCall& kernel, const detail::Statistics& statistics) const;
    // mean and inv_std as backward takes them: the saved ones, or the running ones as constants in `scratch`.
    detail::Statistics statistics_of_backward();
    void keep_gradients(const BackwardOptions& backward_options);

    // --- device/setup.cpp, device/calls.cpp, device/prepare.cpp
    Status open_device();
    class DeviceCall;
    // not_device_memory; or what is deferred.
    Status check_device(const detail::Call& call);
    Status forward_on_device(const ForwardRun& run);
    Status backward_on_device(const BackwardRun& run);
    Status run_by_running(const ForwardRun& run);
    Status run_by_batch(const ForwardRun& run);
    detail::Results results_on_device() const;
    void keep_results_on_device(bool measures);
    bool fetch_before_drift();
    Status reserve_mask(detail::GrowingPiece& piece, const detail::Call& call);
    Status change_mask_view_on_device(const detail::Call& call);
    Status prepare(const ConstTensor& x, const std::vector<Op>& ops, Residual residual);
    Status rehearse(Op op, Residual residual, const detail::Call& call, const detail::Choice& choice);
    Status rehearse_forward(bool train, Residual residual, const detail::Call& call, const detail::Choice& choice,
                            fusebn_entry entry);
    struct Rehearsal {
        Residual residual;
        bool wanted, has_dx;
    };
    Status rehearse_backward(const Rehearsal& what, detail::Call call, const detail::Choice& choice,
                             fusebn_entry entry);
    Status set_stream(void* stream);
    // What cannot be had becomes NaN.
    void fetch(detail::DeviceLayer::Piece piece, std::vector<float>& values);
    void fetch(detail::DeviceLayer::Piece piece, std::vector<double>& values);
    void fetch_state();
    void reset_on_device();
    void zero_grad_on_device();
    std::size_t state_size() const { return static_cast<std::size_t>(features); }
    // `into` has the sizes of the layer's state.
    Status download_state(BatchNormState& into);
    Status upload_state(const BatchNormState& from);

    // --- diagnostics.cpp
    // After a forward call that succeeded.
    void diagnose(const BatchNorm& layer);
    void diagnose_evaluation(const BatchNorm& layer);
    // Before they change the running ones.
    void measure_drift(const std::vector<double>& batch_mean, const std::vector<double>& batch_inv_std);
    void diagnose_drift(const BatchNorm& layer) const;
};

namespace detail {

// invalid_argument: what BatchNorm::set_state refuses. `own`: what the layer has.
Status check_state(const BatchNormState& state, const BatchNormState& own);

// invalid_argument: what BatchNorm::set_diagnostics refuses.
Status check_diagnostics(const Diagnostics& diagnostics);

}  // namespace detail
}  // namespace fusebn
