// y = act( gamma * (x - mean) / sqrt(var + eps) + beta [+ residual] ): which statistics a call uses, and what it
// changes.
#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>

#include "layer.h"
#include "text.h"

namespace fusebn {

using namespace detail;

namespace {

const char* name_of_addend(Residual residual) { return residual == Residual::add ? "residual" : "x_other"; }

// Where a mask for `call` may be written: in `kept` or, where that is too small, in `grown`, so that what is kept
// outlives a call that fails. Null: no memory.
std::uint8_t* room_for_mask(const Call& call, const AlignedBuffer& kept, AlignedBuffer& grown) {
    const auto bytes = static_cast<std::size_t>(mask_layout(call.shape).size / 8);
    if (bytes <= kept.size()) return kept.data();
    return grown.reserve(bytes) ? grown.data() : nullptr;
}

Status no_memory_for_mask(const Call& call) {
    return Status(ErrorCode::out_of_memory, sentence("memory: there is none for the ", mask_layout(call.shape).size / 8,
                                                     " bytes that forward_add keeps for backward, a bit an element"));
}

}  // namespace

Status BatchNorm::Impl::forward(Residual residual, const ConstTensor& x, const ConstTensor* addend, Impl* other,
                                const Tensor& y) {
    if (!status.ok()) return status;
    if (other != nullptr) {
        if (Status s = check_other(*other); !s.ok()) return s;
    }
    const ConstTensor out = y;
    const Given given[] = {
        {Role::x, "x", &x}, {Role::out, "y", &out}, {Role::addend, name_of_addend(residual), addend}};
    Call call;
    call.opaque = opaque;
    if (Status s = check_call(dimensions, features, given, addend != nullptr ? 3 : 2, call); !s.ok()) return s;
    const bool batch = by_batch();
    if (batch && call.shape.outer * call.shape.inner == 1) {
        return Status(ErrorCode::one_value_per_channel,
                      sentence("x: ", to_string(x.layout), " ", x.extents,
                               " has one value per channel, which has no variance; expected more than one, or ",
                               options.track_running_stats ? "evaluation mode (eval())"
                                                           : "a layer that tracks running statistics"));
    }
    const Op op = batch ? Op::train_forward : Op::inference;
    const Choice choice = kernels.find(op, residual, call);
    if (choice.entry == nullptr) return kernels.refusal(op, residual, call, x);
    const ForwardRun run{residual, other, call, choice};
    if (device != nullptr) return forward_on_device(run);
    return batch ? forward_by_batch(run) : forward_by_running(run);
}

bool BatchNorm::Impl::keeps_mask_of_result(Residual residual) const {
    return training && saves_mask(options.activation, residual) &&
           (options.activation != Activation::leaky_relu || slope >= 0);
}

void BatchNorm::Impl::add_running(KernelCall& kernel, Role x) const {
    kernel.tensor(x);
    kernel.channels(parameters.gamma);
    kernel.channels(parameters.beta);
    kernel.channels(parameters.running_mean);
    kernel.channels(parameters.running_var);
    kernel.scalar(&options.eps);
}

void BatchNorm::Impl::add_training(KernelCall& kernel, Role x, const double* momentum) const {
    add_running(kernel, x);
    kernel.scalar(momentum);
    kernel.scalar(&ddof);
}

void BatchNorm::Impl::add_results(KernelCall& kernel, const Results& results) {
    kernel.channels(results.mean);
    kernel.channels(results.inv_std);
    kernel.channels(results.running_mean);
    kernel.channels(results.running_var);
}

// In evaluation mode this changes nothing but `reported_eval`, so that several threads may call at once.
Status BatchNorm::Impl::forward_by_running(const ForwardRun& run) {
    // With frozen statistics backward_add needs the mask as well, which inference kernels do not make: it is read off
    // y. Where the slope is negative, y does not tell what passed.
    const bool keeps_mask = keeps_mask_of_result(run.residual);
    AlignedBuffer grown;
    std::uint8_t* bits = nullptr;
    if (keeps_mask) {
        bits = room_for_mask(run.call, mask.buffer, grown);
        if (bits == nullptr) return no_memory_for_mask(run.call);
    }
    KernelCall kernel(run.call, features);
    add_running(kernel, Role::x);
    kernel.scalar(&slope);
    if (run.residual == Residual::add) kernel.tensor(Role::addend);
    if (run.other != nullptr) run.other->add_running(kernel, Role::addend);
    kernel.tensor(Role::out);
    if (Status s = kernel.run(run.choice); !s.ok()) return s;
    if (training) mask.valid = false;
    if (!keeps_mask) return Status();
    const int code = mask_of_result(kernel.context(), run.call, options.activation, bits);
    if (grown.size() != 0) std::swap(mask.buffer, grown);
    if (code == 0) describe_mask(run, false);
    return outcome(code, run.choice);
}

Status BatchNorm::Impl::forward_by_batch(const ForwardRun& run) {
    Impl* const other = run.other;
    // A mode of evaluation without running statistics keeps nothing of the call.
    const ScratchLease lease(&scratch, training);
    const ScratchLease other_lease(other != nullptr ? &other->scratch : nullptr, other != nullptr && other->training);
    Scratch* const results = lease.get();
    Scratch* const other_results = other_lease.get();
    if (results == nullptr || (other != nullptr && other_results == nullptr)) {
        return outcome(FUSEBN_KERNEL_OUT_OF_MEMORY, run.choice);
    }
    const bool has_mask = saves_mask(options.activation, run.residual);
    AlignedBuffer& kept = training ? mask.buffer : results->mask;
    AlignedBuffer grown;
    std::uint8_t* bits = nullptr;
    if (has_mask) {
        bits = room_for_mask(run.call, kept, grown);
        if (bits == nullptr) return no_memory_for_mask(run.call);
    }

    const double momentum = next_momentum(), other_momentum = other != nullptr ? other->next_momentum() : 0;
    KernelCall kernel(run.call, features);
    add_training(kernel, Role::x, &momentum);
    kernel.scalar(&slope);
    if (run.residual == Residual::add) kernel.tensor(Role::addend);
    if (other != nullptr) other->add_training(kernel, Role::addend, &other_momentum);
    kernel.tensor(Role::out);
    if (has_mask) kernel.mask(bits);
    add_results(kernel, results->places());
    if (other != nullptr) add_results(kernel, other_results->places());
    if (Status s = kernel.run(run.choice); !s.ok()) {
        // Where it stopped midway, bits of the last call and of this one may be mixed; and to take this call's x for
        // the last one's would be wrong in silence.
        if (s.code() != ErrorCode::out_of_memory) {
            if (training) last = Last(), mask.valid = false;
            if (other != nullptr && other->training) other->last = Last();
        }
        return s;
    }

    if (grown.size() != 0) std::swap(kept, grown);
    const auto kind = run.residual == Residual::none  ? Forward::plain
                      : run.residual == Residual::add ? Forward::add
                                                      : Forward::sum_first;
    if (training) {
        keep_results(*results);
        last = {kind, run.call.shape, run.call.dtype, other};
        mask.valid = false;
        if (has_mask) describe_mask(run, true);
    }
    if (other != nullptr && other->training) {
        other->keep_results(*other_results);
        other->last = {Forward::sum_second, run.call.shape, run.call.dtype, this};
    }
    return Status();
}

double BatchNorm::Impl::next_momentum() const {
    if (!options.momentum.is_cumulative()) return options.momentum.value();
    const std::int64_t batches = state.num_batches_tracked;
    return 1.0 / (static_cast<double>(batches) + 1.0);
}

void BatchNorm::Impl::keep_results(const Scratch& results) {
    saved_mean.assign(results.mean.begin(), results.mean.end());
    saved_inv_std.assign(results.inv_std.begin(), results.inv_std.end());
    if (!options.track_running_stats) return;
    measure_drift(results.mean, results.inv_std);
    std::copy(results.running_mean.begin(), results.running_mean.end(), state.running_mean.begin());
    std::copy(results.running_var.begin(), results.running_var.end(), state.running_var.begin());
    count_batch();
}

void BatchNorm::Impl::count_batch() {
    // A count that can count no further stays.
    if (state.num_batches_tracked < std::numeric_limits<std::int64_t>::max()) ++state.num_batches_tracked;
    state_is_known = true;
}

void BatchNorm::Impl::describe_mask(const ForwardRun& run, bool by_batch_statistics) {
    mask.valid = true;
    mask.by_batch = by_batch_statistics;
    mask.dtype = run.call.dtype;
    mask.shape = run.call.shape;
}

}  // namespace fusebn
