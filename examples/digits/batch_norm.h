// y = relu(gamma * (x - mean) / sqrt(var + eps) + beta), by fusebn: one pass forward, one backward.
#pragma once

#include <memory>

#include "layers.h"

namespace digits {

class BatchNormRelu : public Layer {
public:
    // torch.nn.BatchNorm1d over [B][features].
    explicit BatchNormRelu(int features);
    // torch.nn.BatchNorm2d over [B][side][side][features].
    BatchNormRelu(int side, int features);

    const Matrix& forward(const Matrix& x) override;
    const Matrix& backward(const Matrix& x, const Matrix& dy) override;
    void step(const Sgd& sgd) override;
    fusebn::BatchNorm* batch_norm() override { return bn_.get(); }

private:
    // `matrix` as fusebn is to see it.
    template <class AnyMatrix>
    auto tensor(AnyMatrix& matrix) const;

    std::unique_ptr<fusebn::BatchNorm> bn_;
    int side_ = 0;  // 0: no pixels, [B][features]
    std::vector<float> gamma_velocity_, beta_velocity_;
    Matrix y_, dx_;
};

}  // namespace digits
