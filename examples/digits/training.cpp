#include "training.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace digits {

Network train(const MakeNetwork& make, const Digits& data, const TrainingOptions& options, const Observer& observer) {
    const int batches = static_cast<int>(data.train.size()) / options.batch;
    if (batches == 0) throw std::runtime_error("the training images do not fill one batch");
    Random random(options.seed);
    Network network = make(options.batch_norm, random);
    Matrix dlogits;
    for (int epoch = 1; epoch <= options.epochs; ++epoch) {
        const std::vector<int> order = random.permutation(data.train.size());
        double loss = 0;
        for (int i = 0; i < batches; ++i) {
            const auto first = order.begin() + static_cast<std::ptrdiff_t>(i) * options.batch;
            const Images batch = pick(data.train, {first, first + options.batch});
            loss += cross_entropy(network.forward(batch.pixels), batch.labels, dlogits);
            network.backward(batch.pixels, dlogits);
            network.step(options.sgd);
            if (observer.on_batch) observer.on_batch(epoch, i + 1, batches, loss / (i + 1));
        }

        const fusebn::EvalGuard evaluating(network.batch_norms());
        const double tested = accuracy(network, data.test, data.test.size());
        if (observer.on_epoch) observer.on_epoch({epoch, loss / batches, tested});
    }
    return network;
}

double accuracy(Network& network, const Images& images, std::size_t batch) {
    std::size_t right = 0;
    for (std::size_t first = 0; first < images.size(); first += batch) {
        std::vector<int> rows(std::min(batch, images.size() - first));
        std::iota(rows.begin(), rows.end(), static_cast<int>(first));
        const Images part = pick(images, rows);
        const Matrix& logits = network.forward(part.pixels);
        for (Eigen::Index b = 0; b < logits.rows(); ++b) {
            Eigen::Index answer = 0;
            logits.row(b).maxCoeff(&answer);
            right += answer == part.labels[static_cast<std::size_t>(b)];
        }
    }
    return static_cast<double>(right) / static_cast<double>(images.size());
}

}  // namespace digits
