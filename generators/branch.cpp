#include "generators/branch.h"

#include "generators/chunk_sum.h"
#include "generators/elements.h"

namespace fusebn {

using namespace Halide;

BatchNormFuncs start(const KernelSpec& spec, const BatchNormInputs& in) {
    const auto extent = [](std::int64_t fixed, const Expr& at_run_time) {
        return fixed == any_extent ? at_run_time : Expr(static_cast<int>(fixed));
    };
    BatchNormFuncs f;
    f.spec = spec;
    f.shape = {spec.view, extent(spec.outer, in.outer), extent(spec.channels, in.channels),
               extent(spec.inner, in.inner), in.stays_within};
    const std::vector<BranchInputs> all = branches(spec, in);
    for (std::size_t i = 0; i < all.size(); ++i) {
        f.affine.emplace_back("affine" + suffix(i));
        f.inputs.push_back(all[i].x);
    }
    if (spec.op == Op::backward) f.inputs.push_back(in.dy);
    return f;
}

std::vector<BranchInputs> branches(const KernelSpec& spec, const BatchNormInputs& in) {
    if (spec.residual == Residual::batch_norm) return {in.branch, in.branch2};
    return {in.branch};
}

Expr element(const KernelSpec& spec, const Func& tensor, const Place& at) { return to_f32(spec.dtype, tensor(at)); }

Tuple affine(const BranchInputs& in, const Expr& mean, const Expr& inv_std) {
    const Var c = vars::c;
    const Expr high = f32(mean), low = mean - f64(high);
    const Expr scale = f32(f64(in.gamma(c)) * inv_std);
    const Expr shift = f32(f64(in.beta(c)) - low * f64(scale));
    return Tuple(without_payload(high), without_payload(scale), without_payload(shift));
}

FuncRef values_at(const Func& of_channel, const Place& at) {
    if (of_channel.dimensions() == 2) return of_channel(at[0], at[1]);
    return of_channel(at.size() == 3 ? at[1] : at[0]);
}

Func rows_of(const Func& of_channel, View view) {
    if (view == View::interleaved) return of_channel;
    Func rows(of_channel.name() + "_rows");
    Vector values;
    for (int i = 0; i < of_channel.outputs(); ++i) values.push_back(of_channel(vars::c)[i]);
    rows(vars::s, vars::c) = Tuple(values);
    return rows;
}

Expr before_activation(const BatchNormFuncs& f, const BatchNormInputs& in, const Place& at,
                       const std::vector<Func>& affine) {
    Expr sum;
    const std::vector<BranchInputs> all = branches(f.spec, in);
    for (std::size_t i = 0; i < all.size(); ++i) {
        const FuncRef a = values_at(affine[i], at);
        const Expr v = (element(f.spec, all[i].x, at) - a[0]) * a[1] + a[2];
        sum = sum.defined() ? sum + v : v;
    }
    return f.spec.residual == Residual::add ? sum + element(f.spec, in.residual, at) : sum;
}

Place place_of(View view) { return view == View::planar ? Place{vars::s, vars::c, vars::n} : Place{vars::c, vars::r}; }

std::string suffix(std::size_t branch) { return branch == 0 ? "" : std::to_string(branch + 1); }

}  // namespace fusebn
