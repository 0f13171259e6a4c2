// Tensors of more than 2^31 elements, and what a kernel may not change.

#include <kernels_plain.h>
#include <sys/mman.h>
#include <xmmintrin.h>

#include <thread>

#include "kernels/direct.h"
#include "kernels/run.h"

using namespace fusebn;
using namespace kernels;

namespace {

// Address space of which only what is touched takes memory.
class Sparse {
public:
    explicit Sparse(std::size_t bytes)
        : bytes_(bytes),
          data_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {}
    ~Sparse() {
        if (ok()) munmap(data_, bytes_);
    }
    Sparse(const Sparse&) = delete;
    Sparse& operator=(const Sparse&) = delete;
    bool ok() const { return data_ != MAP_FAILED; }
    float* data() const { return static_cast<float*>(data_); }

private:
    std::size_t bytes_;
    void* data_;
};

// Samples or rows a full 2^31 - 1 elements apart, so that the last one begins beyond 2^32.
void spread(View view, Op op) {
    constexpr std::int64_t stride = 2147483647, outer = 4;
    const std::int64_t channels = 3, inner = view == View::planar ? 37 : 1, row = channels * inner;
    const auto bytes = static_cast<std::size_t>(stride * outer) * sizeof(float);
    const Sparse x(bytes), y(bytes), dy(bytes), dx(bytes);
    if (!x.ok() || !y.ok() || !dy.ok() || !dx.ok()) GTEST_SKIP() << "no address space of 4 x 34 GB here";

    const Case c{op, view, DataType::f32, Activation::relu, Residual::none, outer, channels, inner};
    const Inputs inputs = random_inputs(c, Data::ordinary);
    const auto scatter = [&](const Elements& from, const Sparse& to) {
        for (std::size_t i = 0; i < from.size(); ++i) {
            const auto at = static_cast<std::int64_t>(i);
            to.data()[at / row * stride + at % row] = static_cast<float>(from.value(i));
        }
    };
    scatter(inputs.x, x);
    scatter(inputs.dy, dy);
    BatchNormOptions options;
    options.activation = Activation::relu;
    BatchNorm1d layer(static_cast<int>(channels), kernels_plain::kernels(), options);
    BatchNormState state = layer.state();
    state.gamma = inputs.p.gamma;
    state.beta = inputs.p.beta;
    state.running_mean = inputs.p.running_mean;
    state.running_var = inputs.p.running_var;
    ASSERT_TRUE(layer.set_state(state).ok());
    layer.train(op != Op::inference);
    const bool planar = view == View::planar;
    const auto at = [&](const Sparse& memory) {
        return planar ? tensor(memory.data(), Layout::NCL, {outer, channels, inner}, {stride, inner, 1})
                      : tensor(memory.data(), Layout::NC, {outer, channels}, {stride, 1});
    };
    Status status = layer.forward(at(x), at(y));
    ASSERT_TRUE(status.ok()) << status.message();
    if (op == Op::backward) status = layer.backward(at(x), at(dy), at(dx));
    ASSERT_TRUE(status.ok()) << status.message();

    const Result wanted = run(kernels_plain::kernels(), c, inputs);
    const Sparse& out = op == Op::backward ? dx : y;
    for (std::int64_t i = 0; i < outer * row; ++i) {
        const auto value = static_cast<double>(out.data()[i / row * stride + i % row]);
        ASSERT_EQ(value, wanted.tensors[0].value(static_cast<std::size_t>(i))) << i;
    }
    EXPECT_EQ(layer.grad_gamma(), wanted.dgamma);
}

TEST(Large, PlanarInferenceReachesBeyondTwoToThe32Elements) { spread(View::planar, Op::inference); }
TEST(Large, PlanarTrainingReachesBeyondTwoToThe32Elements) { spread(View::planar, Op::train_forward); }
TEST(Large, PlanarBackwardReachesBeyondTwoToThe32Elements) { spread(View::planar, Op::backward); }
TEST(Large, InterleavedInferenceReachesBeyondTwoToThe32Elements) { spread(View::interleaved, Op::inference); }
TEST(Large, InterleavedTrainingReachesBeyondTwoToThe32Elements) { spread(View::interleaved, Op::train_forward); }
TEST(Large, InterleavedBackwardReachesBeyondTwoToThe32Elements) { spread(View::interleaved, Op::backward); }

TEST(FloatingPointMode, IsAsItWasAfterEveryKernel) {
    const unsigned before = _mm_getcsr();
    for (const Case& c : cases(kernels_plain::kernels())) {
        run(kernels_plain::kernels(), c, random_inputs(c, Data::ordinary));
    }
    constexpr unsigned flags = 0x3f;  // what has happened, not how to compute
    EXPECT_EQ(before & ~flags, _mm_getcsr() & ~flags);
}

// Each on a layer of its own.
TEST(Callers, TwoAtOnceGetTheSameBitsAsOne) {
    const Case c{Op::backward, View::planar, DataType::f32, Activation::relu, Residual::none, 70, 3, 2100};
    ASSERT_TRUE(set_num_threads(2).ok());
    const Inputs inputs = random_inputs(c, Data::ordinary);
    const Extents extents{c.outer, c.channels, c.inner};
    const ConstTensor x{inputs.x.data(), DataType::f32, Layout::NCL, extents};
    const ConstTensor dy{inputs.dy.data(), DataType::f32, Layout::NCL, extents};
    const auto train = [&](std::vector<float>& y, std::vector<float>& dx) {
        y.resize(c.elements());
        dx.resize(c.elements());
        BatchNormOptions options;
        options.activation = c.activation;
        BatchNorm1d layer(3, kernels_plain::kernels(), options);
        for (int i = 0; i < 20; ++i) {
            if (!layer.forward(x, tensor(y.data(), Layout::NCL, extents)).ok() ||
                !layer.backward(x, dy, tensor(dx.data(), Layout::NCL, extents)).ok()) {
                y.clear();
            }
        }
    };
    std::vector<float> y[3], dx[3];
    train(y[0], dx[0]);
    std::thread a([&] { train(y[1], dx[1]); }), b([&] { train(y[2], dx[2]); });
    a.join();
    b.join();
    for (int i : {1, 2}) {
        EXPECT_EQ(y[0], y[i]);
        EXPECT_EQ(dx[0], dx[i]);
    }
}

TEST(Memory, ThatAKernelCannotHaveIsSaidBeforeAnythingIsWritten) {
    int count = 0;
    for (int i = 0; i < kernels_plain::kernels().kernel_count; ++i) {
        const fusebn_kernel& row = kernels_plain::kernels().kernels[i];
        const bool has_mask = row.op == FUSEBN_OP_TRAIN_FORWARD && FUSEBN_SAVES_MASK(row.activation, row.residual);
        if (!has_mask || row.view != FUSEBN_VIEW_INTERLEAVED || row.extents[0] == FUSEBN_ANY) continue;
        const Case c{Op::train_forward,
                     View::interleaved,
                     static_cast<DataType>(row.dtype),
                     static_cast<Activation>(row.activation),
                     Residual::add,
                     row.extents[0],
                     row.extents[1],
                     1};
        const Inputs inputs = random_inputs(c, Data::ordinary);
        for (const InstructionSet isa : instruction_sets_here()) {
            const Direct result = train_forward_add(row, isa, c, inputs, false);
            if (!result.was_refused_memory) continue;  // a few KB are on the stack
            EXPECT_EQ(result.code, FUSEBN_KERNEL_OUT_OF_MEMORY) << row.name;
            EXPECT_TRUE(result.y_untouched) << row.name;
            ++count;
        }
    }
    EXPECT_GT(count, 0);
}

}  // namespace
