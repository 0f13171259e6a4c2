// A 3x3 convolution as one matrix product: im2col, then Eigen.
#pragma once

#include "layers.h"

namespace digits {

// y[B][side / stride][side / stride][out] of x[B][side][side][in], zeros around the image.
class Convolution3x3 : public Layer {
public:
    Convolution3x3(int side, int in, int out, int stride, bool bias, Random& random);
    const Matrix& forward(const Matrix& x) override;
    const Matrix& backward(const Matrix& x, const Matrix& dy) override;
    void step(const Sgd& sgd) override { product_.step(sgd); }

private:
    // Calls visit(pixel, row, column) for each of the nine input pixels of each output pixel that lie in the image:
    // where its channels start in x, and where they stand in patches_.
    template <class Visit>
    void for_each_tap(Eigen::Index batch, Visit visit) const;

    int side_, in_, stride_;
    Linear product_;       // [9 * in] to [out]: weights in the order [row][column][in][out]
    Matrix patches_, dx_;  // patches: [B * (side / stride)^2][9 * in]
};

}  // namespace digits
