// The gradient of a forward call. With xhat = (x - mean) * inv_std and g = dy * act'(gamma * xhat + beta [+ residual]):
//   dbeta = sum g,  dgamma = sum g * xhat,  dresidual = g
//   dx = gamma * inv_std * (g - dbeta / n - xhat * dgamma / n)   by the batch's statistics
//   dx = gamma * inv_std * g                                     by constant ones
#include <cmath>
#include <cstddef>

#include "layer.h"
#include "text.h"

namespace fusebn {

using namespace detail;

namespace {

constexpr std::int32_t yes = 1, no = 0;  // flags that kernels read by their address

bool is_gradient(Gradient g) { return g == Gradient::skip || g == Gradient::overwrite || g == Gradient::accumulate; }

const char* name_of_second_output(Residual residual) { return residual == Residual::add ? "dresidual" : "dx_other"; }

// Whether backward_add by this activation depends on the residual itself.
bool reads_residual(Residual residual, Activation activation) {
    return residual == Residual::add && !saves_mask(activation, residual) && activation != Activation::none;
}

// What is there and what is not, before any tensor is looked at.
Status check_presence(Residual residual, Activation activation, bool has_dx, bool has_second,
                      const BackwardOptions& options) {
    for (const auto& [name, value] : {std::pair("gamma", options.gamma), std::pair("beta", options.beta)}) {
        if (is_gradient(value)) continue;
        return Status(ErrorCode::invalid_argument,
                      sentence("options.", name, ": ", static_cast<int>(value),
                               " is unknown; expected Gradient::skip, overwrite or accumulate"));
    }
    if (residual != Residual::none && has_dx != has_second) {
        const char* const second = name_of_second_output(residual);
        return Status(ErrorCode::invalid_argument,
                      sentence(has_dx ? second : "dx", ": it is missing, but ", has_dx ? "dx" : second,
                               " is given; expected both, or neither"));
    }
    const bool has_residual = options.residual.data != nullptr;
    if (reads_residual(residual, activation) && !has_residual) {
        return Status(ErrorCode::invalid_argument,
                      sentence("options.residual: it is missing; expected what was given to forward_add, as the "
                               "gradient of ",
                               to_string(activation), " depends on it"));
    }
    if (residual != Residual::add && has_residual) {
        return Status(ErrorCode::invalid_argument,
                      "options.residual: it is given, but only backward_add has one; expected a call of backward_add");
    }
    return Status();
}

void keep_gradient(Gradient how, const std::vector<float>& made, std::vector<float>& gradient) {
    if (how == Gradient::skip) return;
    for (std::size_t c = 0; c < gradient.size(); ++c) {
        gradient[c] = how == Gradient::accumulate ? gradient[c] + made[c] : made[c];
    }
}

}  // namespace

Status BatchNorm::Impl::backward(const BackwardArguments& arguments) {
    const auto& [residual, x, dy, addend, other, dx, daddend, backward_options] = arguments;
    if (!status.ok()) return status;
    if (other != nullptr) {
        if (Status s = check_other(*other); !s.ok()) return s;
    }
    if (Status s = check_presence(residual, options.activation, dx.has_value(), daddend.has_value(), backward_options);
        !s.ok()) {
        return s;
    }
    const bool has_mask = saves_mask(options.activation, residual);
    const bool has_residual = reads_residual(residual, options.activation);
    Given given[role_count] = {{Role::x, "x", &x}, {Role::dy, "dy", &dy}};
    int count = 2;
    if (has_residual) given[count++] = {Role::addend, "options.residual", &backward_options.residual};
    if (other != nullptr) given[count++] = {Role::addend, "x_other", addend};
    ConstTensor outputs[2];
    if (dx) given[count++] = {Role::out, "dx", &(outputs[0] = *dx)};
    if (daddend) given[count++] = {Role::addend_out, name_of_second_output(residual), &(outputs[1] = *daddend)};
    Call call;
    call.opaque = opaque;
    if (Status s = check_call(dimensions, features, given, count, call); !s.ok()) return s;
    if (Status s = check_forward(arguments, call); !s.ok()) return s;
    const bool wanted =
        wants_gradients(backward_options) || (other != nullptr && other->wants_gradients(backward_options));
    if (!dx && !wanted) return Status();

    const Choice choice = kernels.find(Op::backward, residual, call);
    if (choice.entry == nullptr) return kernels.refusal(Op::backward, residual, call, x);
    const BackwardRun run{arguments, call, choice, wanted};
    if (device != nullptr) return backward_on_device(run);
    if (has_mask && !mask.change_view(call.shape.view)) return outcome(FUSEBN_KERNEL_OUT_OF_MEMORY, choice);

    KernelCall kernel(call, features);
    const BackwardSide side{statistics_of_backward(), scratch.running_mean.data(), scratch.running_var.data()};
    BackwardSide other_side;
    if (other != nullptr) {
        other_side = {other->statistics_of_backward(), other->scratch.running_mean.data(),
                      other->scratch.running_var.data()};
    }
    add_backward(kernel, run, mask.buffer.data(), side, other != nullptr ? &other_side : nullptr);
    if (Status s = kernel.run(choice); !s.ok()) return s;
    keep_gradients(backward_options);
    if (other != nullptr) other->keep_gradients(backward_options);
    return Status();
}

void BatchNorm::Impl::add_backward(KernelCall& kernel, const BackwardRun& run, std::uint8_t* bits,
                                   const BackwardSide& side, const BackwardSide* other_side) const {
    const Residual residual = run.arguments.residual;
    kernel.tensor(Role::x);
    kernel.tensor(Role::dy);
    add_statistics(kernel, side.statistics);
    kernel.scalar(by_batch() || run.wanted ? &yes : &no);
    kernel.scalar(&slope);
    if (saves_mask(options.activation, residual)) {
        kernel.mask(bits);
    } else if (residual == Residual::add) {
        // Without an activation the gradient does not depend on the residual: x stands in for it.
        kernel.tensor(reads_residual(residual, options.activation) ? Role::addend : Role::x);
    }
    if (other_side != nullptr) {
        kernel.tensor(Role::addend);
        run.arguments.other->add_statistics(kernel, other_side->statistics);
    }
    kernel.tensor(Role::out);
    if (residual != Residual::none) kernel.tensor(Role::addend_out);
    for (const BackwardSide* made : {&side, other_side}) {
        if (made == nullptr) continue;
        kernel.channels(made->dgamma);
        kernel.channels(made->dbeta);
    }
}

// no_forward: no forward call that this would be the gradient of.
Status BatchNorm::Impl::check_forward(const BackwardArguments& arguments, const Call& call) const {
    const Residual residual = arguments.residual;
    const Impl* const other = arguments.other;
    const char* const wanted = residual == Residual::none  ? "forward"
                               : residual == Residual::add ? "forward_add"
                                                           : "forward_sum";
    const auto refuse = [&](const auto&... why) {
        return Status(ErrorCode::no_forward,
                      sentence("x: backward takes a call of ", wanted, " before it, but ", why...));
    };
    const auto other_shape = [&](const Shape& shape, DataType dtype) {
        // One spatial element is the same memory in either view.
        return shape.outer != call.shape.outer || shape.inner != call.shape.inner || dtype != call.dtype;
    };
    const auto refuse_shape = [&](const Shape& shape, DataType dtype) {
        return refuse("the last was of ", to_string(dtype), " ", to_string(shape.view), " ", extents_text(shape),
                      ", and this is ", to_string(call.dtype), " ", to_string(call.shape.view), " ",
                      extents_text(call.shape), "; expected the tensor that was given to it");
    };
    if (by_batch()) {
        const Forward expected = residual == Residual::none  ? Forward::plain
                                 : residual == Residual::add ? Forward::add
                                                             : Forward::sum_first;
        if (last.forward == Forward::none) {
            return refuse("there was none in training mode, or the last one failed midway; ",
                          training ? "" : "evaluation mode keeps nothing for backward, so call train() and then ",
                          wanted, training ? " comes first" : "");
        }
        const bool same_partner = other == nullptr || (last.partner == other && other->last.partner == this);
        if (last.forward != expected || !same_partner) {
            static constexpr const char* names[] = {"none", "forward", "forward_add", "forward_sum",
                                                    "forward_sum as the other layer"};
            return refuse("the layer's last training call was ", names[static_cast<int>(last.forward)],
                          last.forward == expected ? ", but the other layer's was not the same call; run both again"
                                                   : "; expected the gradient of the last");
        }
        if (other_shape(last.shape, last.dtype)) return refuse_shape(last.shape, last.dtype);
    }
    if (!saves_mask(options.activation, residual)) return Status();
    if (!mask.valid || mask.by_batch != by_batch()) {
        return refuse("none has kept what passed the ", to_string(options.activation), " by the ",
                      by_batch() ? "batch's statistics" : "running statistics",
                      by_batch() ? "; call forward_add in training mode first"
                                 : "; call forward_add in training mode with freeze_statistics() first (and a slope of "
                                   "at least 0)");
    }
    if (other_shape(mask.shape, mask.dtype)) return refuse_shape(mask.shape, mask.dtype);
    return Status();
}

bool BatchNorm::Impl::wants_gradients(const BackwardOptions& o) const {
    return options.affine && (o.gamma != Gradient::skip || o.beta != Gradient::skip);
}

void BatchNorm::Impl::add_statistics(KernelCall& kernel, const Statistics& statistics) const {
    kernel.channels(parameters.gamma);
    kernel.channels(parameters.beta);
    kernel.channels(statistics.mean);
    kernel.channels(statistics.inv_std);
    kernel.scalar(by_batch() ? &yes : &no);
}

Statistics BatchNorm::Impl::statistics_of_backward() {
    if (by_batch()) return {saved_mean.data(), saved_inv_std.data()};
    for (std::size_t c = 0; c < scratch.mean.size(); ++c) {
        scratch.mean[c] = state.running_mean[c];
        scratch.inv_std[c] = 1.0 / std::sqrt(static_cast<double>(state.running_var[c]) + options.eps);
    }
    return {scratch.mean.data(), scratch.inv_std.data()};
}

void BatchNorm::Impl::keep_gradients(const BackwardOptions& o) {
    keep_gradient(o.gamma, scratch.running_mean, grad_gamma);
    keep_gradient(o.beta, scratch.running_var, grad_beta);
}

}  // namespace fusebn
