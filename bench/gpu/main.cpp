// Every row of gpu_shapes on CUDA device 0: the result bit for bit beside the CPU's kernel and a second run's, then
// times beside a copy of the same bytes. One line of JSON each on standard output; the exit status is 1 where a result
// differs.
//
//   fusebn_gpu_bench [PART_OF_A_KERNEL'S_NAME]

#include <fusebn/batch_norm.h>
#include <gpu_shapes.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "timer.h"

using namespace fusebn;

namespace {

void require(const Status& s) {
    if (s.ok()) return;
    std::fprintf(stderr, "%s\n", s.message().c_str());
    std::exit(1);
}

// Values about `mean`, other ones everywhere; of bf16 the upper halves.
std::vector<std::uint8_t> values(std::size_t count, DataType dtype, float mean, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal(mean, 2);
    std::vector<float> some(1 << 16);
    for (float& v : some) v = normal(generator);
    const auto width = static_cast<std::size_t>(element_bytes(dtype));
    std::vector<std::uint8_t> bytes(count * width);
    for (std::size_t i = 0; i < count; ++i) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, &some[(i * 7 + i / 977) & 0xffff], sizeof(bits));
        if (dtype != DataType::f32) bits >>= 16;
        std::memcpy(&bytes[i * width], &bits, width);
    }
    return bytes;
}

// A tensor's memory, of the host or the device.
struct Memory {
    DeviceMemory memory;
    Memory(Device device, std::size_t bytes) : memory(device, bytes) { require(memory.status()); }
    void upload(const std::vector<std::uint8_t>& from) { require(memory.upload(from.data(), from.size())); }
    std::vector<std::uint8_t> download() const {
        std::vector<std::uint8_t> all(memory.bytes());
        require(memory.download(all.data(), all.size()));
        return all;
    }
};

struct Shape {
    Op op;
    DataType dtype;
    Layout layout;
    Extents extents;
    int channels;
    std::size_t elements;
};

// One layer and its tensors on one device.
class Run {
public:
    Run(const Shape& shape, Device device, const std::vector<std::uint8_t>& x, const std::vector<std::uint8_t>& dy)
        : shape_(shape),
          bn_(shape.channels, gpu_shapes::kernels(), options(device)),
          x_(device, x.size()),
          dy_(device, shape.op == Op::backward ? x.size() : 1),
          out_(device, x.size()) {
        require(bn_.status());
        x_.upload(x);
        if (shape.op == Op::backward) dy_.upload(dy);
        BatchNormState state = bn_.state();
        for (std::size_t c = 0; c < state.gamma.size(); ++c) {
            state.gamma[c] = 0.5f + 0.1f * static_cast<float>(c % 7);
            state.beta[c] = 0.1f * static_cast<float>(c % 5) - 0.2f;
            state.running_mean[c] = 2.5f;
        }
        require(bn_.set_state(state));
        bn_.train(shape.op != Op::inference);
        if (shape.op == Op::backward) require(bn_.forward(tensor(x_), tensor(out_)));
    }
    void call() {
        require(shape_.op == Op::backward ? bn_.backward(tensor(x_), tensor(dy_), tensor(out_))
                                          : bn_.forward(tensor(x_), tensor(out_)));
    }
    // All that the call leaves, as bytes.
    std::vector<std::uint8_t> result() {
        std::vector<std::uint8_t> all = out_.download();
        const auto append = [&](const auto& v) {
            const auto* bytes = reinterpret_cast<const std::uint8_t*>(v.data());
            all.insert(all.end(), bytes, bytes + v.size() * sizeof(v[0]));
        };
        if (shape_.op == Op::train_forward) {
            append(bn_.saved_mean());
            append(bn_.saved_inv_std());
        }
        if (shape_.op == Op::backward) {
            append(bn_.grad_gamma());
            append(bn_.grad_beta());
        }
        return all;
    }
    const void* x() const { return x_.memory.data(); }
    void* out() const { return out_.memory.data(); }

private:
    static BatchNormOptions options(Device device) {
        BatchNormOptions o;
        o.activation = Activation::relu;
        o.device = device;
        return o;
    }
    Tensor tensor(const Memory& m) const {
        return Tensor(m.memory.data(), shape_.dtype, shape_.layout, shape_.extents);
    }

    Shape shape_;
    BatchNorm2d bn_;
    Memory x_, dy_, out_;
};

Shape shape_of(const fusebn_kernel& k) {
    Shape s{static_cast<Op>(k.op), static_cast<DataType>(k.dtype), Layout::NCHW, {}, k.extents[1], 0};
    const std::int64_t samples = 256, channels = k.extents[1];
    if (k.view == FUSEBN_VIEW_PLANAR) {
        s.extents = {k.extents[0], channels, k.extents[2], 1};
    } else {
        s.layout = Layout::NHWC;
        s.extents = {samples, k.extents[0] / samples, 1, channels};
    }
    s.elements = static_cast<std::size_t>(std::int64_t{k.extents[0]} * channels * k.extents[2]);
    return s;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string only = argc > 1 ? argv[1] : "";
    const Timer timer;
    (void)set_num_threads(std::max(1, static_cast<int>(std::thread::hardware_concurrency()) - 1));
    std::fprintf(stderr, "%s\n", device_name(Device::cuda()).c_str());
    bool all_equal = true;
    const KernelTable& table = gpu_shapes::kernels();
    for (int i = 0; i < table.kernel_count; ++i) {
        const fusebn_kernel& k = table.kernels[i];
        if (k.extents[0] < 0 || k.extents[1] < 0 || std::string(k.name).find(only) == std::string::npos) continue;
        const Shape shape = shape_of(k);
        const std::vector<std::uint8_t> x = values(shape.elements, shape.dtype, 3, 1),
                                        dy = values(shape.elements, shape.dtype, 0, 2);
        Run gpu(shape, Device::cuda(), x, dy);
        gpu.call();
        const std::vector<std::uint8_t> first = gpu.result();
        const std::string kernel = BatchNorm::last_kernel();
        gpu.call();
        const bool repeatable = gpu.result() == first;
        bool as_cpu = false;
        {
            Run cpu(shape, Device::cpu(), x, dy);
            cpu.call();
            as_cpu = cpu.result() == first;
        }
        all_equal = all_equal && repeatable && as_cpu;
        const auto call = [&] { gpu.call(); };
        const auto copy = [&] { timer.copy(gpu.out(), gpu.x(), x.size()); };
        const double hot = timer.back_to_back(call), cold = timer.cold(call), copy_hot = timer.back_to_back(copy),
                     copy_cold = timer.cold(copy);
        // Tensors that have to be moved: once each where one launch keeps a channel's slabs, else what sums read twice.
        const bool staged = kernel.find("parallel=channels") != std::string::npos;
        const int tensors = shape.op == Op::inference ? 2
                                                      : (shape.op == Op::train_forward ? 3 : 5) -
                                                            (staged ? (shape.op == Op::train_forward ? 1 : 2) : 0);
        std::printf(
            "{\"kernel\": \"%s\", \"us\": %.1f, \"us_cold\": %.1f, \"copy_us\": %.1f, \"copy_us_cold\": %.1f, "
            "\"tensors_moved\": %d, \"share_of_copy\": %.3f, \"share_of_copy_cold\": %.3f, \"bits_as_cpu\": %s, "
            "\"repeatable\": %s, \"ran\": \"%s\"}\n",
            k.name, hot, cold, copy_hot, copy_cold, tensors, copy_hot * tensors / 2 / hot,
            copy_cold * tensors / 2 / cold, as_cpu ? "true" : "false", repeatable ? "true" : "false", kernel.c_str());
        std::fflush(stdout);
    }
    return all_equal ? 0 : 1;
}
