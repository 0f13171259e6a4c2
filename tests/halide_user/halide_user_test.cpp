// Kernels that Halide built from fusebn's generators, called as Halide users call theirs.

#include <HalideBuffer.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <user_backward.h>
#include <user_chunks.h>
#include <user_inference.h>
#include <user_train_forward.h>

#include <random>
#include <string>
#include <vector>

#include "oracle/oracle.h"

namespace {

using Buffer = Halide::Runtime::Buffer<float>;
using Buffer64 = Halide::Runtime::Buffer<double>;

Buffer random(const std::vector<int>& sizes, float low, float high, unsigned seed) {
    Buffer b(sizes);
    std::mt19937 generator(seed);
    std::uniform_real_distribution<float> uniform(low, high);
    b.for_each_value([&](float& v) { v = uniform(generator); });
    return b;
}

// What a channel is normalised by, and the oracle's view of it.
struct Channels {
    Buffer gamma, beta, mean, var;
    explicit Channels(int C)
        : gamma(random({C}, 0.5f, 2, 2)),
          beta(random({C}, -1, 1, 3)),
          mean(random({C}, -1, 1, 4)),
          var(random({C}, 0.1f, 4, 5)) {}
    oracle::Parameters parameters(fusebn::Activation activation) const {
        oracle::Parameters p;
        p.gamma = gamma.data();
        p.beta = beta.data();
        p.running_mean = mean.data();
        p.running_var = var.data();
        p.activation = activation;
        return p;
    }
};

// Every extent is known at run time only.
TEST(HalideUser, GetsInferenceOfInterleavedTensorsOfAnyShape) {
    for (const int rows : {1, 7, 300}) {
        for (const int C : {1, 16, 37}) {
            Channels channels(C);
            Buffer x = random({C, rows}, -3, 5, 1), y(C, rows);
            ASSERT_EQ(user_inference(x, channels.gamma, channels.beta, channels.mean, channels.var, 1e-5, 0, y), 0);

            const oracle::Tensor tensor = oracle::interleaved(x.data(), rows, C);
            const oracle::Result wanted = oracle::inference(tensor, channels.parameters(fusebn::Activation::relu));
            for (int r = 0; r < rows; ++r) {
                for (int c = 0; c < C; ++c) {
                    const auto at = static_cast<std::size_t>(r * C + c);
                    const double bound =
                        oracle::y_bound(wanted.channels[static_cast<std::size_t>(c)], {}, static_cast<double>(x(c, r)));
                    EXPECT_TRUE(oracle::agrees(static_cast<double>(y(c, r)), wanted.y[at], bound))
                        << rows << " rows, r " << r << " c " << c;
                }
            }
        }
    }
}

// Channels and spatial size are the build's, the batch is the call's.
TEST(HalideUser, GetsTrainForwardOfPlanarTensors) {
    constexpr int C = 24, S = 100;
    for (const int N : {1, 2, 50}) {
        Channels channels(C);
        Buffer x = random({S, C, N}, 10, 12, 1), y(S, C, N), running_mean(C), running_var(C);
        Buffer64 mean(C), inv_std(C);
        ASSERT_EQ(user_train_forward(x, channels.gamma, channels.beta, channels.mean, channels.var, 1e-5, 0.1, 1, 0, y,
                                     mean, inv_std, running_mean, running_var),
                  0);

        const oracle::Parameters p = channels.parameters(fusebn::Activation::none);
        const oracle::Tensor tensor = oracle::planar(x.data(), N, C, S);
        const oracle::Result wanted = oracle::train_forward(tensor, p);
        for (int c = 0; c < C; ++c) {
            const oracle::Channel& ch = wanted.channels[static_cast<std::size_t>(c)];
            const oracle::StatisticsBound bound = oracle::statistics_bound(tensor, c, ch, p.eps);
            const auto near = [&](const auto& got, double value, double within) {
                EXPECT_TRUE(oracle::agrees(static_cast<double>(got(c)), value, within))
                    << got(c) << " is not " << value << ", c " << c << " of N " << N;
            };
            near(mean, ch.mean, oracle::mean_bound(ch, bound));
            near(inv_std, ch.inv_std, oracle::inv_std_bound(ch, bound));
            near(running_mean, ch.running_mean, oracle::running_mean_bound(ch, bound, p));
            near(running_var, ch.running_var, oracle::running_var_bound(tensor, ch, bound, p));
            for (int n = 0; n < N; ++n) {
                for (int s = 0; s < S; ++s) {
                    const auto at = static_cast<std::size_t>((n * C + c) * S + s);
                    EXPECT_TRUE(oracle::agrees(static_cast<double>(y(s, c, n)), wanted.y[at],
                                               oracle::y_bound(ch, bound, static_cast<double>(x(s, c, n)))))
                        << "N " << N << ", s " << s << " c " << c << " n " << n;
                }
            }
        }
    }
}

// 17 chunks, of which the second group of 16 has one: x ends at a page that nothing may touch.
TEST(HalideUser, GetsSumsByChunksThatReadNothingBehindTheTensor) {
    constexpr int C = 16, R = 1088;
    constexpr std::size_t bytes = sizeof(float) * C * R, page = 4096;
    static_assert(bytes % page == 0);
    void* const memory = mmap(nullptr, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    ASSERT_EQ(mprotect(static_cast<char*>(memory) + bytes, page, PROT_NONE), 0);
    Buffer x(static_cast<float*>(memory), C, R), y(C, R), running_mean(C), running_var(C);
    x.copy_from(random({C, R}, 10, 12, 1));
    Channels channels(C);
    Buffer64 mean(C), inv_std(C);
    ASSERT_EQ(user_chunks(x, channels.gamma, channels.beta, channels.mean, channels.var, 1e-5, 0.1, 1, 0, y, mean,
                          inv_std, running_mean, running_var),
              0);
    const oracle::Parameters p = channels.parameters(fusebn::Activation::none);
    const oracle::Tensor tensor = oracle::interleaved(x.data(), R, C);
    const oracle::Result wanted = oracle::train_forward(tensor, p);
    for (int c = 0; c < C; ++c) {
        const oracle::Channel& ch = wanted.channels[static_cast<std::size_t>(c)];
        const oracle::StatisticsBound bound = oracle::statistics_bound(tensor, c, ch, p.eps);
        EXPECT_TRUE(oracle::agrees(mean(c), ch.mean, oracle::mean_bound(ch, bound))) << c;
        EXPECT_TRUE(oracle::agrees(inv_std(c), ch.inv_std, oracle::inv_std_bound(ch, bound))) << c;
    }
    munmap(memory, bytes + page);
}

TEST(HalideUser, GetsBackwardOfPlanarTensors) {
    constexpr int C = 24, S = 100, N = 5;
    constexpr float slope = 0.2f;
    Channels channels(C);
    Buffer x = random({S, C, N}, -3, 5, 1), dy = random({S, C, N}, -1, 1, 6), dx(S, C, N), dgamma(C), dbeta(C);
    Buffer64 mean(C), inv_std(C);
    oracle::Call call;
    call.x = oracle::planar(x.data(), N, C, S);
    call.p = channels.parameters(fusebn::Activation::leaky_relu);
    call.p.slope = slope;
    for (const bool batch : {true, false}) {
        call.batch_statistics = batch;
        const oracle::Channels statistics = oracle::channels_of(call);
        for (int c = 0; c < C; ++c) {
            mean(c) = statistics.first[static_cast<std::size_t>(c)].mean;
            inv_std(c) = statistics.first[static_cast<std::size_t>(c)].inv_std;
        }
        ASSERT_EQ(user_backward(x, dy, channels.gamma, channels.beta, mean, inv_std, batch ? 1 : 0, 1, slope, dx,
                                dgamma, dbeta),
                  0);
        const oracle::Tensor gradient = oracle::planar(dy.data(), N, C, S);
        const oracle::Gradients wanted = oracle::backward(call, gradient, statistics);
        const oracle::Gradients bounds = oracle::backward_bounds(call, gradient, statistics, wanted);
        const auto expect_near = [&](const Buffer& got, const std::vector<double>& values,
                                     const std::vector<double>& within) {
            for (std::size_t i = 0; i < values.size(); ++i) {
                EXPECT_TRUE(oracle::agrees(static_cast<double>(got.data()[i]), values[i], within[i]))
                    << got.data()[i] << " is not " << values[i] << ", [" << i << "], batch " << batch;
            }
        };
        expect_near(dx, wanted.dx, bounds.dx);
        expect_near(dgamma, wanted.dgamma, bounds.dgamma);
        expect_near(dbeta, wanted.dbeta, bounds.dbeta);
    }
}

std::string reported;

// Halide's own checks stay: here no runtime has looked at the arguments before.
TEST(HalideUser, GetsAnErrorForShapesThatTheKernelIsNotFor) {
    const auto before = halide_set_error_handler([](void*, const char* message) { reported = message; });
    const auto refusal = [](Buffer x, Buffer y, int gammas) {
        Channels channels(gammas);
        Buffer running_mean(gammas), running_var(gammas);
        Buffer64 mean(gammas), inv_std(gammas);
        reported.clear();
        const int code = user_train_forward(x, channels.gamma, channels.beta, channels.mean, channels.var, 1e-5, 0.1, 1,
                                            0, y, mean, inv_std, running_mean, running_var);
        return code == 0 ? "" : reported;
    };
    const auto mentions = [](const std::string& message, const char* name) {
        return message.find(name) != std::string::npos;
    };
    EXPECT_EQ(refusal(random({100, 24, 2}, 0, 1, 1), Buffer(100, 24, 2), 24), "");
    EXPECT_PRED2(mentions, refusal(Buffer(100, 25, 2), Buffer(100, 25, 2), 25), "extent");
    EXPECT_PRED2(mentions, refusal(Buffer(99, 24, 2), Buffer(99, 24, 2), 24), "extent");
    EXPECT_PRED2(mentions, refusal(Buffer(100, 24, 2), Buffer(100, 24, 3), 24), "extent.2 (3)");
    EXPECT_PRED2(mentions, refusal(Buffer(100, 24, 3), Buffer(100, 24, 2), 24), "extent.2");
    EXPECT_PRED2(mentions, refusal(Buffer(100, 24, 2), Buffer(100, 24, 2), 23), "extent.0");
    halide_set_error_handler(before);
}

}  // namespace
