// Layers behind a C interface, for peers.py: it loads this library, and one with the kernels, into the process that
// PyTorch and JAX are in too. Calls return 0, or what failed is in fusebn_peer_error().
#include <cstdint>
#include <memory>
#include <string>

#include "fusebn/batch_norm.h"

#define FUSEBN_PEER __attribute__((visibility("default")))

namespace {

using namespace fusebn;

std::string last_error;

int outcome(const Status& status) {
    last_error = status.message();
    return status.ok() ? 0 : 1;
}

// Dense f32 tensors of one shape, their extents in the layout's order.
struct Shape {
    std::int32_t nhwc;
    std::int64_t extents[4];
};

// Of one call. `other` is null where nothing is added, or where `x_other` is a residual; otherwise it is the layer of
// the branch that `x_other` belongs to.
struct Call {
    BatchNorm2d *layer, *other;
    Shape shape;
    const float *x, *x_other;
};

template <class T>
auto view(const Shape& shape, T* data) {
    return tensor(data, shape.nhwc != 0 ? Layout::NHWC : Layout::NCHW, Extents(shape.extents, 4));
}

}  // namespace

extern "C" {

FUSEBN_PEER const char* fusebn_peer_error() { return last_error.c_str(); }

FUSEBN_PEER int fusebn_peer_set_threads(int count) { return outcome(set_num_threads(count)); }

// A layer in training mode over a generated library's table of kernels; null where it cannot be.
FUSEBN_PEER void* fusebn_peer_create(const KernelTable* kernels, int channels, const char* activation,
                                     const float* gamma, const float* beta, const float* running_mean,
                                     const float* running_var) {
    BatchNormOptions options;
    bool known = false;
    for (const auto& [value, name] : activation_names) {
        if (name != activation) continue;
        options.activation = value;
        known = true;
    }
    if (!known) {
        last_error = std::string("activation is ") + activation + ", which fusebn has not";
        return nullptr;
    }
    auto layer = std::make_unique<BatchNorm2d>(channels, *kernels, options);
    BatchNormState state;
    state.gamma.assign(gamma, gamma + channels);
    state.beta.assign(beta, beta + channels);
    state.running_mean.assign(running_mean, running_mean + channels);
    state.running_var.assign(running_var, running_var + channels);
    return outcome(layer->set_state(state)) == 0 ? layer.release() : nullptr;
}

FUSEBN_PEER void fusebn_peer_destroy(void* layer) { delete static_cast<BatchNorm2d*>(layer); }

FUSEBN_PEER void fusebn_peer_train(void* layer, int training) {
    static_cast<BatchNorm2d*>(layer)->train(training != 0);
}

FUSEBN_PEER int fusebn_peer_forward(const Call* call, float* y_data) {
    const ConstTensor x = view(call->shape, call->x);
    const Tensor y = view(call->shape, y_data);
    if (call->x_other == nullptr) return outcome(call->layer->forward(x, y));
    const ConstTensor x_other = view(call->shape, call->x_other);
    if (call->other == nullptr) return outcome(call->layer->forward_add(x, x_other, y));
    return outcome(call->layer->forward_sum(x, *call->other, x_other, y));
}

// `dx_other_data` is the gradient of what `x_other` is, and null with it.
FUSEBN_PEER int fusebn_peer_backward(const Call* call, const float* dy_data, float* dx_data, float* dx_other_data) {
    const ConstTensor x = view(call->shape, call->x), dy = view(call->shape, dy_data);
    const Tensor dx = view(call->shape, dx_data);
    if (call->x_other == nullptr) return outcome(call->layer->backward(x, dy, dx));
    const ConstTensor x_other = view(call->shape, call->x_other);
    const Tensor dx_other = view(call->shape, dx_other_data);
    if (call->other != nullptr) return outcome(call->layer->backward_sum(x, *call->other, x_other, dy, dx, dx_other));
    BackwardOptions options;
    options.residual = x_other;
    return outcome(call->layer->backward_add(x, dy, dx, dx_other, options));
}

// A value a channel, of the last call of backward.
FUSEBN_PEER const float* fusebn_peer_dgamma(void* layer) {
    return static_cast<BatchNorm2d*>(layer)->grad_gamma().data();
}
FUSEBN_PEER const float* fusebn_peer_dbeta(void* layer) { return static_cast<BatchNorm2d*>(layer)->grad_beta().data(); }

// The kernel of the last call, and the instruction set.
FUSEBN_PEER const char* fusebn_peer_last_kernel() {
    static std::string name;
    name = BatchNorm::last_kernel();
    return name.c_str();
}

}  // extern "C"
