#include "generators/batch_norm.h"

namespace fusebn {

using namespace Halide;

namespace {

Expr f64(Expr e) { return cast<double>(std::move(e)); }
Expr f32(Expr e) { return cast<float>(std::move(e)); }

TensorView view_of(const KernelSpec& spec, const BatchNormInputs& in) {
    const auto extent = [](std::int64_t fixed, const Expr& at_run_time) {
        return fixed == any_extent ? at_run_time : Expr(static_cast<int>(fixed));
    };
    return {spec.view, in.x, extent(spec.outer, in.outer), extent(spec.channels, in.channels),
            extent(spec.inner, in.inner)};
}

Expr inv_std(const Expr& var, const Expr& eps) { return cast<double>(1) / sqrt(var + eps); }

// {mean, scale, shift} in f32, so that y = (x - mean) * scale + shift.
// x - mean is exact where it matters (x near mean), so a mean far from zero costs no precision; what the f32 mean lost
// of the f64 one is put back through the shift. The usual x * a + b loses mean / sigma * 2^-24.
Tuple affine(const BatchNormInputs& in, const Expr& mean, const Expr& inv_std) {
    const Var c = vars::c;
    const Expr high = f32(mean), low = mean - f64(high);
    const Expr scale = f32(f64(in.gamma(c)) * inv_std);
    return Tuple(high, scale, f32(f64(in.beta(c)) - low * f64(scale)));
}

void apply(BatchNormFuncs& f, const TensorView& t) {
    using vars::c, vars::n, vars::r, vars::s;
    const std::vector<Expr> at = t.view == View::planar ? std::vector<Expr>{s, c, n} : std::vector<Expr>{c, r};
    const Expr x = f32(t.x(at));
    const Expr v = (x - f.affine(c)[0]) * f.affine(c)[1] + f.affine(c)[2];
    f.y = Func("y");
    if (t.view == View::planar) {
        f.y(s, c, n) = activate(f.spec.activation, v);
    } else {
        f.y(c, r) = activate(f.spec.activation, v);
    }
}

BatchNormFuncs start(const KernelSpec& spec, const TensorView& t) {
    BatchNormFuncs f;
    f.spec = spec;
    f.affine = Func("affine");
    f.outer = t.outer;
    f.channels = t.channels;
    f.inner = t.inner;
    return f;
}

}  // namespace

std::vector<Func> BatchNormFuncs::outputs() const {
    std::vector<Func> all = {y};
    all.insert(all.end(), channel_outputs.begin(), channel_outputs.end());
    return all;
}

Expr activate(Activation activation, Expr v) {
    switch (activation) {
        case Activation::none: return v;
        // Not max(v, 0), which may return either operand for a NaN.
        case Activation::relu: return select(v < 0.0f, 0.0f, v);
    }
    return v;
}

BatchNormFuncs inference(const KernelSpec& spec, const BatchNormInputs& in) {
    const TensorView t = view_of(spec, in);
    BatchNormFuncs f = start(spec, t);
    const Var c = vars::c;
    f.affine(c) = affine(in, f64(in.mean(c)), inv_std(f64(in.var(c)), in.eps));
    apply(f, t);
    return f;
}

BatchNormFuncs train_forward(const KernelSpec& spec, const BatchNormInputs& in) {
    const TensorView t = view_of(spec, in);
    BatchNormFuncs f = start(spec, t);
    f.statistics = statistics(t);
    const Var c = vars::c;
    const Expr count = f.statistics.count, mean = f.statistics.total(c)[1];
    // Rounding can leave the M2 of a constant channel just below zero; a NaN is kept.
    const Expr M2 = select(f.statistics.total(c)[0] < 0, cast<double>(0), f.statistics.total(c)[0]);
    const Expr inverse = inv_std(M2 / count, in.eps);
    f.affine(c) = affine(in, mean, inverse);
    apply(f, t);

    const auto output = [&](const char* name, const Expr& value) {
        Func o(name);
        o(c) = f32(value);
        f.channel_outputs.push_back(o);
    };
    const auto running = [&](const Func& before, const Expr& batch) {
        return (1 - in.momentum) * f64(before(c)) + in.momentum * batch;
    };
    output("mean", mean);
    output("inv_std", inverse);
    output("new_running_mean", running(in.running_mean, mean));
    output("new_running_var", running(in.running_var, M2 / (count - f64(in.ddof))));
    return f;
}

BatchNormFuncs batch_norm(const KernelSpec& spec, const BatchNormInputs& in) {
    switch (spec.op) {
        case Op::inference: return inference(spec, in);
        case Op::train_forward: return train_forward(spec, in);
    }
    return {};
}

}  // namespace fusebn
