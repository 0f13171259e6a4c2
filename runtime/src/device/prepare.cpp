// All that is slow or allocates in the calls of one shape, made ahead of them.
#include <utility>

#include "device/helpers.h"
#include "layer.h"
#include "text.h"

namespace fusebn {

using namespace detail;

namespace {

// Never followed; aligned as an allocation's start is, so that the vectorised entry is taken.
void* stand_in(int i) { return reinterpret_cast<void*>(static_cast<std::uintptr_t>(4096 * (i + 1))); }

}  // namespace

Status BatchNorm::Impl::prepare(const ConstTensor& x, const std::vector<Op>& ops, Residual residual) {
    if (!status.ok()) return status;
    for (const Op op : ops) {
        if (static_cast<std::size_t>(op) < std::size(op_names)) continue;
        return Status(
            ErrorCode::invalid_argument,
            sentence("ops: ", static_cast<int>(op), " is unknown; expected Op::inference, train_forward or backward"));
    }
    if (static_cast<std::size_t>(residual) >= std::size(residual_names)) {
        return Status(ErrorCode::invalid_argument, sentence("residual: ", static_cast<int>(residual),
                                                            " is unknown; expected Residual::none, add or batch_norm"));
    }
    ConstTensor form = x;
    form.data = stand_in(0);
    const Given given{Role::x, "x", &form};
    Call checked;
    if (Status s = check_call(dimensions, features, &given, 1, checked); !s.ok()) return s;
    for (const Op op : ops) {
        Call call = checked;
        const auto add = [&](Role role, const char* name) {
            call[role] = call[Role::x];
            call[role].name = name;
            call[role].data = stand_in(static_cast<int>(role));
        };
        add(Role::out, op == Op::backward ? "dx" : "y");
        if (op == Op::backward) add(Role::dy, "dy");
        if (residual != Residual::none) add(Role::addend, "residual");
        if (residual != Residual::none && op == Op::backward) add(Role::addend_out, "dresidual");
        const Choice choice = kernels.find(op, residual, call);
        if (choice.entry == nullptr) return kernels.refusal(op, residual, call, x);
        if (device == nullptr) continue;
        if (Status s = rehearse(op, residual, call, choice); !s.ok()) return s;
    }
    return Status();
}

Status BatchNorm::Impl::rehearse(Op op, Residual residual, const Call& call, const Choice& choice) {
    const std::lock_guard<std::mutex> lock(device->busy);
    const ContextScope scope(device->backend());
    if (!scope.status().ok()) return scope.status();
    const bool has_mask = op != Op::inference && saves_mask(options.activation, residual);
    if (has_mask || keeps_mask_of_result(residual)) {
        // Where there is one spatial element, backward may want the mask in the other view: planar is the larger.
        Call larger = call;
        if (call.shape.inner == 1) larger.shape.view = View::planar;
        const bool both = call.shape.inner == 1 || !training;
        if (Status s = reserve_mask(device->mask, larger); !s.ok()) return s;
        if (both) {
            if (Status s = reserve_mask(device->spare_mask, larger); !s.ok()) return s;
        }
    }
    if (op == Op::backward || residual == Residual::add) {
        if (Status s = prepare_helpers(device->launcher); !s.ok()) return s;
    }
    for (const fusebn_entry entry : {choice.variant->entry, choice.variant->entry_unaligned}) {
        if (entry == nullptr) continue;
        if (op != Op::backward) {
            if (Status s = rehearse_forward(op == Op::train_forward, residual, call, choice, entry); !s.ok()) return s;
            continue;
        }
        for (const auto& [wanted, has_dx] : {std::pair(true, true), std::pair(true, false), std::pair(false, true)}) {
            if (Status s = rehearse_backward({residual, wanted, has_dx}, call, choice, entry); !s.ok()) return s;
        }
    }
    return Status();
}

Status BatchNorm::Impl::rehearse_forward(bool train, Residual residual, const Call& call, const Choice& choice,
                                         fusebn_entry entry) {
    const double momentum = 0;
    KernelCall kernel(call, features);
    const auto add = [&](Role x) { train ? add_training(kernel, x, &momentum) : add_running(kernel, x); };
    add(Role::x);
    kernel.scalar(&slope);
    if (residual == Residual::add) kernel.tensor(Role::addend);
    if (residual == Residual::batch_norm) add(Role::addend);
    kernel.tensor(Role::out);
    if (train && saves_mask(options.activation, residual)) {
        kernel.mask(DeviceLayer::pointer<std::uint8_t>(device->mask.handle()));
    }
    if (train) add_results(kernel, results_on_device());
    if (train && residual == Residual::batch_norm) add_results(kernel, results_on_device());
    return device->launcher.rehearse(kernel, choice, entry);
}

Status BatchNorm::Impl::rehearse_backward(const Rehearsal& what, Call call, const Choice& choice, fusebn_entry entry) {
    using D = DeviceLayer;
    if (!what.has_dx) call[Role::out].name = call[Role::addend_out].name = nullptr;
    const BackwardOptions defaults;
    const ConstTensor none;
    const BackwardArguments arguments{what.residual, none, none, nullptr, this, std::nullopt, std::nullopt, defaults};
    const BackwardSide side{{device->f64(D::spare_mean), device->f64(D::spare_inv_std)},
                            device->f32(D::spare_dgamma),
                            device->f32(D::spare_dbeta)};
    KernelCall kernel(call, features);
    add_backward(kernel, {arguments, call, choice, what.wanted}, D::pointer<std::uint8_t>(device->mask.handle()), side,
                 what.residual == Residual::batch_norm ? &side : nullptr);
    return device->launcher.rehearse(kernel, choice, entry);
}

}  // namespace fusebn
