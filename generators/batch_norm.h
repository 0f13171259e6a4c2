// y = act( gamma * (x - mean) / sqrt(var + eps) + beta )
#pragma once

#include <Halide.h>

#include <string>
#include <vector>

#include "generators/kernel_spec.h"
#include "generators/statistics.h"

namespace fusebn {

// Everything a kernel reads. Per-channel vectors are f32, x is the spec's type, eps and momentum f64, ddof i32.
struct BatchNormInputs {
    Halide::Func x, gamma, beta;
    Halide::Func mean, var;                  // inference: the running statistics
    Halide::Func running_mean, running_var;  // train_forward: before this batch
    Halide::Expr eps, momentum, ddof;
    // Used where the spec's extents are `any_extent`.
    Halide::Expr outer, channels, inner;
};

// A kernel's Funcs, for a schedule to place.
struct BatchNormFuncs {
    KernelSpec spec;
    Halide::Func y;                             // planar y(s, c, n), interleaved y(c, r)
    Halide::Func affine;                        // (c) {mean, scale, shift}: y = act((x - mean) * scale + shift)
    std::vector<Halide::Func> channel_outputs;  // (c): train_forward's mean, inv_std, new_running_mean, new_running_var
    Statistics statistics;                      // train_forward only
    Halide::Expr outer, channels, inner;

    // In the order of the kernel's results (kernel_abi.h).
    std::vector<Halide::Func> outputs() const;
};

BatchNormFuncs inference(const KernelSpec& spec, const BatchNormInputs& in);
BatchNormFuncs train_forward(const KernelSpec& spec, const BatchNormInputs& in);
BatchNormFuncs batch_norm(const KernelSpec& spec, const BatchNormInputs& in);

// act(v). NaN stays NaN.
Halide::Expr activate(Activation activation, Halide::Expr v);

}  // namespace fusebn
