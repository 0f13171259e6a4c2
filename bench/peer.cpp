// Layers behind a C interface, for peers.py: it loads this library into the process that PyTorch and JAX are in too.
// Calls return 0, or what failed is in fusebn_peer_error().
#include <peer_shapes.h>

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

template <class T>
auto view(const Shape& shape, T* data) {
    return tensor(data, shape.nhwc != 0 ? Layout::NHWC : Layout::NCHW, Extents(shape.extents, 4));
}

}  // namespace

extern "C" {

FUSEBN_PEER const char* fusebn_peer_error() { return last_error.c_str(); }

FUSEBN_PEER int fusebn_peer_set_threads(int count) { return outcome(set_num_threads(count)); }

// A layer with a ReLU, in training mode; null where it cannot be.
FUSEBN_PEER void* fusebn_peer_create(int channels, const float* gamma, const float* beta, const float* running_mean,
                                     const float* running_var) {
    BatchNormOptions options;
    options.activation = Activation::relu;
    auto layer = std::make_unique<BatchNorm2d>(channels, peer_shapes::kernels(), options);
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

// `residual` may be null.
FUSEBN_PEER int fusebn_peer_forward(void* layer, const Shape* shape, const float* x, const float* residual, float* y) {
    BatchNorm2d& bn = *static_cast<BatchNorm2d*>(layer);
    if (residual == nullptr) return outcome(bn.forward(view(*shape, x), view(*shape, y)));
    return outcome(bn.forward_add(view(*shape, x), view(*shape, residual), view(*shape, y)));
}

FUSEBN_PEER int fusebn_peer_backward(void* layer, const Shape* shape, const float* x, const float* dy, float* dx) {
    BatchNorm2d& bn = *static_cast<BatchNorm2d*>(layer);
    return outcome(bn.backward(view(*shape, x), view(*shape, dy), view(*shape, dx)));
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
