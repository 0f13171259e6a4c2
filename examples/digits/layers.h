// The layers, and what each must do: forward, backward, a step of the optimiser.
#pragma once

#include <fusebn/batch_norm.h>

#include <vector>

#include "matrix.h"
#include "random.h"

namespace digits {

// Stochastic gradient descent with momentum, as torch.optim.SGD has it: v = momentum * v + gradient; value -= lr * v
struct Sgd {
    float lr = 0.05f, momentum = 0.9f;
    void step(float* value, const float* gradient, std::vector<float>& velocity) const;
};

class Layer {
public:
    virtual ~Layer() = default;
    // Both results belong to the layer and hold until its next call.
    virtual const Matrix& forward(const Matrix& x) = 0;
    // Of the forward call before it: x as it was given there, dy the loss's gradient of what it returned. Returns the
    // loss's gradient of x, and keeps those of the parameters for step().
    virtual const Matrix& backward(const Matrix& x, const Matrix& dy) = 0;
    virtual void step(const Sgd&) {}
    virtual fusebn::BatchNorm* batch_norm() { return nullptr; }
};

// y[B][out] = x[B][in] * weight (+ bias). Without a bias where a batch norm follows, which would subtract it.
class Linear : public Layer {
public:
    Linear(int in, int out, bool bias, Random& random);
    const Matrix& forward(const Matrix& x) override;
    const Matrix& backward(const Matrix& x, const Matrix& dy) override;
    void step(const Sgd& sgd) override;

private:
    Matrix weight_, grad_weight_;  // [in][out]
    RowVector bias_, grad_bias_;   // empty: none
    std::vector<float> weight_velocity_, bias_velocity_;
    Matrix y_, dx_;
};

class Relu : public Layer {
public:
    const Matrix& forward(const Matrix& x) override { return y_ = x.cwiseMax(0.0f); }
    const Matrix& backward(const Matrix& x, const Matrix& dy) override {
        return dx_ = (x.array() > 0.0f).select(dy, 0.0f);
    }

private:
    Matrix y_, dx_;
};

// y[B][C] = the mean of x[B][pixels][C] over the pixels.
class GlobalAveragePool : public Layer {
public:
    explicit GlobalAveragePool(int pixels) : pixels_(pixels) {}
    const Matrix& forward(const Matrix& x) override;
    const Matrix& backward(const Matrix& x, const Matrix& dy) override;

private:
    int pixels_;
    Matrix y_, dx_;
};

}  // namespace digits
