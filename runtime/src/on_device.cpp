// A layer's calls on a device. Kernels write what becomes the layer's where it lies: a call that the driver refuses has
// queued nothing, or less than all of it, and says so.
#include <algorithm>
#include <limits>

#include "layer.h"
#include "text.h"

namespace fusebn {

using namespace detail;

Status BatchNorm::Impl::check(const Given* given, int count, Call& call) {
    if (!device) return check_call(dimensions, features, given, count, call);
    Backend& backend = device->backend();
    if (Status s = check_call(dimensions, features, given, count, call, backend.has_addresses()); !s.ok()) return s;
    for (const Given* g = given; g != given + count; ++g) {
        if (Status s = backend.check_memory(g->name, g->tensor->data); !s.ok()) return s;
    }
    return Status();
}

// Training keeps its results as the layer's; a layer without running statistics in evaluation mode keeps none.
void BatchNorm::Impl::add_results_on_device(KernelCall& kernel) const {
    const bool tracked = training && options.track_running_stats;
    kernel.channels(device->f64(training ? Array::saved_mean : Array::other_mean));
    kernel.channels(device->f64(training ? Array::saved_inv_std : Array::other_inv_std));
    kernel.channels(device->f32(tracked ? Array::running_mean : Array::made_mean));
    kernel.channels(device->f32(tracked ? Array::running_var : Array::made_var));
}

Status BatchNorm::Impl::forward_on_device(const ForwardRun& run, bool batch) {
    Impl* const other = run.other;
    DeviceCall on_device(*device);
    KernelCall kernel(run.call, features, &on_device);
    if (!batch) {
        add_running(kernel, Role::x);
        kernel.scalar(&slope);
        if (run.residual == Residual::add) kernel.tensor(Role::addend);
        if (other != nullptr) other->add_running(kernel, Role::addend);
        kernel.tensor(Role::out);
        Status s = kernel.run(run.choice);
        if (s.ok() && training) mask.valid = false;
        return s;
    }
    const bool has_mask = saves_mask(options.activation, run.residual);
    if (has_mask) {
        if (Status s = device->reserve_mask(static_cast<std::size_t>(mask_layout(run.call.shape).size)); !s.ok())
            return s;
    }
    const bool watched = diagnostics.report && options.track_running_stats && training;
    if (watched) {
        if (Status s = fetch_state(); !s.ok()) return s;
    }
    const double momentum = next_momentum(), other_momentum = other != nullptr ? other->next_momentum() : 0;
    add_training(kernel, Role::x, &momentum);
    kernel.scalar(&slope);
    if (run.residual == Residual::add) kernel.tensor(Role::addend);
    if (other != nullptr) other->add_training(kernel, Role::addend, &other_momentum);
    kernel.tensor(Role::out);
    if (has_mask) kernel.mask(reinterpret_cast<std::uint8_t*>(device->mask()));
    add_results_on_device(kernel);
    if (other != nullptr) other->add_results_on_device(kernel);
    if (Status s = kernel.run(run.choice); !s.ok()) {
        if (training) last = Last(), mask.valid = false;
        if (other != nullptr && other->training) other->last = Last();
        return s;
    }
    const auto kind = run.residual == Residual::none  ? Forward::plain
                      : run.residual == Residual::add ? Forward::add
                                                      : Forward::sum_first;
    const auto keep = [&](Impl& layer, Forward forward, const Impl* partner) {
        if (!layer.training) return;
        layer.last = {forward, run.call.shape, run.call.dtype, partner};
        const auto size = static_cast<std::size_t>(layer.features);
        layer.saved_mean.resize(size);
        layer.saved_inv_std.resize(size);
        if (!layer.options.track_running_stats) return;
        if (layer.state.num_batches_tracked < std::numeric_limits<std::int64_t>::max())
            ++layer.state.num_batches_tracked;
        layer.state_is_known = true;
    };
    if (watched) {
        // Before the count goes up, by the state that was fetched above.
        if (Status s = fetch_saved_into(scratch); !s.ok()) return s;
        measure_drift(scratch);
    }
    keep(*this, kind, other);
    if (training) {
        mask.valid = false;
        if (has_mask) describe_mask(run, true);
    }
    if (other != nullptr) keep(*other, Forward::sum_second, this);
    return Status();
}

Status BatchNorm::Impl::fetch_saved_into(Scratch& to) {
    if (Status s = device->download(to.mean.data(), Array::saved_mean); !s.ok()) return s;
    return device->download(to.inv_std.data(), Array::saved_inv_std);
}

Status BatchNorm::Impl::send_state() {
    const auto send = [&](Array to, const std::vector<float>& values) {
        return values.empty() ? Status() : device->upload(to, values.data());
    };
    if (Status s = send(Array::gamma, state.gamma); !s.ok()) return s;
    if (Status s = send(Array::beta, state.beta); !s.ok()) return s;
    if (Status s = send(Array::running_mean, state.running_mean); !s.ok()) return s;
    return send(Array::running_var, state.running_var);
}

Status BatchNorm::Impl::fetch_state() {
    const auto fetch = [&](std::vector<float>& values, Array from) {
        return values.empty() ? Status() : device->download(values.data(), from);
    };
    if (Status s = fetch(state.gamma, Array::gamma); !s.ok()) return s;
    if (Status s = fetch(state.beta, Array::beta); !s.ok()) return s;
    if (Status s = fetch(state.running_mean, Array::running_mean); !s.ok()) return s;
    return fetch(state.running_var, Array::running_var);
}

Status BatchNorm::Impl::fetch_saved() {
    if (saved_mean.empty()) return Status();  // there was no training batch yet
    if (Status s = device->download(saved_mean.data(), Array::saved_mean); !s.ok()) return s;
    return device->download(saved_inv_std.data(), Array::saved_inv_std);
}

Status BatchNorm::Impl::fetch_gradients() {
    if (grad_gamma.empty()) return Status();
    if (Status s = device->download(grad_gamma.data(), Array::grad_gamma); !s.ok()) return s;
    return device->download(grad_beta.data(), Array::grad_beta);
}

Status BatchNorm::Impl::add_statistics_on_device(KernelCall& kernel, const std::int32_t* batch_statistics) {
    const bool batch = *batch_statistics != 0;
    if (!batch) {
        if (Status s = device->make_constants(options.eps); !s.ok()) return s;
    }
    kernel.channels(gamma());
    kernel.channels(beta());
    kernel.channels(device->f64(batch ? Array::saved_mean : Array::other_mean));
    kernel.channels(device->f64(batch ? Array::saved_inv_std : Array::other_inv_std));
    kernel.scalar(batch_statistics);
    return Status();
}

void BatchNorm::Impl::add_gradients_on_device(KernelCall& kernel, const BackwardOptions& o) const {
    const auto in_place = [&](Gradient how) { return options.affine && how == Gradient::overwrite; };
    kernel.channels(device->f32(in_place(o.gamma) ? Array::grad_gamma : Array::made_mean));
    kernel.channels(device->f32(in_place(o.beta) ? Array::grad_beta : Array::made_var));
}

Status BatchNorm::Impl::keep_gradients_on_device(const BackwardOptions& o) {
    if (!options.affine) return Status();
    if (o.gamma == Gradient::accumulate) {
        if (Status s = device->add(Array::grad_gamma, Array::made_mean); !s.ok()) return s;
    }
    return o.beta == Gradient::accumulate ? device->add(Array::grad_beta, Array::made_var) : Status();
}

Status BatchNorm::Impl::prepare(const ConstTensor& x, Residual residual) {
    if (!device) return Status();
    ConstTensor tensor = x;
    if (tensor.data == nullptr) tensor.data = reinterpret_cast<const void*>(std::uintptr_t{256});
    const Given given[] = {{Role::x, "x", &tensor}};
    Call call;
    if (Status s = check_call(dimensions, features, given, 1, call, device->backend().has_addresses()); !s.ok())
        return s;
    if (Status s = device->prepare_helpers(); !s.ok()) return s;
    for (const auto& op : op_names) {
        if (Status s = prepare_operation(op.value, residual, call); !s.ok()) return s;
    }
    return Status();
}

// A run that launches nothing: with x for every tensor, and this layer for the other one.
Status BatchNorm::Impl::prepare_operation(Op op, Residual residual, const Call& of_x) {
    Call call = of_x;
    const auto also = [&](Role role, const char* name) {
        call[role] = of_x[Role::x];
        call[role].name = name;
    };
    also(Role::out, "y");
    if (residual != Residual::none) also(Role::addend, "residual");
    if (op == Op::backward) also(Role::dy, "dy");
    if (op == Op::backward && residual != Residual::none) also(Role::addend_out, "dresidual");
    const Choice choice = kernels.find(op, residual, call);
    if (choice.entry == nullptr) return Status();
    const bool has_mask = op != Op::inference && saves_mask(options.activation, residual);
    if (has_mask) {
        if (Status s = device->reserve_mask(static_cast<std::size_t>(mask_layout(call.shape).size)); !s.ok()) return s;
    }
    const auto mask_bytes = reinterpret_cast<std::uint8_t*>(device->mask());
    DeviceCall dry(*device, true);
    KernelCall kernel(call, features, &dry);
    const double momentum = 0;
    const std::int32_t yes = 1;
    const bool two = residual == Residual::batch_norm;
    const auto saved = [&] {
        kernel.channels(gamma());
        kernel.channels(beta());
        kernel.channels(device->f64(Array::saved_mean));
        kernel.channels(device->f64(Array::saved_inv_std));
        kernel.scalar(&yes);
    };
    switch (op) {
        case Op::inference:
            add_running(kernel, Role::x);
            kernel.scalar(&slope);
            if (residual == Residual::add) kernel.tensor(Role::addend);
            if (two) add_running(kernel, Role::addend);
            kernel.tensor(Role::out);
            break;
        case Op::train_forward:
            add_training(kernel, Role::x, &momentum);
            kernel.scalar(&slope);
            if (residual == Residual::add) kernel.tensor(Role::addend);
            if (two) add_training(kernel, Role::addend, &momentum);
            kernel.tensor(Role::out);
            if (has_mask) kernel.mask(mask_bytes);
            for (int i = 0; i < (two ? 2 : 1); ++i) add_results_on_device(kernel);
            break;
        case Op::backward:
            kernel.tensor(Role::x);
            kernel.tensor(Role::dy);
            saved();
            kernel.scalar(&yes);
            kernel.scalar(&slope);
            if (has_mask) {
                kernel.mask(mask_bytes);
            } else if (residual == Residual::add) {
                kernel.tensor(Role::addend);
            }
            if (two) {
                kernel.tensor(Role::addend);
                saved();
            }
            kernel.tensor(Role::out);
            if (residual != Residual::none) kernel.tensor(Role::addend_out);
            for (int i = 0; i < (two ? 2 : 1); ++i) add_gradients_on_device(kernel, BackwardOptions());
            break;
    }
    return kernel.dry_run(choice);
}

}  // namespace fusebn
