// A perceptron of three layers on the 8x8 digits: Linear -> BatchNorm1d -> ReLU, twice, and a linear layer.
#include "batch_norm.h"
#include "program.h"

namespace {

digits::Network make(bool batch_norm, digits::Random& random) {
    constexpr int pixels = digits::image_side * digits::image_side, hidden = 128;
    digits::Network network;
    for (const int in : {pixels, hidden}) {
        network.add<digits::Linear>(in, hidden, !batch_norm, random);
        if (batch_norm) {
            network.add<digits::BatchNormRelu>(hidden);
        } else {
            network.add<digits::Relu>();
        }
    }
    network.add<digits::Linear>(hidden, digits::class_count, true, random);
    return network;
}

}  // namespace

int main(int argc, char** argv) {
    return digits::run(
        {.name = "digits_mlp", .network = "mlp", .description = "a perceptron of 64-128-128-10", .make = make}, argc,
        argv);
}
