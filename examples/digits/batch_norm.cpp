#include "batch_norm.h"

#include <digits_bn.h>

#include <stdexcept>

namespace digits {

namespace {

const fusebn::BatchNormOptions with_relu = {.activation = fusebn::Activation::relu};

void require(const fusebn::Status& status) {
    if (!status.ok()) throw std::runtime_error(status.message());
}

}  // namespace

BatchNormRelu::BatchNormRelu(int features)
    : bn_(std::make_unique<fusebn::BatchNorm1d>(features, digits_bn::kernels(), with_relu)),
      gamma_velocity_(static_cast<std::size_t>(features)),
      beta_velocity_(static_cast<std::size_t>(features)) {
    require(bn_->status());
}

BatchNormRelu::BatchNormRelu(int side, int features)
    : bn_(std::make_unique<fusebn::BatchNorm2d>(features, digits_bn::kernels(), with_relu)),
      side_(side),
      gamma_velocity_(static_cast<std::size_t>(features)),
      beta_velocity_(static_cast<std::size_t>(features)) {
    require(bn_->status());
}

template <class AnyMatrix>
auto BatchNormRelu::tensor(AnyMatrix& matrix) const {
    if (side_ == 0) return fusebn::tensor(matrix.data(), fusebn::Layout::NC, {matrix.rows(), matrix.cols()});
    const Eigen::Index batch = matrix.rows() / (side_ * side_);
    return fusebn::tensor(matrix.data(), fusebn::Layout::NHWC, {batch, side_, side_, matrix.cols()});
}

const Matrix& BatchNormRelu::forward(const Matrix& x) {
    y_.resize(x.rows(), x.cols());
    require(bn_->forward(tensor(x), tensor(y_)));
    return y_;
}

const Matrix& BatchNormRelu::backward(const Matrix& x, const Matrix& dy) {
    dx_.resize(x.rows(), x.cols());
    require(bn_->backward(tensor(x), tensor(dy), tensor(dx_)));
    return dx_;
}

void BatchNormRelu::step(const Sgd& sgd) {
    sgd.step(bn_->gamma(), bn_->grad_gamma().data(), gamma_velocity_);
    sgd.step(bn_->beta(), bn_->grad_beta().data(), beta_velocity_);
}

}  // namespace digits
