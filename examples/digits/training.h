// Training a network, and testing it in either mode.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "data.h"
#include "network.h"
#include "random.h"

namespace digits {

struct TrainingOptions {
    int epochs = 20, batch = 32;
    Sgd sgd;
    std::uint32_t seed = 0;
    bool batch_norm = true;
};

struct Epoch {
    int number = 0;            // from 1
    double loss = 0;           // mean of the batches', each before its step
    double test_accuracy = 0;  // 0 to 1, in evaluation mode
};

// What may be told while it trains; either may be empty.
struct Observer {
    std::function<void(int epoch, int batch, int batches, double loss)> on_batch;
    std::function<void(const Epoch&)> on_epoch;
};

// A network with random weights, with batch norm or without.
using MakeNetwork = std::function<Network(bool batch_norm, Random& random)>;

// Every epoch goes through the training images in a new order; those that fill no batch sit it out. On one machine the
// same options make the same network, bit by bit; Eigen and libm round differently on others.
// Throws std::runtime_error: the images do not fill one batch.
Network train(const MakeNetwork& make, const Digits& data, const TrainingOptions& options, const Observer& observer);

// The share of the images whose largest logit is their label's, in the mode that the layers are in. At most `batch`
// images go through the network at once.
double accuracy(Network& network, const Images& images, std::size_t batch);

}  // namespace digits
