// Tensors of more than 2^31 elements, and what a kernel may not change.

#include <kernels_plain.h>
#include <sys/mman.h>
#include <xmmintrin.h>

#include <thread>

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
void spread(View view, bool training) {
    constexpr std::int64_t stride = 2147483647, outer = 4;
    const std::int64_t channels = 3, inner = view == View::planar ? 37 : 1;
    const Sparse x(static_cast<std::size_t>(stride) * outer * sizeof(float));
    const Sparse y(static_cast<std::size_t>(stride) * outer * sizeof(float));
    if (!x.ok() || !y.ok()) GTEST_SKIP() << "no address space of 2 x 34 GB here";

    const Case c{training ? Op::train_forward : Op::inference, view, Activation::relu, outer, channels, inner};
    const std::vector<float> dense = random_x(c, Data::ordinary);
    const std::int64_t row = channels * inner;
    for (std::int64_t o = 0; o < outer; ++o) {
        std::copy_n(dense.data() + o * row, row, x.data() + o * stride);
    }
    BatchNormOptions options;
    options.activation = Activation::relu;
    BatchNorm1d layer(static_cast<int>(channels), kernels_plain::kernels(), options);
    layer.train(training);
    const bool planar = view == View::planar;
    const Layout layout = planar ? Layout::NCL : Layout::NC;
    const Extents extents = planar ? Extents{outer, channels, inner} : Extents{outer, channels};
    const Extents strides = planar ? Extents{stride, inner, 1} : Extents{stride, 1};
    const Status status = layer.forward(tensor(static_cast<const float*>(x.data()), layout, extents, strides),
                                        tensor(y.data(), layout, extents, strides));
    ASSERT_TRUE(status.ok()) << status.message();

    std::vector<float> wanted(dense.size());
    BatchNorm1d reference(static_cast<int>(channels), kernels_plain::kernels(), options);
    reference.train(training);
    ASSERT_TRUE(reference.forward(tensor(dense.data(), layout, extents), tensor(wanted.data(), layout, extents)).ok());
    for (std::int64_t o = 0; o < outer; ++o) {
        for (std::int64_t i = 0; i < row; ++i) {
            ASSERT_EQ(y.data()[o * stride + i], wanted[static_cast<std::size_t>(o * row + i)]) << o << " " << i;
        }
    }
}

TEST(Large, PlanarTrainingReachesBeyondTwoToThe32Elements) { spread(View::planar, true); }
TEST(Large, PlanarInferenceReachesBeyondTwoToThe32Elements) { spread(View::planar, false); }
TEST(Large, InterleavedTrainingReachesBeyondTwoToThe32Elements) { spread(View::interleaved, true); }
TEST(Large, InterleavedInferenceReachesBeyondTwoToThe32Elements) { spread(View::interleaved, false); }

TEST(FloatingPointMode, IsAsItWasAfterEveryKernel) {
    const unsigned before = _mm_getcsr();
    for (const Case& c : cases(kernels_plain::kernels())) {
        run(kernels_plain::kernels(), c, random_x(c, Data::ordinary), random_parameters(c));
    }
    constexpr unsigned flags = 0x3f;  // what has happened, not how to compute
    EXPECT_EQ(before & ~flags, _mm_getcsr() & ~flags);
}

TEST(Callers, TwoAtOnceGetTheSameBitsAsOne) {
    const Case c{Op::train_forward, View::planar, Activation::none, 70, 3, 2100};
    ASSERT_TRUE(set_num_threads(2).ok());
    const std::vector<float> x = random_x(c, Data::ordinary);
    const Extents extents{c.outer, c.channels, c.inner};
    const auto forward = [&](std::vector<float>& y) {
        BatchNorm1d layer(3, kernels_plain::kernels());
        for (int i = 0; i < 20; ++i) {
            if (!layer.forward(tensor(x.data(), Layout::NCL, extents), tensor(y.data(), Layout::NCL, extents)).ok()) {
                y.clear();
            }
        }
    };
    std::vector<float> one(x.size()), two(x.size()), three(x.size());
    forward(one);
    std::thread a([&] { forward(two); }), b([&] { forward(three); });
    a.join();
    b.join();
    EXPECT_EQ(one, two);
    EXPECT_EQ(one, three);
}

}  // namespace
