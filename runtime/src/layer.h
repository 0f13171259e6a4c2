// A layer's insides: its state, its kernels, and the calls of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "check.h"
#include "dispatch.h"
#include "fusebn/batch_norm.h"

namespace fusebn {

struct BatchNorm::Impl {
    int dimensions = 0;
    int features = 0;
    BatchNormOptions options;
    Status status;
    bool training = true;
    BatchNormState state;
    std::vector<float> saved_mean, saved_inv_std;

    detail::KernelIndex kernels;
    // What stands in for gamma, beta and the running statistics where the layer has none.
    std::vector<float> ones, zeros;
    // mean, inv_std, new_running_mean and new_running_var of a call; they become state when the kernel has succeeded.
    std::vector<float> scratch;
    std::atomic_flag scratch_in_use = ATOMIC_FLAG_INIT;

    void set_up(const KernelTable& table);
    void allocate();

    Status forward(const ConstTensor& x, const Tensor& y);
    Status train_forward(const detail::Call& call, const detail::Choice& choice);
    Status infer(const detail::Call& call, const detail::Choice& choice) const;
    Status infer_by_batch(const detail::Call& call, const detail::Choice& choice);
    // Runs a train_forward kernel. `results` takes mean, inv_std, new_running_mean and new_running_var, `features`
    // each.
    Status normalise_by_batch(const detail::Call& call, const detail::Choice& choice, double momentum,
                              float* results) const;

    const float* gamma() const { return (options.affine ? state.gamma : ones).data(); }
    const float* beta() const { return (options.affine ? state.beta : zeros).data(); }

    // A layer that was moved from answers every call with a status too.
    static const Impl& of(const std::unique_ptr<Impl>& impl);
};

namespace detail {

// invalid_argument: what BatchNorm::set_state refuses. `own`: what the layer has.
Status check_state(const BatchNormState& state, const BatchNormState& own);

// See BatchNorm::last_kernel.
std::string last_kernel_of_this_thread();

}  // namespace detail
}  // namespace fusebn
