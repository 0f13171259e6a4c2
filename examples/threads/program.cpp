#include "program.h"

#include <fusebn/batch_norm.h>
#include <threads_bn.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <stdexcept>
#include <vector>

namespace {

void check(const fusebn::Status& status) {
    if (!status.ok()) throw std::runtime_error(status.message());
}

struct Step {
    static constexpr int channels = 64;
    static constexpr std::int64_t elements = 16 * 64 * 56 * 56;
    std::vector<float> x = std::vector<float>(elements), dy = x, y = x, dx = x;
    fusebn::BatchNorm2d layer{channels, threads_bn::kernels(), {.activation = fusebn::Activation::relu}};

    Step() {
        std::mt19937 random(1);
        std::normal_distribution<float> normal(1, 2);
        for (float& v : x) v = normal(random);
        for (float& v : dy) v = normal(random);
        check(layer.status());
        layer.train();
    }
    // Milliseconds.
    double run() {
        const auto shape = [](auto* data) {
            return fusebn::tensor(data, fusebn::Layout::NCHW, {16, channels, 56, 56});
        };
        const auto start = std::chrono::steady_clock::now();
        check(layer.forward(shape(std::as_const(x).data()), shape(y.data())));
        check(layer.backward(shape(std::as_const(x).data()), shape(std::as_const(dy).data()), shape(dx.data())));
        return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    }
};

double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
    return values[values.size() / 2];
}

}  // namespace

int compare(const char* name, fusebn::ParallelFor pool) try {
    Step own, callers;
    std::vector<double> own_ms, callers_ms;
    for (int turn = 0; turn < 5; ++turn) {
        fusebn::set_parallel_for({});  // fusebn's own
        for (int step = 0; step < 20; ++step) own_ms.push_back(own.run());
        fusebn::set_parallel_for(pool);
        for (int step = 0; step < 20; ++step) callers_ms.push_back(callers.run());
    }
    const bool equal = own.y == callers.y && own.dx == callers.dx &&
                       own.layer.grad_gamma() == callers.layer.grad_gamma() &&
                       own.layer.state().running_var == callers.layer.state().running_var;
    std::printf("a training step of [16, 64, 56, 56]: %.3f ms on fusebn's pool, %.3f ms on %s; results %s\n",
                median(own_ms), median(callers_ms), name, equal ? "equal bit for bit" : "DIFFER");
    return equal ? 0 : 1;
} catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
}
