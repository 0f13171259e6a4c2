#include "layers.h"

namespace digits {

void Sgd::step(float* value, const float* gradient, std::vector<float>& velocity) const {
    for (std::size_t i = 0; i < velocity.size(); ++i) {
        velocity[i] = momentum * velocity[i] + gradient[i];
        value[i] -= lr * velocity[i];
    }
}

Linear::Linear(int in, int out, bool bias, Random& random)
    : weight_(random.he_uniform(in, out, in)),
      bias_(RowVector::Zero(bias ? out : 0)),
      weight_velocity_(static_cast<std::size_t>(weight_.size())),
      bias_velocity_(static_cast<std::size_t>(bias_.size())) {}

const Matrix& Linear::forward(const Matrix& x) {
    y_.noalias() = x * weight_;
    if (bias_.size() != 0) y_.rowwise() += bias_;
    return y_;
}

const Matrix& Linear::backward(const Matrix& x, const Matrix& dy) {
    grad_weight_.noalias() = x.transpose() * dy;
    if (bias_.size() != 0) grad_bias_ = dy.colwise().sum();
    dx_.noalias() = dy * weight_.transpose();
    return dx_;
}

void Linear::step(const Sgd& sgd) {
    sgd.step(weight_.data(), grad_weight_.data(), weight_velocity_);
    sgd.step(bias_.data(), grad_bias_.data(), bias_velocity_);
}

const Matrix& GlobalAveragePool::forward(const Matrix& x) {
    const Eigen::Index batch = x.rows() / pixels_;
    y_.resize(batch, x.cols());
    for (Eigen::Index b = 0; b < batch; ++b) y_.row(b) = x.middleRows(b * pixels_, pixels_).colwise().mean();
    return y_;
}

const Matrix& GlobalAveragePool::backward(const Matrix& x, const Matrix& dy) {
    dx_.resize(x.rows(), x.cols());
    for (Eigen::Index row = 0; row < x.rows(); ++row)
        dx_.row(row) = dy.row(row / pixels_) / static_cast<float>(pixels_);
    return dx_;
}

}  // namespace digits
