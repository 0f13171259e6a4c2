// A user's program over three libraries of kernels, checked against loops in double. Exit status 0: every result right.
#include <fusebn/batch_norm.h>
#include <other_bn.h>
#include <resnet50_bn.h>
#include <small_bn.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

namespace {

int failures = 0;

void check(bool holds, const std::string& what) {
    if (holds) return;
    std::fprintf(stderr, "wrong: %s\n", what.c_str());
    ++failures;
}

// Values in [-2, 2) that any machine makes alike.
struct Noise {
    std::uint32_t state = 20150211;
    float next() {
        state = state * 1664525u + 1013904223u;
        return static_cast<float>(state >> 8) / (1 << 22) - 2.0f;
    }
};

// Where element (n, c, s) lies: planar [n][c][s], or interleaved [n][s][c].
struct Shape {
    bool planar;
    std::int64_t n, c, s;
    std::size_t at(std::int64_t in, std::int64_t ic, std::int64_t is) const {
        return static_cast<std::size_t>(planar ? (in * c + ic) * s + is : (in * s + is) * c + ic);
    }
    std::size_t size() const { return static_cast<std::size_t>(n * c * s); }
};

// y = act(gamma * (x - mean) / sqrt(var + eps) + beta), in evaluation mode and, if `train`, in training mode.
void run(const fusebn::KernelTable& kernels, const Shape& shape, fusebn::Layout layout, const fusebn::Extents& extents,
         fusebn::Activation activation, bool train, const std::string& expected_kernel) {
    const std::string name = expected_kernel + (train ? " (train)" : "");
    const double eps = 1e-5, momentum = 0.25;
    fusebn::BatchNorm2d layer(static_cast<int>(shape.c), kernels,
                              {.eps = eps, .momentum = momentum, .activation = activation});
    check(layer.status().ok(), name + ": " + layer.status().message());

    Noise noise;
    fusebn::BatchNormState state;
    for (std::int64_t c = 0; c < shape.c; ++c) {
        state.gamma.push_back(noise.next());
        state.beta.push_back(noise.next());
        state.running_mean.push_back(noise.next());
        state.running_var.push_back(noise.next() + 2.5f);
    }
    const fusebn::Status set = layer.set_state(state);
    check(set.ok(), name + ": " + set.message());
    std::vector<float> x(shape.size()), y(shape.size(), std::numeric_limits<float>::quiet_NaN());
    for (float& value : x) value = noise.next();

    layer.train(train);
    const fusebn::Status done = layer.forward(fusebn::tensor(static_cast<const float*>(x.data()), layout, extents),
                                              fusebn::tensor(y.data(), layout, extents));
    check(done.ok(), name + ": " + done.message());
    check(layer.last_kernel().rfind(expected_kernel, 0) == 0, name + ": ran " + layer.last_kernel());

    const double ulp = std::numeric_limits<float>::epsilon();
    const double count = static_cast<double>(shape.n * shape.s);
    for (std::int64_t c = 0; c < shape.c && failures == 0; ++c) {
        const auto i = static_cast<std::size_t>(c);
        double mean = state.running_mean[i], var = state.running_var[i];
        // Inference rounds a dozen times. In training each sum of up to `count` values of size 2 may be off by one
        // rounding a step of its longest chain, which lanes and chunks keep below 64.
        double roundings = 16;
        if (train) {
            roundings += 64;
            mean = var = 0;
            for (std::int64_t n = 0; n < shape.n; ++n)
                for (std::int64_t s = 0; s < shape.s; ++s) mean += x[shape.at(n, c, s)];
            mean /= count;
            for (std::int64_t n = 0; n < shape.n; ++n)
                for (std::int64_t s = 0; s < shape.s; ++s) var += std::pow(x[shape.at(n, c, s)] - mean, 2);
            var /= count;
            const double new_mean = (1 - momentum) * state.running_mean[i] + momentum * mean;
            const double new_var = (1 - momentum) * state.running_var[i] + momentum * var * count / (count - 1);
            check(std::abs(layer.state().running_mean[i] - new_mean) <= roundings * ulp * 2, name + ": running mean");
            check(std::abs(layer.state().running_var[i] - new_var) <= roundings * ulp * 5, name + ": running var");
        }
        const double scale = state.gamma[i] / std::sqrt(var + eps);
        for (std::int64_t n = 0; n < shape.n; ++n) {
            for (std::int64_t s = 0; s < shape.s; ++s) {
                const double centred = x[shape.at(n, c, s)] - mean;
                double want = centred * scale + state.beta[i];
                if (activation == fusebn::Activation::relu && want < 0) want = 0;
                // |x| and |mean| are at most 2 and may cancel in the difference, so their size counts, not its own.
                const double size = 4 * std::abs(scale) + std::abs(static_cast<double>(state.beta[i]));
                const float got = y[shape.at(n, c, s)];
                if (!(std::abs(got - want) <= roundings * ulp * size)) {
                    check(false, name + ": y is " + std::to_string(got) + ", not " + std::to_string(want));
                    return;
                }
            }
        }
    }
}

}  // namespace

int main() {
    using fusebn::Activation;
    using fusebn::Layout;
    for (const bool train : {false, true}) {
        const std::string op = train ? "bn_train_forward" : "bn_inference";
        run(small_bn::kernels(), {true, 4, 8, 14 * 14}, Layout::NCHW, {4, 8, 14, 14}, Activation::relu, train,
            op + "_f32_planar_n4_c8_s196_relu");
        run(small_bn::kernels(), {true, 3, 5, 7 * 9}, Layout::NCHW, {3, 5, 7, 9}, Activation::none, train,
            op + "_f32_planar_n3_c5_s63_none");
    }
    run(other_bn::kernels(), {false, 2, 16, 6 * 6}, Layout::NHWC, {2, 6, 6, 16}, Activation::relu, false,
        "bn_inference_f32_interleaved_r72_c16_relu");
    run(resnet50_bn::kernels(), {true, 2, 64, 112 * 112}, Layout::NCHW, {2, 64, 112, 112}, Activation::relu, false,
        "bn_inference_f32_planar_n2_c64_s12544_relu");
    run(resnet50_bn::kernels(), {true, 2, 2048, 7 * 7}, Layout::NCHW, {2, 2048, 7, 7}, Activation::none, false,
        "bn_inference_f32_planar_n2_c2048_s49_none");
    if (failures == 0) std::puts("every result is right");
    return failures == 0 ? 0 : 1;
}
