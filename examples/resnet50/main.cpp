// The first batch norm of ResNet-50, with the ReLU that follows it: a training step, then inference.
#include <fusebn/batch_norm.h>
#include <resnet50_bn.h>

#include <cstdio>
#include <vector>

namespace {

int complain(const fusebn::Status& status) {
    std::fprintf(stderr, "%s\n", status.message().c_str());
    return 1;
}

}  // namespace

int main() {
    constexpr int N = 32, C = 64, H = 112, W = 112;
    std::vector<float> x_data(static_cast<std::size_t>(N) * C * H * W), y_data(x_data.size());
    for (std::size_t i = 0; i < x_data.size(); ++i) x_data[i] = static_cast<float>(i % 1009) / 1009;

    fusebn::BatchNorm2d bn(C, resnet50_bn::kernels(), {.activation = fusebn::Activation::relu});
    const fusebn::ConstTensor x = fusebn::tensor(x_data.data(), fusebn::Layout::NCHW, {N, C, H, W});
    const fusebn::Tensor y = fusebn::tensor(y_data.data(), fusebn::Layout::NCHW, {N, C, H, W});

    if (const fusebn::Status s = bn.forward(x, y); !s.ok()) return complain(s);
    std::printf("%s\n  y[0] %.6f, running_mean[0] %.6f\n", fusebn::BatchNorm::last_kernel().c_str(),
                static_cast<double>(y_data[0]), static_cast<double>(bn.state().running_mean[0]));

    bn.eval();
    if (const fusebn::Status s = bn.forward(x, y); !s.ok()) return complain(s);
    std::printf("%s\n  y[0] %.6f\n", fusebn::BatchNorm::last_kernel().c_str(), static_cast<double>(y_data[0]));

    if (const fusebn::Status s = bn.save("bn1.safetensors", "bn1."); !s.ok()) return complain(s);
    std::printf("saved as bn1.safetensors\n");
    return 0;
}
