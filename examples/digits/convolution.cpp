#include "convolution.h"

namespace digits {

Convolution3x3::Convolution3x3(int side, int in, int out, int stride, bool bias, Random& random)
    : side_(side), in_(in), stride_(stride), product_(9 * in, out, bias, random) {}

template <class Visit>
void Convolution3x3::for_each_tap(Eigen::Index batch, Visit visit) const {
    const int out_side = side_ / stride_;
    Eigen::Index row = 0;
    for (Eigen::Index b = 0; b < batch; ++b) {
        for (int i = 0; i < out_side; ++i) {
            for (int j = 0; j < out_side; ++j, ++row) {
                for (int tap = 0; tap < 9; ++tap) {
                    const int h = i * stride_ + tap / 3 - 1, w = j * stride_ + tap % 3 - 1;
                    if (h < 0 || h >= side_ || w < 0 || w >= side_) continue;
                    visit(((b * side_ + h) * side_ + w) * in_, row, tap * in_);
                }
            }
        }
    }
}

const Matrix& Convolution3x3::forward(const Matrix& x) {
    const Eigen::Index batch = x.size() / (side_ * side_ * in_);
    const Eigen::Index out_pixels = (side_ / stride_) * (side_ / stride_);
    patches_.setZero(batch * out_pixels, 9 * in_);
    for_each_tap(batch, [&](Eigen::Index pixel, Eigen::Index row, Eigen::Index column) {
        patches_.row(row).segment(column, in_) = Eigen::Map<const RowVector>(x.data() + pixel, in_);
    });
    return product_.forward(patches_);
}

const Matrix& Convolution3x3::backward(const Matrix& x, const Matrix& dy) {
    const Matrix& dpatches = product_.backward(patches_, dy);
    dx_.setZero(x.rows(), x.cols());
    for_each_tap(x.size() / (side_ * side_ * in_), [&](Eigen::Index pixel, Eigen::Index row, Eigen::Index column) {
        Eigen::Map<RowVector>(dx_.data() + pixel, in_) += dpatches.row(row).segment(column, in_);
    });
    return dx_;
}

}  // namespace digits
