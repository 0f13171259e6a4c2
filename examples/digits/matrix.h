// Every tensor of the networks is a matrix of rows in memory order: [B][D] in the perceptron, and channels last in the
// convolutional network, [B * H * W][C], which is NHWC.
#pragma once

#include <Eigen/Core>

namespace digits {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using RowVector = Eigen::Matrix<float, 1, Eigen::Dynamic>;

}  // namespace digits
