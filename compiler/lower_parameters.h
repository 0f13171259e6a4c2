// A kernel's formal parameters, in the order of fusebn/kernel_abi.h.
#pragma once

#include <Halide.h>

#include <string>
#include <vector>

#include "generators/batch_norm.h"
#include "generators/elements.h"

namespace fusebn {

// The formal parameters of one batch norm.
struct Branch {
    Halide::ImageParam x, gamma, beta, mean, var, saved_mean, inv_std;
    Halide::Param<double> eps, momentum;
    Halide::Param<int> ddof, batch_statistics;

    Branch(Halide::Type element, int dimensions, const std::string& suffix)
        : x(element, dimensions, "x" + suffix),
          gamma(Halide::Float(32), 1, "gamma" + suffix),
          beta(Halide::Float(32), 1, "beta" + suffix),
          mean(Halide::Float(32), 1, "mean_in" + suffix),
          var(Halide::Float(32), 1, "var_in" + suffix),
          saved_mean(Halide::Float(64), 1, "saved_mean" + suffix),
          inv_std(Halide::Float(64), 1, "inv_std_in" + suffix),
          eps("eps" + suffix),
          momentum("momentum" + suffix),
          ddof("ddof" + suffix),
          batch_statistics("batch_statistics" + suffix) {}

    BranchInputs inputs() const {
        return {x, gamma, beta, mean, var, saved_mean, inv_std, eps, momentum, ddof, batch_statistics};
    }
    std::vector<Halide::ImageParam> vectors() const { return {gamma, beta, mean, var, saved_mean, inv_std}; }

    // In the order of kernel_abi.h, x left out.
    std::vector<Halide::Argument> arguments(Op op) const {
        switch (op) {
            case Op::inference: return {gamma, beta, mean, var, eps};
            case Op::train_forward: return {gamma, beta, mean, var, eps, momentum, ddof};
            case Op::backward: return {gamma, beta, saved_mean, inv_std, batch_statistics};
        }
        return {};
    }
};

// The kernel's formal parameters, in the order of kernel_abi.h.
struct Parameters {
    int dimensions;
    Branch branch, branch2;
    Halide::ImageParam dy, residual, mask;
    Halide::Param<int> sums{"sums"};
    Halide::Param<float> slope{"slope"};

    explicit Parameters(const KernelSpec& spec)
        : dimensions(spec.view == View::planar ? 3 : 2),
          branch(stored_type(spec.dtype), dimensions, ""),
          branch2(stored_type(spec.dtype), dimensions, "2"),
          dy(stored_type(spec.dtype), dimensions, "dy"),
          residual(stored_type(spec.dtype), dimensions, "residual"),
          mask(Halide::UInt(8), dimensions, "mask") {}

    BatchNormInputs inputs(const KernelSpec& spec) {
        BatchNormInputs in;
        in.branch = branch.inputs();
        in.branch2 = branch2.inputs();
        in.residual = residual;
        in.dy = dy;
        in.mask = mask;
        in.slope = slope;
        in.sums = sums;
        const bool planar = spec.view == View::planar;
        in.inner = planar ? Halide::Expr(branch.x.dim(0).extent()) : Halide::Expr(1);
        in.channels = branch.x.dim(planar ? 1 : 0).extent();
        in.outer = branch.x.dim(planar ? 2 : 1).extent();
        return in;
    }

    // Those that the spec's kernel reads, of the tensors' shape.
    std::vector<Halide::ImageParam> tensors(const KernelSpec& spec) const {
        std::vector<Halide::ImageParam> all = {branch.x};
        if (spec.op == Op::backward) all.push_back(dy);
        if (spec.residual == Residual::batch_norm) all.push_back(branch2.x);
        if (spec.residual == Residual::add) all.push_back(reads_mask(spec) ? mask : residual);
        return all;
    }

    std::vector<Halide::Argument> arguments(const KernelSpec& spec) const {
        std::vector<Halide::Argument> all = {branch.x};
        const auto append = [&](const std::vector<Halide::Argument>& more) {
            all.insert(all.end(), more.begin(), more.end());
        };
        if (spec.op == Op::backward) append({dy});
        append(branch.arguments(spec.op));
        if (spec.op == Op::backward) append({sums});
        append({slope});
        if (spec.residual == Residual::add) append({reads_mask(spec) ? mask : residual});
        if (spec.residual == Residual::batch_norm) {
            append({branch2.x});
            append(branch2.arguments(spec.op));
        }
        return all;
    }

    static bool reads_mask(const KernelSpec& spec) {
        return spec.op == Op::backward && saves_mask(spec.activation, spec.residual);
    }
};

}  // namespace fusebn
