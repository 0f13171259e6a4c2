#include "network.h"

#include <cmath>

namespace digits {

const Matrix& Network::forward(const Matrix& x) {
    outputs_.clear();
    const Matrix* input = &x;
    for (const auto& layer : layers_) {
        input = &layer->forward(*input);
        outputs_.push_back(input);
    }
    return *input;
}

void Network::backward(const Matrix& x, const Matrix& dlogits) {
    const Matrix* gradient = &dlogits;
    for (std::size_t i = layers_.size(); i-- > 0;) {
        gradient = &layers_[i]->backward(i == 0 ? x : *outputs_[i - 1], *gradient);
    }
}

void Network::step(const Sgd& sgd) {
    for (const auto& layer : layers_) layer->step(sgd);
}

std::vector<fusebn::BatchNorm*> Network::batch_norms() const {
    std::vector<fusebn::BatchNorm*> found;
    for (const auto& layer : layers_) {
        if (layer->batch_norm() != nullptr) found.push_back(layer->batch_norm());
    }
    return found;
}

double cross_entropy(const Matrix& logits, const std::vector<int>& labels, Matrix& dlogits) {
    dlogits.resize(logits.rows(), logits.cols());
    double loss = 0;
    for (Eigen::Index b = 0; b < logits.rows(); ++b) {
        const int label = labels[static_cast<std::size_t>(b)];
        // Less the largest logit: exp cannot overflow, and the softmax is the same.
        const RowVector shifted = logits.row(b).array() - logits.row(b).maxCoeff();
        const RowVector powers = shifted.array().exp();
        const float sum = powers.sum();
        loss += std::log(sum) - shifted[label];
        dlogits.row(b) = powers / sum;
        dlogits(b, label) -= 1;
    }
    const auto batch = static_cast<float>(logits.rows());
    dlogits /= batch;
    return loss / batch;
}

}  // namespace digits
