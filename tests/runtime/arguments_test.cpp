// What every kernel is given: the lists of kernel_abi.h, each pointer, scalar, extent and stride.
#include <gtest/gtest.h>

#include <cmath>

#include "fake_library.h"

namespace fusebn::test {
namespace {

using I32s = std::vector<std::int32_t>;

// [2, 3, 2, 2] within [2, 5, 2, 2]: outer strides of their own for each tensor.
class Arguments : public testing::Test {
protected:
    static BatchNormOptions with(Activation activation, double slope = 0.01) {
        BatchNormOptions options;
        options.activation = activation;
        options.slope = slope;
        options.eps = 0.25;
        options.momentum = 0.125;
        return options;
    }
    BatchNorm2d layer(FakeLibrary& library, const BatchNormOptions& options) {
        BatchNorm2d made(3, library.table(), options);
        EXPECT_TRUE(made.set_state({{1, 2, 3}, {4, 5, 6}, {0, 1, 0}, {1, 2, 3}, 6}).ok());
        return made;
    }
    // Tensors number 0 to 5, each with a batch stride of its own.
    Tensor at(int i) { return tensor(buffer_ + 256 * i, Layout::NCHW, {2, 3, 2, 2}, {20 + 4 * i, 4, 2, 1}); }
    static void expect_tensor(const char* name, const Tensor& t) {
        SCOPED_TRACE(name);
        EXPECT_EQ(fake_run[name].data, t.data);
        EXPECT_EQ(fake_run[name].type(), "2:32");
        EXPECT_EQ(fake_run[name].extents(), (I32s{4, 3, 2}));
        EXPECT_EQ(fake_run[name].strides(), (I32s{1, 4, static_cast<std::int32_t>(t.strides[0])}));
    }
    static void expect_channels(const char* name, const void* data, const char* type = "2:32") {
        SCOPED_TRACE(name);
        EXPECT_EQ(fake_run[name].data, data);
        EXPECT_EQ(fake_run[name].type(), type);
        EXPECT_EQ(fake_run[name].extents(), (I32s{3}));
        EXPECT_EQ(fake_run[name].strides(), (I32s{1}));
    }
    static void expect_own(const char* name, const char* type) {  // memory of the layer's that nobody else sees
        expect_channels(name, fake_run[name].data, type);
        EXPECT_NE(fake_run[name].data, nullptr);
    }
    static void expect_ok(const Status& s) { ASSERT_TRUE(s.ok()) << s.message(); }

    float buffer_[256 * 6] = {};
};

TEST_F(Arguments, OfInference) {
    FakeLibrary library = generic_library(Activation::leaky_relu);
    BatchNorm2d bn = layer(library, with(Activation::leaky_relu, 0.3));
    bn.eval();
    expect_ok(bn.forward(at(0), at(1)));
    EXPECT_EQ(fake_run.names(), "x gamma beta mean var eps slope y");
    expect_tensor("x", at(0));
    expect_tensor("y", at(1));
    expect_channels("gamma", bn.state().gamma.data());
    expect_channels("beta", bn.state().beta.data());
    expect_channels("mean", bn.state().running_mean.data());
    expect_channels("var", bn.state().running_var.data());
    EXPECT_EQ(fake_run["eps"].value, 0.25);
    EXPECT_EQ(fake_run["slope"].value, 0.3f) << "rounded to f32";
}

TEST_F(Arguments, OfInferenceWithAResidualAndWithASecondBranch) {
    FakeLibrary library = generic_library(Activation::relu);
    BatchNorm2d bn = layer(library, with(Activation::relu));
    BatchNormOptions plain = with(Activation::none);
    plain.eps = 0.5;
    BatchNorm2d other = layer(library, plain);
    bn.eval();
    other.eval();
    expect_ok(bn.forward_add(at(0), at(1), at(2)));
    EXPECT_EQ(fake_run.names(), "x gamma beta mean var eps slope residual y");
    expect_tensor("residual", at(1));
    expect_tensor("y", at(2));
    expect_ok(bn.forward_sum(at(0), other, at(1), at(2)));
    EXPECT_EQ(fake_run.names(), "x gamma beta mean var eps slope x2 gamma2 beta2 mean2 var2 eps2 y");
    expect_tensor("x", at(0));
    expect_tensor("x2", at(1));
    expect_channels("gamma2", other.state().gamma.data());
    expect_channels("beta2", other.state().beta.data());
    expect_channels("mean2", other.state().running_mean.data());
    expect_channels("var2", other.state().running_var.data());
    EXPECT_EQ(fake_run["eps"].value, 0.25);
    EXPECT_EQ(fake_run["eps2"].value, 0.5);
}

TEST_F(Arguments, OfTrainForward) {
    FakeLibrary library = generic_library(Activation::relu);
    BatchNormOptions options = with(Activation::relu);
    for (const RunningVariance variance : {RunningVariance::unbiased, RunningVariance::biased}) {
        options.running_variance = variance;
        BatchNorm2d bn = layer(library, options);
        expect_ok(bn.forward(at(0), at(1)));
        EXPECT_EQ(fake_run.names(),
                  "x gamma beta running_mean running_var eps momentum ddof slope y mean inv_std new_running_mean "
                  "new_running_var");
        expect_tensor("x", at(0));
        expect_tensor("y", at(1));
        expect_channels("gamma", bn.state().gamma.data());
        expect_channels("beta", bn.state().beta.data());
        expect_channels("running_mean", bn.state().running_mean.data());
        expect_channels("running_var", bn.state().running_var.data());
        EXPECT_EQ(fake_run["momentum"].value, 0.125);
        EXPECT_EQ(fake_run["ddof"].value, variance == RunningVariance::unbiased ? 1 : 0);
        expect_own("mean", "2:64");
        expect_own("inv_std", "2:64");
        expect_own("new_running_mean", "2:32");
        expect_own("new_running_var", "2:32");
        EXPECT_NE(fake_run["new_running_var"].data, bn.state().running_var.data()) << "it may fail yet";
    }
}

TEST_F(Arguments, OfTrainForwardWithAResidual) {
    for (const auto& activation : activation_names) {
        FakeLibrary library = generic_library(activation.value);
        BatchNorm2d bn = layer(library, with(activation.value));
        expect_ok(bn.forward_add(at(0), at(1), at(2)));
        const bool mask = saves_mask(activation.value, Residual::add);
        EXPECT_EQ(fake_run.names(),
                  std::string("x gamma beta running_mean running_var eps momentum ddof slope residual y ") +
                      (mask ? "mask " : "") + "mean inv_std new_running_mean new_running_var");
        expect_tensor("residual", at(1));
        expect_tensor("y", at(2));
        if (!mask) continue;
        EXPECT_EQ(fake_run["mask"].type(), "1:8");
        EXPECT_EQ(fake_run["mask"].extents(), (I32s{4, 3, 2}));
        EXPECT_EQ(fake_run["mask"].strides(), (I32s{1, 32, 96})) << "in bits";
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(fake_run["mask"].data) % 64, 0u);
    }
}

TEST_F(Arguments, OfAMaskFollowTheView) {
    FakeLibrary library = generic_library(Activation::relu);
    BatchNorm1d bn(33, library.table(), with(Activation::relu));
    std::vector<float> x(33 * 6);
    const auto run = [&](Layout layout, const Extents& extents) {
        const Tensor t = tensor(x.data(), layout, extents);
        expect_ok(bn.forward_add(t, t, t));
        return std::pair(fake_run["mask"].extents(), fake_run["mask"].strides());
    };
    EXPECT_EQ(run(Layout::NLC, {2, 3, 33}), std::pair(I32s({33, 6}), I32s({1, 64})));
    EXPECT_EQ(run(Layout::NC, {6, 33}), std::pair(I32s({33, 6}), I32s({1, 64})));
    EXPECT_EQ(run(Layout::NCL, {2, 33, 3}), std::pair(I32s({3, 33, 2}), I32s({1, 32, 33 * 32})));
    EXPECT_EQ(run(Layout::NCL, {6, 33, 1}), std::pair(I32s({33, 6}), I32s({1, 64}))) << "interleaved";
}

TEST_F(Arguments, OfTrainForwardWithASecondBranch) {
    FakeLibrary library = generic_library(Activation::relu);
    BatchNorm2d bn = layer(library, with(Activation::relu));
    BatchNormOptions plain = with(Activation::none);
    plain.eps = 0.5;
    plain.momentum = Momentum::cumulative();
    plain.running_variance = RunningVariance::biased;
    BatchNorm2d other = layer(library, plain);
    expect_ok(bn.forward_sum(at(0), other, at(1), at(2)));
    EXPECT_EQ(
        fake_run.names(),
        "x gamma beta running_mean running_var eps momentum ddof slope x2 gamma2 beta2 running_mean2 running_var2 "
        "eps2 momentum2 ddof2 y mean inv_std new_running_mean new_running_var mean2 inv_std2 new_running_mean2 "
        "new_running_var2");
    expect_tensor("x", at(0));
    expect_tensor("x2", at(1));
    expect_tensor("y", at(2));
    expect_channels("running_mean", bn.state().running_mean.data());
    expect_channels("gamma2", other.state().gamma.data());
    expect_channels("beta2", other.state().beta.data());
    expect_channels("running_mean2", other.state().running_mean.data());
    expect_channels("running_var2", other.state().running_var.data());
    EXPECT_EQ(fake_run["eps2"].value, 0.5);
    EXPECT_EQ(fake_run["momentum"].value, 0.125);
    EXPECT_EQ(fake_run["momentum2"].value, 1.0 / 7);
    EXPECT_EQ(fake_run["ddof"].value, 1);
    EXPECT_EQ(fake_run["ddof2"].value, 0);
    for (const char* name : {"mean2", "inv_std2"}) expect_own(name, "2:64");
    for (const char* name : {"new_running_mean2", "new_running_var2"}) expect_own(name, "2:32");
    EXPECT_NE(fake_run["mean"].data, fake_run["mean2"].data);
}

TEST_F(Arguments, OfBackward) {
    FakeLibrary library = generic_library(Activation::leaky_relu);
    BatchNorm2d bn = layer(library, with(Activation::leaky_relu, 0.3));
    expect_ok(bn.forward(at(0), at(1)));
    expect_ok(bn.backward(at(0), at(2), at(3)));
    EXPECT_EQ(fake_run.names(), "x dy gamma beta mean inv_std batch_statistics sums slope dx dgamma dbeta");
    expect_tensor("x", at(0));
    expect_tensor("dy", at(2));
    expect_tensor("dx", at(3));
    expect_channels("gamma", bn.state().gamma.data());
    expect_channels("beta", bn.state().beta.data());
    expect_channels("mean", bn.saved_mean().data(), "2:64");
    expect_channels("inv_std", bn.saved_inv_std().data(), "2:64");
    EXPECT_EQ(fake_run["batch_statistics"].value, 1);
    EXPECT_EQ(fake_run["sums"].value, 1);
    EXPECT_EQ(fake_run["slope"].value, 0.3f);
    expect_own("dgamma", "2:32");
    expect_own("dbeta", "2:32");
    EXPECT_NE(fake_run["dgamma"].data, bn.grad_gamma().data()) << "it may fail yet";

    expect_ok(bn.backward(at(0), at(2), std::nullopt));
    EXPECT_EQ(fake_run["dx"].data, nullptr);
    EXPECT_EQ(fake_run["dx"].extents(), (I32s{4, 3, 0}));
    EXPECT_EQ(fake_run["dx"].type(), "2:32");
}

TEST_F(Arguments, OfBackwardByConstants) {
    FakeLibrary library = generic_library();
    BatchNorm2d bn = layer(library, with(Activation::none));
    for (const bool frozen : {true, false}) {
        bn.train(frozen);
        expect_ok(bn.freeze_statistics(frozen));
        BackwardOptions options;
        expect_ok(bn.backward(at(0), at(2), at(3), options));
        EXPECT_EQ(fake_run["batch_statistics"].value, 0);
        EXPECT_EQ(fake_run["sums"].value, 1);
        expect_own("mean", "2:64");
        for (int c = 0; c < 3; ++c) {
            const auto i = static_cast<std::size_t>(c);
            EXPECT_EQ(static_cast<const double*>(fake_run["mean"].data)[c], bn.state().running_mean[i]);
            EXPECT_EQ(static_cast<const double*>(fake_run["inv_std"].data)[c],
                      1 / std::sqrt(static_cast<double>(bn.state().running_var[i]) + 0.25));
        }
        options.gamma = Gradient::skip;
        expect_ok(bn.backward(at(0), at(2), at(3), options));
        EXPECT_EQ(fake_run["sums"].value, 1) << "beta's is wanted yet";
        options.beta = Gradient::skip;
        expect_ok(bn.backward(at(0), at(2), at(3), options));
        EXPECT_EQ(fake_run["sums"].value, 0);
    }
    // By the batch's statistics dx needs the sums.
    bn.train();
    expect_ok(bn.freeze_statistics(false));
    expect_ok(bn.forward(at(0), at(1)));
    BackwardOptions none;
    none.gamma = none.beta = Gradient::skip;
    expect_ok(bn.backward(at(0), at(2), at(3), none));
    EXPECT_EQ(fake_run["sums"].value, 1);
    EXPECT_EQ(fake_run["batch_statistics"].value, 1);

    BatchNormOptions without = with(Activation::none);
    without.affine = false;
    BatchNorm2d constant(3, library.table(), without);
    constant.eval();
    expect_ok(constant.backward(at(0), at(2), at(3)));
    EXPECT_EQ(fake_run["sums"].value, 0) << "a layer without parameters wants none";
}

TEST_F(Arguments, OfBackwardWithAResidual) {
    for (const auto& activation : activation_names) {
        SCOPED_TRACE(activation.name);
        FakeLibrary library = generic_library(activation.value);
        BatchNorm2d bn = layer(library, with(activation.value));
        expect_ok(bn.forward_add(at(0), at(1), at(2)));
        const FakeRun forward = fake_run;
        BackwardOptions options;
        options.residual = at(1);
        expect_ok(bn.backward_add(at(0), at(3), at(4), at(5), options));
        const bool mask = saves_mask(activation.value, Residual::add);
        EXPECT_EQ(fake_run.names(), std::string("x dy gamma beta mean inv_std batch_statistics sums slope ") +
                                        (mask ? "mask" : "residual") + " dx dresidual dgamma dbeta");
        expect_tensor("dy", at(3));
        expect_tensor("dx", at(4));
        expect_tensor("dresidual", at(5));
        if (mask) {
            EXPECT_EQ(fake_run["mask"].data, forward["mask"].data);
            EXPECT_EQ(fake_run["mask"].type(), "1:8");
            EXPECT_EQ(fake_run["mask"].extents(), forward["mask"].extents());
            EXPECT_EQ(fake_run["mask"].strides(), forward["mask"].strides());
        } else {
            // Nothing of `none`'s gradient depends on it, so any tensor that is there will do.
            expect_tensor("residual", activation.value == Activation::none ? at(0) : at(1));
        }
        expect_ok(bn.backward_add(at(0), at(3), std::nullopt, std::nullopt, options));
        for (const char* name : {"dx", "dresidual"}) {
            EXPECT_EQ(fake_run[name].data, nullptr);
            EXPECT_EQ(fake_run[name].extents(), (I32s{4, 3, 0}));
        }
    }
}

TEST_F(Arguments, OfBackwardWithASecondBranch) {
    FakeLibrary library = generic_library(Activation::relu);
    BatchNorm2d bn = layer(library, with(Activation::relu)), other = layer(library, with(Activation::none));
    expect_ok(bn.forward_sum(at(0), other, at(1), at(2)));
    expect_ok(bn.backward_sum(at(0), other, at(1), at(3), at(4), at(5)));
    EXPECT_EQ(fake_run.names(),
              "x dy gamma beta mean inv_std batch_statistics sums slope x2 gamma2 beta2 mean2 inv_std2 "
              "batch_statistics2 dx dx2 dgamma dbeta dgamma2 dbeta2");
    expect_tensor("x", at(0));
    expect_tensor("x2", at(1));
    expect_tensor("dy", at(3));
    expect_tensor("dx", at(4));
    expect_tensor("dx2", at(5));
    expect_channels("gamma2", other.state().gamma.data());
    expect_channels("beta2", other.state().beta.data());
    expect_channels("mean2", other.saved_mean().data(), "2:64");
    expect_channels("inv_std2", other.saved_inv_std().data(), "2:64");
    EXPECT_EQ(fake_run["batch_statistics2"].value, 1);
    for (const char* name : {"dgamma2", "dbeta2"}) expect_own(name, "2:32");
    EXPECT_NE(fake_run["dgamma"].data, fake_run["dgamma2"].data);

    bn.eval();
    other.eval();
    BackwardOptions none;
    none.gamma = none.beta = Gradient::skip;
    expect_ok(bn.backward_sum(at(0), other, at(1), at(3), at(4), at(5), none));
    EXPECT_EQ(fake_run["batch_statistics"].value, 0);
    EXPECT_EQ(fake_run["batch_statistics2"].value, 0);
    EXPECT_EQ(fake_run["sums"].value, 0);
    EXPECT_NE(fake_run["mean2"].data, fake_run["mean"].data);
}

TEST_F(Arguments, OfSixteenBitTypesAreUnsigned) {
    for (const DataType dtype : {DataType::bf16, DataType::f16}) {
        FakeLibrary library = generic_library(Activation::none, {{}}, dtype);
        BatchNorm1d bn(2, library.table());
        std::uint16_t values[3][12] = {{1}, {2}, {3}};
        const auto view = [&](int i) { return Tensor(values[i], dtype, Layout::NCL, {2, 2, 3}); };
        expect_ok(bn.forward(view(0), view(1)));
        EXPECT_EQ(fake_run["x"].type(), "1:16");
        EXPECT_EQ(fake_run["y"].type(), "1:16");
        EXPECT_NE(BatchNorm::last_kernel().find(to_string(dtype)), std::string::npos);
        expect_ok(bn.backward(view(0), view(1), view(2)));
        for (const char* name : {"x", "dy", "dx"}) EXPECT_EQ(fake_run[name].type(), "1:16");
        EXPECT_EQ(fake_run["gamma"].type(), "2:32");
    }
}

}  // namespace
}  // namespace fusebn::test
