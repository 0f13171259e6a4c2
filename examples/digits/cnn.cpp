// A small convolutional network on the 8x8 digits: Conv3x3 -> BatchNorm2d -> ReLU, three times, the second with stride
// 2, then the mean over the pixels and a linear layer.
#include "batch_norm.h"
#include "convolution.h"
#include "program.h"

namespace {

digits::Network make(bool batch_norm, digits::Random& random) {
    struct Block {
        int side, in, out, stride;
    };
    constexpr Block blocks[] = {{8, 1, 16, 1}, {8, 16, 32, 2}, {4, 32, 64, 1}};
    digits::Network network;
    for (const auto& [side, in, out, stride] : blocks) {
        network.add<digits::Convolution3x3>(side, in, out, stride, !batch_norm, random);
        if (batch_norm) {
            network.add<digits::BatchNormRelu>(side / stride, out);
        } else {
            network.add<digits::Relu>();
        }
    }
    network.add<digits::GlobalAveragePool>(4 * 4);
    network.add<digits::Linear>(64, digits::class_count, true, random);
    return network;
}

}  // namespace

int main(int argc, char** argv) {
    return digits::run({.name = "digits_cnn",
                        .network = "cnn",
                        .description = "three 3x3 convolutions of 16, 32 and 64 channels and a linear layer",
                        .make = make},
                       argc, argv);
}
