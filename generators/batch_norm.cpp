#include "generators/batch_norm.h"

#include "generators/activation.h"
#include "generators/branch.h"
#include "generators/elements.h"

namespace fusebn {

using namespace Halide;

namespace {

Expr inv_std(const Expr& var, const Expr& eps) { return cast<double>(1) / sqrt(var + eps); }

std::vector<Var> variables(View view) {
    return view == View::planar ? std::vector<Var>{vars::s, vars::c, vars::n} : std::vector<Var>{vars::c, vars::r};
}

void apply(BatchNormFuncs& f, const BatchNormInputs& in) {
    for (const Func& values : f.affine) f.affine_rows.push_back(rows_of(values, f.spec.view));
    const Expr v = before_activation(f, in, place_of(f.spec.view), f.affine_rows);
    const Expr y = from_f32(f.spec.dtype, activate(f.spec.activation, v, in.slope));
    f.tensors = Func("y");
    if (f.spec.op == Op::train_forward && saves_mask(f.spec.activation, f.spec.residual)) {
        f.tensors(variables(f.spec.view)) = Tuple(y, cast<std::uint8_t>(passes(f.spec.activation, v)));
    } else {
        f.tensors(variables(f.spec.view)) = y;
    }
}

}  // namespace

std::vector<Func> BatchNormFuncs::outputs() const {
    std::vector<Func> all = {tensors};
    if (channel_results.defined()) all.push_back(channel_results);
    return all;
}

BatchNormFuncs inference(const KernelSpec& spec, const BatchNormInputs& in) {
    BatchNormFuncs f = start(spec, in);
    const Var c = vars::c;
    const std::vector<BranchInputs> all = branches(spec, in);
    for (std::size_t i = 0; i < all.size(); ++i) {
        f.affine[i](c) = affine(all[i], f64(all[i].mean(c)), inv_std(f64(all[i].var(c)), all[i].eps));
    }
    apply(f, in);
    return f;
}

BatchNormFuncs train_forward(const KernelSpec& spec, const BatchNormInputs& in) {
    BatchNormFuncs f = start(spec, in);
    const Var c = vars::c;
    const Expr count = count_of(f.shape);
    const std::vector<BranchInputs> all = branches(spec, in);
    std::vector<Expr> results;  // mean, inv_std, new_running_mean, new_running_var of each branch
    for (std::size_t i = 0; i < all.size(); ++i) {
        const BranchInputs& branch = all[i];
        const Func x = branch.x;
        f.reductions.push_back(statistics(
            f.shape, [spec, x](const Place& at) { return element(spec, x, at); }, suffix(i)));
        const Func total = f.reductions.back().total.result;
        const Expr mean = total(c)[1];
        // Rounding can leave the M2 of a constant channel just below zero; a NaN is kept.
        const Expr M2 = select(total(c)[0] < 0, cast<double>(0), total(c)[0]);
        const Expr inverse = inv_std(M2 / count, branch.eps);
        f.affine[i](c) = affine(branch, mean, inverse);

        const auto running = [&](const Func& before, const Expr& now) {
            return f32((1 - branch.momentum) * f64(before(c)) + branch.momentum * now);
        };
        for (const Expr& result :
             {mean, inverse, running(branch.mean, mean), running(branch.var, M2 / (count - f64(branch.ddof)))}) {
            results.push_back(result);
        }
    }
    f.channel_results = Func("statistics");
    f.channel_results(c) = Tuple(results);
    apply(f, in);
    return f;
}

// With d = x - mean (the f32 one), dy' = act'(.) dy and n values in a channel (Ioffe and Szegedy 2015, section 3, with
// the terms that vanish left out):
//
//   dbeta  = sum(dy')
//   dgamma = inv_std * sum(dy' * (x - mean)) = inv_std * (sum(dy' * d) - low * dbeta),   low: what the f32 mean lost
//   dx     = gamma * inv_std * (dy' - dbeta / n - xhat * dgamma / n)
//          = ((dy' - a) - d * b) * scale,   b = inv_std * dgamma / n,   a = dbeta / n - low * b
BatchNormFuncs backward(const KernelSpec& spec, const BatchNormInputs& in) {
    BatchNormFuncs f = start(spec, in);
    const Var c = vars::c;
    const std::vector<BranchInputs> all = branches(spec, in);
    for (std::size_t i = 0; i < all.size(); ++i) {
        f.affine[i](c) = affine(all[i], all[i].saved_mean(c), all[i].inv_std(c));
        f.affine_rows.push_back(rows_of(f.affine[i], spec.view));
    }
    const auto gradient = [&](const Place& at, const std::vector<Func>& affine, const Func& mask) {
        const Expr dy = element(spec, in.dy, at);
        if (saves_mask(spec.activation, spec.residual)) {
            return masked_gradient(spec.activation, mask(at) != 0, dy, in.slope);
        }
        if (spec.activation == Activation::none) return dy;
        return activation_gradient(spec.activation, before_activation(f, in, at, affine), dy, in.slope);
    };
    const auto difference = [&](std::size_t branch, const Place& at, const std::vector<Func>& affine) {
        return element(spec, all[branch].x, at) - values_at(affine[branch], at)[0];
    };
    f.reductions = {plain_sums(
        f.shape, static_cast<int>(1 + all.size()),
        [&](const Place& at, const Expr&, const Expr&) {
            const Expr g = gradient(at, f.affine, in.mask);
            std::vector<Expr> terms = {g};
            for (std::size_t i = 0; i < all.size(); ++i) terms.push_back(g * difference(i, at, f.affine));
            return terms;
        },
        in.sums != 0)};
    const Func total = f.reductions[0].total.result;
    const Expr count = count_of(f.shape), dbeta = total(c)[0];

    const Place at = place_of(spec.view);
    if (saves_mask(spec.activation, spec.residual)) {
        f.mask_rows = Func("mask_rows");
        f.mask_rows(variables(spec.view)) = in.mask(at);
    }
    const Expr g = gradient(at, f.affine_rows, f.mask_rows);
    std::vector<Expr> results, gradients;
    for (std::size_t i = 0; i < all.size(); ++i) {
        const Expr mean = all[i].saved_mean(c), low = mean - f64(f32(mean));
        const Expr dgamma = all[i].inv_std(c) * (total(c)[static_cast<int>(i) + 1] - low * dbeta);
        const Expr b = all[i].inv_std(c) * dgamma / count;
        f.slopes.emplace_back("slopes" + suffix(i));
        // Constants have no gradient.
        const auto by_batch = [&](const Expr& e) {
            return without_payload(f32(select(all[i].batch_statistics != 0, e, cast<double>(0))));
        };
        f.slopes[i](c) = Tuple(by_batch(dbeta / count - low * b), by_batch(b));
        f.slopes_rows.push_back(rows_of(f.slopes[i], spec.view));
        const FuncRef slopes_here = values_at(f.slopes_rows[i], at);
        const Expr centred = (g - slopes_here[0]) - difference(i, at, f.affine_rows) * slopes_here[1];
        results.push_back(from_f32(spec.dtype, centred * values_at(f.affine_rows[i], at)[1]));
        gradients.push_back(f32(dgamma));
        gradients.push_back(f32(dbeta));
    }
    f.channel_results = Func("gradients");
    f.channel_results(c) = Tuple(gradients);
    if (spec.residual == Residual::add) results.push_back(from_f32(spec.dtype, g));
    f.tensors = Func("dx");
    if (results.size() == 1) {
        f.tensors(variables(spec.view)) = results[0];
    } else {
        f.tensors(variables(spec.view)) = Tuple(results);
    }
    return f;
}

BatchNormFuncs batch_norm(const KernelSpec& spec, const BatchNormInputs& given) {
    BatchNormInputs in = given;
    in.slope = without_payload(in.slope);
    switch (spec.op) {
        case Op::inference: return inference(spec, in);
        case Op::train_forward: return train_forward(spec, in);
        case Op::backward: return backward(spec, in);
    }
    return {};
}

}  // namespace fusebn
