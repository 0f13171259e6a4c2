// What the forward and the backward algorithms share: the branches, and the value before the activation.
#pragma once

#include <vector>

#include "generators/batch_norm.h"

namespace fusebn {

inline Halide::Expr f64(Halide::Expr e) { return Halide::cast<double>(std::move(e)); }
inline Halide::Expr f32(Halide::Expr e) { return Halide::cast<float>(std::move(e)); }

// The spec, its shape, and an unfilled affine Func for each branch.
BatchNormFuncs start(const KernelSpec& spec, const BatchNormInputs& in);
std::vector<BranchInputs> branches(const KernelSpec& spec, const BatchNormInputs& in);

// An element in f32.
Halide::Expr element(const KernelSpec& spec, const Halide::Func& tensor, const Place& at);

// {mean, scale, shift} in f32, so that the branch's result is (x - mean) * scale + shift.
// x - mean is exact where it matters (x near mean), so a mean far from zero costs no precision; what the f32 mean lost
// of the f64 one is put back through the shift. The usual x * a + b loses mean / sigma * 2^-24.
Halide::Tuple affine(const BranchInputs& in, const Halide::Expr& mean, const Halide::Expr& inv_std);

// Values of a channel, by channel or by element, at an element.
Halide::FuncRef values_at(const Halide::Func& of_channel, const Place& at);

// Those of a channel for each element of its rows, where rows are planar.
Halide::Func rows_of(const Halide::Func& of_channel, View view);

// What is activated: the branches' sum, and the residual's. `affine`: the branches', by channel or by element.
Halide::Expr before_activation(const BatchNormFuncs& f, const BatchNormInputs& in, const Place& at,
                               const std::vector<Halide::Func>& affine);

// The place of the element that a Func of the tensors' shape defines.
Place place_of(View view);

// "" and "2": what follows a branch's names.
std::string suffix(std::size_t branch);

}  // namespace fusebn
