// What a backward call goes by, and what it refuses.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "backward_layers.h"

namespace fusebn::test {
namespace {

TEST_F(Backward, NeedsAForwardCallBefore) {
    expect_no_forward(bn_, "forward comes first", [&] { return bn_.backward(x(), dy(), dx()); });
    expect_no_forward(bn_, "forward_add", [&] { return bn_.backward_add(x(), dy(), dx(), dsecond()); });
    expect_no_forward(bn_, "forward_sum", [&] { return bn_.backward_sum(x(), other_, x2(), dy(), dx(), dsecond()); });
    bn_.eval();
    expect_ok(bn_.forward(x(), y()));
    bn_.train();
    expect_no_forward(bn_, "there was none in training mode", [&] { return bn_.backward(x(), dy(), dx()); });
    expect_ok(bn_.forward(x(), y()));
    expect_ok(bn_.backward(x(), dy(), dx()));
    expect_ok(bn_.backward(x(), dy(), dx()));  // as often as wanted
}

TEST_F(Backward, IsOfTheKindOfTheLastForwardCall) {
    expect_ok(bn_.forward(x(), y()));
    const std::string last = "the layer's last training call was forward;";
    expect_no_forward(bn_, last, [&] { return bn_.backward_add(x(), dy(), dx(), dsecond()); });
    expect_no_forward(bn_, last, [&] { return bn_.backward_sum(x(), other_, x2(), dy(), dx(), dsecond()); });
    expect_ok(bn_.forward_add(x(), residual(), y()));
    expect_no_forward(bn_, "was forward_add;", [&] { return bn_.backward(x(), dy(), dx()); });
    expect_ok(bn_.backward_add(x(), dy(), dx(), dsecond()));
    expect_ok(bn_.forward_sum(x(), other_, x2(), y()));
    dx_.assign(4096, untouched);
    dsecond_ = dx_;
    expect_no_forward(bn_, "was forward_sum;", [&] { return bn_.backward(x(), dy(), dx()); });
    expect_no_forward(other_, "was forward_sum as the other layer;", [&] { return other_.backward(x2(), dy(), dx()); });
    expect_no_forward(other_, "as the other layer;",
                      [&] { return other_.backward_sum(x2(), bn_, x(), dy(), dx(), dsecond()); });
    expect_ok(bn_.backward_sum(x(), other_, x2(), dy(), dx(), dsecond()));
}

TEST_F(Backward, OfASumNeedsBothLayersAsTheyWere) {
    BatchNorm2d third(4, library_.table());
    expect_ok(bn_.forward_sum(x(), other_, x2(), y()));
    expect_no_forward(bn_, "but the other layer's was not the same call",
                      [&] { return bn_.backward_sum(x(), third, x2(), dy(), dx(), dsecond()); });
    expect_ok(other_.forward(x2(), y()));
    expect_no_forward(bn_, "but the other layer's was not the same call",
                      [&] { return bn_.backward_sum(x(), other_, x2(), dy(), dx(), dsecond()); });
    expect_ok(bn_.forward_sum(x(), other_, x2(), y()));
    expect_ok(third.forward_sum(x(), other_, x2(), y()));
    expect_no_forward(bn_, "but the other layer's was not the same call",
                      [&] { return bn_.backward_sum(x(), other_, x2(), dy(), dx(), dsecond()); });
    expect_ok(third.backward_sum(x(), other_, x2(), dy(), dx(), dsecond()));
    expect_ok(third.forward_sum(x(), bn_, x2(), y()));
    expect_no_forward(third, "but the other layer's was not the same call",
                      [&] { return third.backward_sum(x(), other_, x2(), dy(), dx(), dsecond()); });
    expect_ok(third.backward_sum(x(), bn_, x2(), dy(), dx(), dsecond()));
}

TEST_F(Backward, NeedsTheShapeAndTypeOfTheForwardCall) {
    expect_ok(bn_.forward(x(), y()));
    const std::string words = "the last was of f32 planar n2_c4_s9, and this is f32 ";
    const auto backward = [&](const Extents& extents, Layout layout = nchw) {
        return [this, extents, layout] {
            return bn_.backward(of(x_, extents, layout), of(dy_, extents, layout), of(dx_, extents, layout));
        };
    };
    expect_no_forward(bn_, words + "planar n1_c4_s9", backward({1, 4, 3, 3}));
    expect_no_forward(bn_, words + "planar n2_c4_s6", backward({2, 4, 3, 2}));
    expect_no_forward(bn_, words + "interleaved r18_c4", backward({2, 3, 3, 4}, Layout::NHWC));
    expect_no_forward(bn_, "and this is bf16", [&] {
        ConstTensor in = x(), gradient = dy();
        Tensor out = dx();
        in.dtype = gradient.dtype = out.dtype = DataType::bf16;
        return bn_.backward(in, gradient, out);
    });
    expect_ok(backward({2, 4, 1, 9})());  // the same view of the same elements
    expect_ok(bn_.forward(of(x_, {9, 4, 1, 1}), of(y_, {9, 4, 1, 1})));
    expect_ok(backward({9, 1, 1, 4}, Layout::NHWC)());  // likewise
}

TEST_F(Backward, RefusesHalfOfTwoOutputs) {
    expect_ok(bn_.forward_add(x(), residual(), y()));
    const auto bad = ErrorCode::invalid_argument;
    expect_refused(bn_, bad, "dresidual: it is missing, but dx is given",
                   [&] { return bn_.backward_add(x(), dy(), dx(), std::nullopt); });
    expect_refused(bn_, bad, "dx: it is missing, but dresidual is given",
                   [&] { return bn_.backward_add(x(), dy(), std::nullopt, dsecond()); });
    expect_refused(bn_, bad, "dx_other: it is missing, but dx is given",
                   [&] { return bn_.backward_sum(x(), other_, x2(), dy(), dx(), std::nullopt); });
}

TEST_F(Backward, AsksForTheResidualWhereTheGradientDependsOnIt) {
    const auto bad = ErrorCode::invalid_argument;
    FakeLibrary hardswish = generic_library(Activation::hardswish);
    BatchNorm2d silu(4, silu_.table(), with(Activation::silu));
    BatchNorm2d swish(4, hardswish.table(), with(Activation::hardswish));
    for (BatchNorm2d* layer : {&silu, &swish}) {
        expect_ok(layer->forward_add(x(), residual(), y()));
        expect_refused(*layer, bad, "options.residual: it is missing",
                       [&] { return layer->backward_add(x(), dy(), dx(), dsecond()); });
        BackwardOptions options;
        options.residual = of(residual_, {1, 4, 3, 3});
        expect_refused(*layer, ErrorCode::shape_mismatch, "options.residual: it is f32 NCHW {1, 4, 3, 3}",
                       [&] { return layer->backward_add(x(), dy(), dx(), dsecond(), options); });
        options.residual = residual();
        expect_ok(layer->backward_add(x(), dy(), dx(), dsecond(), options));
        dx_.assign(4096, untouched);
        dsecond_ = dx_;
    }
    BackwardOptions options;
    options.residual = residual();
    expect_ok(bn_.forward(x(), y()));
    expect_refused(bn_, bad, "only backward_add has one", [&] { return bn_.backward(x(), dy(), dx(), options); });
    expect_ok(bn_.forward_sum(x(), other_, x2(), y()));
    expect_refused(bn_, bad, "only backward_add has one",
                   [&] { return bn_.backward_sum(x(), other_, x2(), dy(), dx(), dsecond(), options); });
}

TEST_F(Backward, RefusesAnUnknownGradient) {
    expect_ok(bn_.forward(x(), y()));
    BackwardOptions options;
    options.beta = static_cast<Gradient>(3);
    expect_refused(bn_, ErrorCode::invalid_argument, "options.beta: 3 is unknown",
                   [&] { return bn_.backward(x(), dy(), dx(), options); });
    options = {};
    options.gamma = static_cast<Gradient>(-1);
    expect_refused(bn_, ErrorCode::invalid_argument, "options.gamma: -1 is unknown",
                   [&] { return bn_.backward(x(), dy(), dx(), options); });
}

TEST_F(Backward, ByConstantsNeedsNoForwardCall) {
    bn_.eval();
    expect_ok(bn_.backward(x(), dy(), dx()));
    for (std::size_t i = 0; i < 72; ++i) EXPECT_FLOAT_EQ(dx_[i], dy_[i] / std::sqrt(1 + 1e-5f));
    expect_ok(bn_.backward(of(x_, {1, 4, 1, 1}), of(dy_, {1, 4, 1, 1}), of(dx_, {1, 4, 1, 1})));
    other_.eval();
    expect_ok(bn_.backward_sum(x(), other_, x2(), dy(), dx(), dsecond()));
    expect_ok(bn_.backward_add(x(), dy(), dx(), dsecond()));
    for (std::size_t i = 0; i < 72; ++i) EXPECT_EQ(dsecond_[i], dy_[i]);
    bn_.train();
    expect_ok(bn_.freeze_statistics());
    expect_ok(bn_.backward(x(), dy(), dx()));
    EXPECT_EQ(fake_run["batch_statistics"].value, 0);
}

TEST_F(Backward, WithoutRunningStatisticsIsOfTheBatchInEvaluationModeToo) {
    BatchNormOptions options;
    options.track_running_stats = false;
    BatchNorm2d bn(4, library_.table(), options);
    bn.eval();
    expect_ok(bn.forward(x(), y()));
    expect_no_forward(bn, "evaluation mode keeps nothing for backward, so call train() and then forward",
                      [&] { return bn.backward(x(), dy(), dx()); });
    bn.train();
    expect_ok(bn.forward(x(), y()));
    bn.eval();
    expect_ok(bn.backward(x(), dy(), dx()));
    EXPECT_EQ(fake_run["batch_statistics"].value, 1);
    EXPECT_EQ(fake_run["mean"].data, bn.saved_mean().data());
}

// Forward kernels that fail: one that had no memory has changed nothing; of one that stopped midway nothing is left to
// go by.
TEST_F(Backward, GoesByNoForwardCallThatFailedMidway) {
    for (const Residual residual : {Residual::none, Residual::add, Residual::batch_norm}) {
        for (const Kind kind : {Kind::out_of_memory, Kind::stops}) {
            SCOPED_TRACE(std::string(to_string(residual)) + (kind == Kind::stops ? " stops" : " has no memory"));
            FakeVariant broken;
            broken.kind = kind;
            FakeLibrary library;  // whose kernel for three samples fails
            library.add_generic(Activation::relu);
            library.add({Op::train_forward, View::planar, Activation::relu, residual}, {3, FUSEBN_ANY, FUSEBN_ANY},
                        {broken});
            BatchNorm2d bn(4, library.table(), with(Activation::relu)), other(4, library_.table());
            const auto forward = [&](std::int64_t n) {
                const Extents e{n, 4, 3, 3};
                switch (residual) {
                    case Residual::none: return bn.forward(of(x_, e), of(y_, e));
                    case Residual::add: return bn.forward_add(of(x_, e), of(residual_, e), of(y_, e));
                    case Residual::batch_norm: return bn.forward_sum(of(x_, e), other, of(x2_, e), of(y_, e));
                }
                return Status();
            };
            const auto backward = [&] {
                switch (residual) {
                    case Residual::none: return bn.backward(x(), dy(), dx());
                    case Residual::add: return bn.backward_add(x(), dy(), dx(), dsecond());
                    case Residual::batch_norm: return bn.backward_sum(x(), other, x2(), dy(), dx(), dsecond());
                }
                return Status();
            };
            expect_ok(forward(2));
            expect_ok(backward());
            const std::vector<float> expected = dx_, expected_second = dsecond_;
            const std::vector<double> mean = bn.saved_mean(), other_mean = other.saved_mean();
            const BatchNormState state = bn.state();
            EXPECT_FALSE(forward(3).ok());
            EXPECT_EQ(bn.saved_mean(), mean);
            EXPECT_EQ(other.saved_mean(), other_mean);
            EXPECT_EQ(bn.state().running_mean, state.running_mean);
            EXPECT_EQ(bn.state().num_batches_tracked, 1);
            EXPECT_LE(other.state().num_batches_tracked, 1);
            dx_.assign(4096, untouched);
            dsecond_ = dx_;
            if (kind == Kind::stops) {
                expect_no_forward(bn, "the last one failed midway", backward);
                expect_ok(other.forward(x2(), y()));
                EXPECT_FALSE(forward(3).ok());
                EXPECT_EQ(other.backward(x2(), dy(), std::nullopt).ok(), residual != Residual::batch_norm);
                expect_ok(forward(2));
            }
            expect_ok(backward());
            EXPECT_TRUE(std::equal(dx_.begin(), dx_.begin() + 72, expected.begin()));
            EXPECT_TRUE(residual == Residual::none ||
                        std::equal(dsecond_.begin(), dsecond_.begin() + 72, expected_second.begin()));
        }
    }
}

TEST_F(Backward, SaysSoOfALayerThatWasMovedFrom) {
    BatchNorm2d gone(4, library_.table());
    const BatchNorm2d here = std::move(gone);
    EXPECT_EQ(here.features(), 4);
    // NOLINTBEGIN(bugprone-use-after-move): what a layer does then is the test
    for (const Status& s : {gone.forward_add(x(), residual(), y()), gone.forward_sum(x(), other_, x2(), y()),
                            gone.backward(x(), dy(), dx()), gone.backward_add(x(), dy(), dx(), dsecond()),
                            gone.backward_sum(x(), other_, x2(), dy(), dx(), dsecond()), gone.freeze_statistics(),
                            gone.set_diagnostics({})}) {
        EXPECT_EQ(s.code(), ErrorCode::invalid_argument);
        EXPECT_EQ(s.message().rfind("layer: it was moved from", 0), 0u) << s.message();
    }
    for (const Status& s :
         {bn_.forward_sum(x(), gone, x2(), y()), bn_.backward_sum(x(), gone, x2(), dy(), dx(), dsecond())}) {
        EXPECT_EQ(s.message().rfind("other: layer: it was moved from", 0), 0u) << s.message();
    }
    gone.zero_grad();
    EXPECT_TRUE(gone.grad_gamma().empty());
    EXPECT_EQ(gone.saved_bytes(), 0u);
    // NOLINTEND(bugprone-use-after-move)
}

}  // namespace
}  // namespace fusebn::test
