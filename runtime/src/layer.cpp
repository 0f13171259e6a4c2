// y = act( gamma * (x - mean) / sqrt(var + eps) + beta ): which statistics a call uses, and what it changes.
#include "layer.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <new>

#include "context.h"
#include "text.h"

namespace fusebn {

using namespace detail;

namespace {

// Of the last call that ran on this thread; a string only when somebody asks. It has no destructor: one would run at
// the thread's end, when a library that was loaded at run time may be gone.
thread_local Choice last_kernel{};

fusebn_buffer buffer_of(void* data, int dimensions, fusebn_dim* dim) {
    fusebn_buffer buffer{};
    buffer.host = static_cast<std::uint8_t*>(data);
    buffer.type_code = 2;
    buffer.type_bits = 32;
    buffer.type_lanes = 1;
    buffer.dimensions = dimensions;
    buffer.dim = dim;
    return buffer;
}

// x or y, as kernels see it.
struct TensorBuffer {
    fusebn_dim dim[3];
    fusebn_buffer buffer;

    TensorBuffer(const Shape& shape, const Operand& operand) {
        const auto dimension = [](std::int64_t extent, std::int64_t stride) {
            return fusebn_dim{0, static_cast<std::int32_t>(extent), static_cast<std::int32_t>(stride), 0};
        };
        const bool planar = shape.view == View::planar;
        dim[0] = dimension(planar ? shape.inner : shape.channels, 1);
        dim[1] =
            planar ? dimension(shape.channels, operand.channel_stride) : dimension(shape.outer, operand.outer_stride);
        dim[2] = dimension(shape.outer, operand.outer_stride);
        buffer = buffer_of(operand.data, planar ? 3 : 2, dim);
    }
    TensorBuffer(const TensorBuffer&) = delete;
    TensorBuffer& operator=(const TensorBuffer&) = delete;
};

// Buffers of one value a channel, which all have the same dimension.
struct Channels {
    fusebn_dim dim;
    explicit Channels(int features) : dim{0, features, 1, 0} {}
    fusebn_buffer buffer(const float* values) { return buffer_of(const_cast<float*>(values), 1, &dim); }
};

Status outcome(int code, const Choice& choice) {
    if (code == 0) {
        last_kernel = choice;
        return Status();
    }
    if (code == FUSEBN_KERNEL_OUT_OF_MEMORY) {
        return Status(ErrorCode::out_of_memory, sentence("memory: the working memory of ", choice.kernel->name,
                                                         " could not be had; expected a few kilobytes a thread"));
    }
    return Status(ErrorCode::invalid_argument,
                  sentence("parallel_for: ", choice.kernel->name, " stopped with code ", code,
                           code == loop_threw ? ", as the function given to set_parallel_for threw" : "",
                           "; y is incomplete, the layer's state unchanged"));
}

}  // namespace

Status BatchNorm::Impl::forward(const ConstTensor& x, const Tensor& y) {
    if (!status.ok()) return status;
    Call call;
    if (Status s = check_call(dimensions, features, x, y, call); !s.ok()) return s;
    const bool by_batch = training || !options.track_running_stats;
    if (by_batch && call.shape.outer * call.shape.inner == 1) {
        return Status(ErrorCode::one_value_per_channel,
                      sentence("x: ", to_string(x.layout), " ", x.extents,
                               " has one value per channel, which has no variance; expected more than one, or ",
                               training ? "evaluation mode (eval())" : "a layer that tracks running statistics"));
    }
    const Op op = by_batch ? Op::train_forward : Op::inference;
    const Choice choice = kernels.find(op, call);
    if (choice.entry == nullptr) return kernels.refusal(op, call, x);
    return training ? train_forward(call, choice) : by_batch ? infer_by_batch(call, choice) : infer(call, choice);
}

Status BatchNorm::Impl::infer(const Call& call, const Choice& choice) const {
    const fusebn_context* context = kernel_context();
    TensorBuffer x(call.shape, call.x), y(call.shape, call.y);
    Channels channels(features);
    fusebn_buffer gamma_buffer = channels.buffer(gamma()), beta_buffer = channels.buffer(beta());
    fusebn_buffer mean = channels.buffer(state.running_mean.data()), var = channels.buffer(state.running_var.data());
    double eps = options.eps;
    void* arguments[] = {&context, &x.buffer, &gamma_buffer, &beta_buffer, &mean, &var, &eps, &y.buffer};
    return outcome(choice.entry(arguments), choice);
}

Status BatchNorm::Impl::normalise_by_batch(const Call& call, const Choice& choice, double momentum,
                                           float* results) const {
    const fusebn_context* context = kernel_context();
    TensorBuffer x(call.shape, call.x), y(call.shape, call.y);
    Channels channels(features);
    const bool tracks = options.track_running_stats;
    fusebn_buffer gamma_buffer = channels.buffer(gamma()), beta_buffer = channels.buffer(beta());
    fusebn_buffer running_mean = channels.buffer((tracks ? state.running_mean : zeros).data());
    fusebn_buffer running_var = channels.buffer((tracks ? state.running_var : ones).data());
    double eps = options.eps;
    std::int32_t ddof = 1;  // PyTorch's running variance is the unbiased one
    const std::ptrdiff_t size = features;
    fusebn_buffer mean = channels.buffer(results), inv_std = channels.buffer(results + size);
    fusebn_buffer new_mean = channels.buffer(results + 2 * size), new_var = channels.buffer(results + 3 * size);
    void* arguments[] = {&context,  &x.buffer, &gamma_buffer, &beta_buffer, &running_mean, &running_var, &eps,
                         &momentum, &ddof,     &y.buffer,     &mean,        &inv_std,      &new_mean,    &new_var};
    return outcome(choice.entry(arguments), choice);
}

Status BatchNorm::Impl::train_forward(const Call& call, const Choice& choice) {
    const std::int64_t batches = state.num_batches_tracked;
    // A count that can count no further stays.
    const std::int64_t batches_after = batches + (batches < std::numeric_limits<std::int64_t>::max() ? 1 : 0);
    double momentum = options.momentum.value();
    if (options.momentum.is_cumulative()) momentum = 1.0 / static_cast<double>(batches_after);
    float* const results = scratch.data();
    if (Status s = normalise_by_batch(call, choice, momentum, results); !s.ok()) return s;

    const std::ptrdiff_t size = features;
    saved_mean.assign(results, results + size);
    saved_inv_std.assign(results + size, results + 2 * size);
    if (options.track_running_stats) {
        state.num_batches_tracked = batches_after;
        std::copy_n(results + 2 * size, size, state.running_mean.data());
        std::copy_n(results + 3 * size, size, state.running_var.data());
    }
    return Status();
}

// Evaluation mode without running statistics: nothing of the call is kept, so that several threads may call at once;
// those that find the layer's scratch taken bring their own.
Status BatchNorm::Impl::infer_by_batch(const Call& call, const Choice& choice) {
    if (!scratch_in_use.test_and_set(std::memory_order_acquire)) {
        Status s = normalise_by_batch(call, choice, 0.0, scratch.data());
        scratch_in_use.clear(std::memory_order_release);
        return s;
    }
    const std::unique_ptr<float[]> own(new (std::nothrow) float[scratch.size()]);
    if (!own) return outcome(FUSEBN_KERNEL_OUT_OF_MEMORY, choice);
    return normalise_by_batch(call, choice, 0.0, own.get());
}

std::string detail::last_kernel_of_this_thread() {
    return last_kernel.kernel != nullptr ? describe(last_kernel) : std::string();
}

}  // namespace fusebn
