// A plug-in with a layer, the kernels and the runtime in it.

#include <fusebn/batch_norm.h>

#include <cstring>
#include <vector>

#include FUSEBN_HEADER

// Runs a training step and an evaluation on `threads` threads; `sum` gets a number that says which bits y has.
// Returns nothing, or what went wrong.
extern "C" __attribute__((visibility("default"))) const char* run_layer(int threads, unsigned long long* sum) {
    static std::string message;
    const auto failed = [](const fusebn::Status& s) {
        message = s.message();
        return !s.ok();
    };
    constexpr int N = 4, C = 32, H = 16, W = 16;
    std::vector<float> x(N * C * H * W), y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7919 % 1013) / 100;
    *sum = 0;
    if (failed(fusebn::set_num_threads(threads))) return message.c_str();
    fusebn::BatchNorm2d bn(C, FUSEBN_LIBRARY::kernels(), {.activation = fusebn::Activation::relu});
    for (const bool training : {true, false}) {
        bn.train(training);
        const fusebn::ConstTensor in = fusebn::tensor(x.data(), fusebn::Layout::NCHW, {N, C, H, W});
        if (failed(bn.forward(in, fusebn::tensor(y.data(), fusebn::Layout::NCHW, {N, C, H, W}))))
            return message.c_str();
        for (const float& v : y) {
            unsigned bits = 0;
            std::memcpy(&bits, &v, sizeof bits);
            *sum = *sum * 31 + bits;
        }
    }
    return nullptr;
}
