#include "measure/layer_case.h"

#include <cmath>

#include "measure/threads.h"

namespace fusebn::measure {
namespace {

// Sebastiano Vigna's splitmix64: a number's random bits do not depend on those before, so threads fill in any order.
std::uint64_t mixed(std::uint64_t i) {
    i = (i + 1) * 0x9e3779b97f4a7c15u;
    i = (i ^ (i >> 30)) * 0xbf58476d1ce4e5b9u;
    i = (i ^ (i >> 27)) * 0x94d049bb133111ebu;
    return i ^ (i >> 31);
}

// Of mean 0 and variance 1, nearly normal: the sum of four uniform numbers (Irwin and Hall 1927).
float nearly_normal(std::uint64_t i) {
    const std::uint64_t bits = mixed(i);
    const std::uint64_t sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
    return (static_cast<float>(sum) * 0x1p-16f - 2) * 1.7320508f;
}

float uniform(std::uint64_t i, float low, float high) {
    return low + (high - low) * static_cast<float>(mixed(i) >> 40) * 0x1p-24f;
}

// Where the numbers of a stream begin.
std::uint64_t start_of(int stream) { return static_cast<std::uint64_t>(stream) << 44; }

// Of a channel of a stream's tensor.
struct Distribution {
    float mean, spread;
};
Distribution channel(int stream, std::int64_t c) {
    const std::uint64_t seed = start_of(stream) + (std::uint64_t{1} << 43) + 2 * static_cast<std::uint64_t>(c);
    return {uniform(seed, -2, 2), uniform(seed + 1, 0.5f, 2)};
}

std::int64_t square_root(std::int64_t square) {
    const auto root = static_cast<std::int64_t>(std::llround(std::sqrt(static_cast<double>(square))));
    return root * root == square ? root : 0;
}

void store(void* x, DataType dtype, std::int64_t i, float value) {
    switch (dtype) {
        case DataType::f32: static_cast<float*>(x)[i] = value; return;
        case DataType::bf16: static_cast<bfloat16*>(x)[i] = to_bfloat16(value); return;
        case DataType::f16: static_cast<float16*>(x)[i] = to_float16(value); return;
    }
}

}  // namespace

bool LayerCase::reads_addend() const {
    if (residual() != Residual::add) return residual() == Residual::batch_norm;
    return op() != Op::backward || reads_addend_twice();
}

bool LayerCase::reads_addend_twice() const {
    if (op() == Op::inference) return false;
    if (residual() != Residual::add) return residual() == Residual::batch_norm;
    return op() == Op::backward && activation() != Activation::none && !saves_mask(activation(), residual());
}

std::int64_t LayerCase::floor_bytes() const {
    int tensors = reads_addend() ? 3 : 2;                                       // x, y or dx, what is added
    if (op() == Op::backward) tensors += residual() == Residual::none ? 1 : 2;  // dy, the addend's gradient
    const bool mask = saves_mask(activation(), residual()) && op() != Op::inference;
    return tensors * tensor_bytes() + (mask ? (elements() + 7) / 8 : 0);
}

std::int64_t LayerCase::limit_bytes(std::int64_t l3) const {
    if (op() == Op::inference) return floor_bytes();
    const int twice = (op() == Op::backward ? 2 : 1) + (reads_addend_twice() ? 1 : 0);  // x, dy
    const std::int64_t read = twice * tensor_bytes();
    const std::int64_t kept = layout == Layout::NCHW ? read / C : read;
    return floor_bytes() + (kept > l3 ? read : 0);
}

Extents LayerCase::extents() const { return layout == Layout::NCHW ? Extents{N, C, H, W} : Extents{N, H, W, C}; }

std::string LayerCase::op_name() const {
    std::string name(to_string(op()));
    if (residual() != Residual::none) name += "+" + std::string(to_string(residual()));
    if (activation() != Activation::none) name += "+" + std::string(to_string(activation()));
    return name;
}

std::string LayerCase::shape_name() const {
    const Extents e = extents();
    std::string name = std::to_string(e[0]);
    for (int axis = 1; axis < e.rank(); ++axis) name += "x" + std::to_string(e[axis]);
    return name;
}

oracle::Tensor LayerCase::view_of(const void* x) const {
    return layout == Layout::NCHW ? oracle::planar(x, dtype(), N, C, H * W)
                                  : oracle::interleaved(x, dtype(), N * H * W, C);
}

LayerCase case_of(const fusebn_kernel_table& table, const fusebn_kernel& kernel) {
    const auto extent = [&](int i, std::int64_t otherwise) {
        return kernel.extents[i] == FUSEBN_ANY ? otherwise : static_cast<std::int64_t>(kernel.extents[i]);
    };
    LayerCase c{&table, &kernel, Layout::NCHW, 1, 1, 1, 1, true};
    const int count = kernel.view == FUSEBN_VIEW_PLANAR ? 3 : 2;
    for (int i = 0; i < count; ++i) c.fixed = c.fixed && kernel.extents[i] != FUSEBN_ANY;
    c.C = extent(1, 37);
    if (kernel.view == FUSEBN_VIEW_PLANAR) {
        c.N = extent(0, 3);
        c.W = extent(2, 2257);
        if (const std::int64_t side = square_root(c.W)) c.H = c.W = side;
        return c;
    }
    c.layout = Layout::NHWC;
    c.W = extent(0, 351);
    // The batch is not in the table: the usual sizes, if the rest is then a square image.
    for (const std::int64_t batch : {32, 64, 128, 256, 16, 8, 4, 2, 1}) {
        const std::int64_t side = c.W % batch == 0 ? square_root(c.W / batch) : 0;
        if (side == 0) continue;
        c.N = batch;
        c.H = c.W = side;
        break;
    }
    return c;
}

void fill(const LayerCase& layer_case, void* x, int stream) {
    const oracle::Tensor t = layer_case.view_of(x);
    const std::uint64_t start = start_of(stream);
    in_parts(t.outer, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t o = begin; o < end; ++o) {
            for (std::int64_t c = 0; c < t.channels; ++c) {
                const auto [mean, spread] = channel(stream, c);
                const std::int64_t first = o * t.outer_stride + c * t.channel_stride;
                for (std::int64_t i = first; i < first + t.inner; ++i) {
                    const float normal = nearly_normal(start + static_cast<std::uint64_t>(i));
                    store(x, layer_case.dtype(), i, mean + spread * normal);
                }
            }
        }
    });
}

BatchNormState random_state(std::int64_t channels, int stream) {
    BatchNormState state;
    for (std::int64_t c = 0; c < channels; ++c) {
        const std::uint64_t seed = start_of(stream) + (std::uint64_t{1} << 42) + 4 * static_cast<std::uint64_t>(c);
        state.gamma.push_back(uniform(seed, 0.5f, 1.5f));
        state.beta.push_back(uniform(seed + 1, -0.5f, 0.5f));
        const auto [mean, spread] = channel(stream, c);
        state.running_mean.push_back(mean + spread * uniform(seed + 2, -0.5f, 0.5f));
        state.running_var.push_back(spread * spread * uniform(seed + 3, 0.2f, 2));
    }
    return state;
}

}  // namespace fusebn::measure
