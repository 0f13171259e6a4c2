#include "layer.h"

#include <gpu_shapes.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <tuple>

using namespace fusebn;

namespace {

// Of bf16 the upper halves of f32.
Bytes values_about(float mean, std::size_t count, DataType dtype, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal(mean, 2);
    std::vector<float> some(1 << 16);
    for (float& v : some) v = normal(generator);
    const auto width = static_cast<std::size_t>(element_bytes(dtype));
    Bytes bytes(count * width);
    for (std::size_t i = 0; i < count; ++i) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, &some[(i * 7 + i / 977) & 0xffff], sizeof(bits));
        if (dtype != DataType::f32) bits >>= 16;
        std::memcpy(&bytes[i * width], &bits, width);
    }
    return bytes;
}

Row row_of(const fusebn_kernel& k) {
    Row row{k.name, static_cast<Op>(k.op), static_cast<DataType>(k.dtype), Layout::NCHW, {}, k.extents[1], 0};
    const std::int64_t samples = 256, channels = k.extents[1];
    if (k.view == FUSEBN_VIEW_PLANAR) {
        row.extents = {k.extents[0], channels, k.extents[2], 1};
    } else {
        row.layout = Layout::NHWC;
        row.extents = {samples, k.extents[0] / samples, 1, channels};
    }
    row.elements = static_cast<std::size_t>(std::int64_t{k.extents[0]} * channels * k.extents[2]);
    return row;
}

}  // namespace

std::vector<Row> rows(const std::string& part) {
    std::vector<Row> found;
    const KernelTable& table = gpu_shapes::kernels();
    for (int i = 0; i < table.kernel_count; ++i) {
        const fusebn_kernel& k = table.kernels[i];
        if (k.extents[0] < 0 || k.extents[1] < 0 || std::string(k.name).find(part) == std::string::npos) continue;
        found.push_back(row_of(k));
    }
    return found;
}

std::vector<Row> smallest_of_each(const std::vector<Row>& all) {
    std::vector<Row> smallest;
    for (const Row& row : all) {
        const auto kind = [](const Row& r) { return std::make_tuple(r.op, r.layout, r.dtype); };
        const auto same =
            std::find_if(smallest.begin(), smallest.end(), [&](const Row& r) { return kind(r) == kind(row); });
        if (same == smallest.end()) {
            smallest.push_back(row);
        } else if (row.elements < same->elements) {
            *same = row;
        }
    }
    return smallest;
}

const Values& values(const Row& row) {
    static Values last;
    static std::size_t elements = 0;
    static DataType dtype = DataType::f32;
    if (elements != row.elements || dtype != row.dtype) {
        elements = row.elements;
        dtype = row.dtype;
        last.x = values_about(3, elements, dtype, 1);
        last.dy = values_about(0, elements, dtype, 2);
    }
    return last;
}

BatchNormOptions layer_options(Device device) {
    BatchNormOptions o;
    o.activation = Activation::relu;
    o.device = device;
    return o;
}

Tensor tensor_of(const Row& row, const Memory& memory) {
    return Tensor(memory.memory.data(), row.dtype, row.layout, row.extents);
}

Layer::Layer(const Row& row, Device device, const Values& values)
    : row_(row),
      bn_(row.channels, gpu_shapes::kernels(), layer_options(device)),
      x_(device, values.x.size()),
      dy_(device, row.op == Op::backward ? values.dy.size() : 1),
      out_(device, values.x.size()) {
    require(bn_.status());
    x_.upload(values.x);
    if (row.op == Op::backward) dy_.upload(values.dy);
    BatchNormState state = bn_.state();
    for (std::size_t c = 0; c < state.gamma.size(); ++c) {
        state.gamma[c] = 0.5f + 0.1f * static_cast<float>(c % 7);
        state.beta[c] = 0.1f * static_cast<float>(c % 5) - 0.2f;
        state.running_mean[c] = 2.5f;
    }
    require(bn_.set_state(state));
    bn_.train(row.op != Op::inference);
    if (row.op == Op::backward) require(bn_.forward(tensor_of(row_, x_), tensor_of(row_, out_)));
}

void Layer::call() {
    const Tensor x = tensor_of(row_, x_), out = tensor_of(row_, out_);
    require(row_.op == Op::backward ? bn_.backward(x, tensor_of(row_, dy_), out) : bn_.forward(x, out));
}

void Layer::prepare_on(void* stream) {
    require(bn_.set_stream(stream));
    require(bn_.prepare(tensor_of(row_, x_), {row_.op}));
}

Bytes Layer::result(bool with_running) {
    Bytes all = out_.download();
    const auto append = [&](const auto& v) {
        const auto* bytes = reinterpret_cast<const std::uint8_t*>(v.data());
        all.insert(all.end(), bytes, bytes + v.size() * sizeof(v[0]));
    };
    if (row_.op == Op::train_forward) {
        append(bn_.saved_mean());
        append(bn_.saved_inv_std());
    }
    if (row_.op == Op::backward) {
        append(bn_.grad_gamma());
        append(bn_.grad_beta());
    }
    if (with_running) {
        const BatchNormState state = bn_.state();
        append(state.running_mean);
        append(state.running_var);
    }
    return all;
}
