// A plug-in with a layer, the kernels and the runtime in it.

#include <fusebn/batch_norm.h>

#include <cstring>
#include <string>
#include <utility>
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
    constexpr int N = 4, C = 256, H = 16, W = 16;
    std::vector<float> x(N * C * H * W), y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7919 % 1013) / 100;
    *sum = 0;
    if (failed(fusebn::set_num_threads(threads))) return message.c_str();
    fusebn::BatchNorm2d bn(C, FUSEBN_LIBRARY::kernels(), {.activation = fusebn::Activation::relu});
    using fusebn::Layout;
    for (const Layout layout : {Layout::NCHW, Layout::NHWC}) {
        const fusebn::Extents shape =
            layout == Layout::NCHW ? fusebn::Extents{N, C, H, W} : fusebn::Extents{N, H, W, C};
        for (const bool training : {true, false}) {
            bn.train(training);
            if (failed(bn.forward(fusebn::tensor(std::as_const(x).data(), layout, shape),
                                  fusebn::tensor(y.data(), layout, shape))))
                return message.c_str();
            for (const float& v : y) {
                unsigned bits = 0;
                std::memcpy(&bits, &v, sizeof bits);
                *sum = *sum * 31 + bits;
            }
        }
    }
    return nullptr;
}
