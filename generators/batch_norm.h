// y = act( gamma * (x - mean) / sqrt(var + eps) + beta  [+ residual] ), and its gradient.
#pragma once

#include <Halide.h>

#include <string>
#include <vector>

#include "generators/kernel_spec.h"
#include "generators/statistics.h"

namespace fusebn {

// One batch norm's. Per-channel vectors are f32 unless said otherwise, eps and momentum f64, the rest i32.
struct BranchInputs {
    Halide::Func x;
    Halide::Func gamma, beta;
    Halide::Func mean, var;            // inference: the running statistics; train_forward: those before this batch
    Halide::Func saved_mean, inv_std;  // backward, f64
    Halide::Expr eps, momentum, ddof;
    Halide::Expr batch_statistics;  // backward: 0: mean and inv_std are constants
};

// Everything a kernel reads. Tensors are of stored_type(spec.dtype).
struct BatchNormInputs {
    BranchInputs branch, branch2;  // the second with residual=batch_norm
    Halide::Func residual;         // residual=add
    Halide::Func dy;               // backward
    Halide::Func mask;             // backward, where saves_mask(): u8, 0 or 1
    Halide::Expr slope;            // f32
    Halide::Expr sums;             // backward, i32: 0: dgamma and dbeta are not wanted
    bool stays_within = false;     // see ViewShape
    // Used where the spec's extents are `any_extent`.
    Halide::Expr outer, channels, inner;
};

// A kernel's Funcs, for a schedule to place.
struct BatchNormFuncs {
    KernelSpec spec;
    ViewShape shape;
    // Of the tensors' shape, planar (s, c, n), interleaved (c, r), a Tuple where there are several:
    // y [and the mask, u8]; dx [and dresidual or dx2].
    Halide::Func tensors;
    // (c), f32, of each branch. affine {mean, scale, shift}: y = act((x - mean) * scale + shift). slopes, backward's
    // {a, b}: dx = ((dy' - a) - (x - mean) * b) * scale.
    std::vector<Halide::Func> affine, slopes;
    // The same where the tensors are made: planar (s, c), for each element of a row, so that a schedule can lay the
    // values of neighbouring rows side by side; else as they are. And backward's mask, of the tensors' shape. Nobody
    // need place them.
    std::vector<Halide::Func> affine_rows, slopes_rows;
    Halide::Func mask_rows;
    std::vector<Reduction> reductions;
    // (c): the kernel's results of one value a channel, a Tuple. Not defined in inference, which has none.
    Halide::Func channel_results;
    // The tensors that sums are made of, each a Func of the tensors' shape: of each branch x, and backward dy.
    std::vector<Halide::Func> inputs;

    int tensor_count() const { return tensors.outputs(); }
    // In the order of the kernel's results (kernel_abi.h).
    std::vector<Halide::Func> outputs() const;
};

BatchNormFuncs inference(const KernelSpec& spec, const BatchNormInputs& in);
BatchNormFuncs train_forward(const KernelSpec& spec, const BatchNormInputs& in);
BatchNormFuncs backward(const KernelSpec& spec, const BatchNormInputs& in);
BatchNormFuncs batch_norm(const KernelSpec& spec, const BatchNormInputs& in);

}  // namespace fusebn
