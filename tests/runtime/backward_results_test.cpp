// What becomes of the gradients, and where a backward call writes.
#include <gtest/gtest.h>

#include <optional>
#include <stdexcept>

#include "backward_layers.h"
#include "fusebn/parallel.h"

namespace fusebn::test {
namespace {

TEST_F(Backward, SetsAddsOrSkipsTheGradients) {
    expect_ok(bn_.forward(x(), y()));
    const std::vector<float> zeros(4);
    EXPECT_EQ(bn_.grad_gamma(), zeros);
    EXPECT_EQ(bn_.grad_beta(), zeros);
    expect_ok(bn_.backward(x(), dy(), dx()));
    const std::vector<float> gamma = bn_.grad_gamma(), beta = bn_.grad_beta();
    EXPECT_NE(gamma, zeros);
    EXPECT_NE(beta, zeros);
    expect_ok(bn_.backward(x(), dy(), dx()));
    EXPECT_EQ(bn_.grad_gamma(), gamma) << "overwritten";

    BackwardOptions options;
    options.gamma = Gradient::accumulate;
    options.beta = Gradient::skip;
    expect_ok(bn_.backward(x(), dy(), dx(), options));
    for (std::size_t c = 0; c < 4; ++c) EXPECT_EQ(bn_.grad_gamma()[c], gamma[c] + gamma[c]);
    EXPECT_EQ(bn_.grad_beta(), beta) << "skipped";
    options.gamma = Gradient::skip;
    options.beta = Gradient::accumulate;
    expect_ok(bn_.backward(x(), dy(), std::nullopt, options));
    for (std::size_t c = 0; c < 4; ++c) EXPECT_EQ(bn_.grad_beta()[c], beta[c] + beta[c]);
    bn_.zero_grad();
    EXPECT_EQ(bn_.grad_gamma(), zeros);
    EXPECT_EQ(bn_.grad_beta(), zeros);
}

TEST_F(Backward, OfASumSetsBothLayersGradients) {
    expect_ok(bn_.forward_sum(x(), other_, x2(), y()));
    BackwardOptions options;
    options.gamma = Gradient::skip;
    options.beta = Gradient::accumulate;
    expect_ok(bn_.backward_sum(x(), other_, x2(), dy(), std::nullopt, std::nullopt, options));
    expect_ok(bn_.backward_sum(x(), other_, x2(), dy(), dx(), dsecond(), options));
    EXPECT_EQ(other_.grad_gamma(), std::vector<float>(4));
    EXPECT_EQ(bn_.grad_beta(), other_.grad_beta()) << "both are the sum of dy, twice";
    EXPECT_NE(bn_.grad_beta(), std::vector<float>(4));
    EXPECT_NE(dx_, dsecond_);
}

TEST_F(Backward, RunsNothingWhereNothingIsWanted) {
    expect_ok(bn_.forward(x(), y()));
    const int runs = fake_run.runs;
    BackwardOptions skip;
    skip.gamma = skip.beta = Gradient::skip;
    expect_ok(bn_.backward(x(), dy(), std::nullopt, skip));
    EXPECT_EQ(fake_run.runs, runs);
    expect_refused(bn_, ErrorCode::null_pointer, "dy: its data is null",
                   [&] { return bn_.backward(x(), ConstTensor(), std::nullopt, skip); });
    skip.beta = Gradient::accumulate;
    expect_ok(bn_.backward(x(), dy(), std::nullopt, skip));
    EXPECT_EQ(fake_run.runs, runs + 1);

    BatchNormOptions options;
    options.affine = false;
    BatchNorm2d plain(4, library_.table(), options);
    expect_ok(plain.forward(x(), y()));
    expect_ok(plain.backward(x(), dy(), std::nullopt));
    EXPECT_EQ(fake_run.runs, runs + 2) << "the forward call's";
    expect_ok(plain.backward(x(), dy(), dx()));
    EXPECT_TRUE(plain.grad_gamma().empty());
    EXPECT_TRUE(plain.grad_beta().empty());
    // One of two layers with parameters is enough.
    expect_ok(plain.forward_sum(x(), other_, x2(), y()));
    expect_ok(plain.backward_sum(x(), other_, x2(), dy(), std::nullopt, std::nullopt));
    EXPECT_NE(other_.grad_beta(), std::vector<float>(4));
}

TEST_F(Backward, MayBeInPlaceOfWhatItReads) {
    expect_ok(bn_.forward(x(), y()));
    expect_ok(bn_.backward(x(), dy(), dx()));
    const std::vector<float> expected = dx_;
    const auto same = [&](const std::vector<float>& a, const std::vector<float>& b) {
        return std::vector<float>(a.begin(), a.begin() + 72) == std::vector<float>(b.begin(), b.begin() + 72);
    };
    std::vector<float> in_dy = dy_, in_x = x_;
    expect_ok(bn_.backward(x(), of(in_dy), of(in_dy)));
    EXPECT_TRUE(same(in_dy, expected));
    expect_ok(bn_.backward(of(in_x), dy(), of(in_x)));
    EXPECT_TRUE(same(in_x, expected));

    BatchNorm2d silu(4, silu_.table(), with(Activation::silu));
    expect_ok(silu.forward_add(x(), residual(), y()));
    BackwardOptions options;
    options.residual = residual();
    expect_ok(silu.backward_add(x(), dy(), dx(), dsecond(), options));
    const std::vector<float> dx = dx_, dresidual = dsecond_;
    in_dy = dy_;
    std::vector<float> in_residual = residual_;
    options.residual = of(in_residual);
    expect_ok(silu.backward_add(x(), of(in_dy), of(in_residual), of(in_dy), options));
    EXPECT_TRUE(same(in_residual, dx) && same(in_dy, dresidual));
    in_x = x_;
    in_residual = residual_;
    expect_ok(silu.backward_add(of(in_x), dy(), of(in_x), of(in_residual), options));
    EXPECT_TRUE(same(in_x, dx) && same(in_residual, dresidual));

    expect_ok(bn_.forward_sum(x(), other_, x2(), y()));
    expect_ok(bn_.backward_sum(x(), other_, x2(), dy(), this->dx(), dsecond()));
    const std::vector<float> first = dx_, second = dsecond_;
    in_x = x_;
    std::vector<float> in_x2 = x2_;
    expect_ok(bn_.backward_sum(of(in_x), other_, of(in_x2), dy(), of(in_x2), of(in_x)));
    EXPECT_TRUE(same(in_x2, first) && same(in_x, second));
}

TEST_F(Backward, LeavesTheGradientsWhenAKernelFails) {
    for (const Kind kind : {Kind::out_of_memory, Kind::stops}) {
        const auto residual = Residual::none;
        FakeLibrary library;
        library.add({Op::train_forward, View::planar}, {FUSEBN_ANY, FUSEBN_ANY, FUSEBN_ANY});
        FakeVariant broken;
        broken.kind = kind;
        library.add({Op::backward, View::planar, Activation::none, residual}, {FUSEBN_ANY, FUSEBN_ANY, FUSEBN_ANY},
                    {broken});
        BatchNorm2d bn(4, library.table());
        expect_ok(bn.forward(x(), y()));
        expect_refused(bn, kind == Kind::stops ? ErrorCode::invalid_argument : ErrorCode::out_of_memory,
                       kind == Kind::stops ? "stopped with code 5" : "working memory of bn_backward_f32_planar",
                       [&] { return bn.backward(x(), dy(), dx()); });
        EXPECT_EQ(BatchNorm::last_kernel().rfind("bn_train_forward", 0), 0u);
    }
}

TEST_F(Backward, LeavesTheGradientsWhenTheUsersPoolThrows) {
    expect_ok(bn_.forward(x(), y()));
    set_parallel_for([](std::int32_t, auto, void*) { throw std::runtime_error("no threads today"); });
    const Status s = bn_.backward(x(), dy(), dx());
    set_parallel_for({});
    EXPECT_EQ(s.code(), ErrorCode::invalid_argument);
    EXPECT_NE(s.message().find("set_parallel_for threw; the outputs are incomplete"), std::string::npos) << s.message();
    EXPECT_EQ(bn_.grad_gamma(), std::vector<float>(4));
    EXPECT_EQ(bn_.grad_beta(), std::vector<float>(4));
    expect_ok(bn_.backward(x(), dy(), dx()));
}

}  // namespace
}  // namespace fusebn::test
