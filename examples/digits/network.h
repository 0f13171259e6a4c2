// Layers one behind the other, and the loss.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "layers.h"

namespace digits {

class Network {
public:
    template <class L, class... Arguments>
    void add(Arguments&&... arguments) {
        layers_.push_back(std::make_unique<L>(std::forward<Arguments>(arguments)...));
    }

    // The logits [B][classes] of x.
    const Matrix& forward(const Matrix& x);
    // Of the last forward call: dlogits is the loss's gradient of what it returned. `x` as it was given.
    void backward(const Matrix& x, const Matrix& dlogits);
    void step(const Sgd& sgd);

    std::vector<fusebn::BatchNorm*> batch_norms() const;

private:
    std::vector<std::unique_ptr<Layer>> layers_;
    std::vector<const Matrix*> outputs_;  // of the last forward call, one a layer
};

// The mean over the batch of -log(softmax(logits)[label]), and its gradient.
double cross_entropy(const Matrix& logits, const std::vector<int>& labels, Matrix& dlogits);

}  // namespace digits
