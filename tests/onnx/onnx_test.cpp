// The batch-norm cases of ONNX's backend test, four of the operator and five converted from PyTorch, through the public
// calls. ONNX's momentum is that of the old value, and its running variance the biased one.

#include <gtest/gtest.h>
#include <kernels_generic.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "fusebn/batch_norm.h"
#include "oracle/bounds.h"

using namespace fusebn;

namespace {

struct Array {
    std::vector<std::int64_t> shape;
    std::vector<float> values;
};
struct OnnxCase {
    std::string name;
    bool converted, training;
    double epsilon, momentum;
    Array x, scale, bias, mean, var;
    std::vector<Array> outputs;
};

std::string file(const std::string& ending) {
    std::ifstream in(ONNX_CASES + ending, std::ios::binary);
    if (!in) throw std::runtime_error("there is no " ONNX_CASES + ending);
    return {std::istreambuf_iterator<char>(in), {}};
}

const std::vector<OnnxCase>& onnx_cases() {
    static const std::vector<OnnxCase> all = [] {
        const std::string bytes = file(".bin");
        const auto array = [&](const nlohmann::json& place) {
            Array a{place.at("shape").get<std::vector<std::int64_t>>(), {}};
            std::size_t size = 1;
            for (std::int64_t extent : a.shape) size *= static_cast<std::size_t>(extent);
            a.values.resize(size);
            const std::size_t first = place.at("offset").get<std::size_t>() * sizeof(float);
            bytes.substr(first).copy(reinterpret_cast<char*>(a.values.data()), size * sizeof(float));
            return a;
        };
        std::vector<OnnxCase> of;
        const nlohmann::json index = nlohmann::json::parse(file(".json"));
        for (const auto& c : index.at("cases")) {
            of.push_back({c.at("name"),
                          c.at("converted"),
                          c.at("training"),
                          c.at("epsilon"),
                          c.at("momentum"),
                          array(c.at("x")),
                          array(c.at("scale")),
                          array(c.at("bias")),
                          array(c.at("mean")),
                          array(c.at("var")),
                          {}});
            for (const auto& output : c.at("outputs")) of.back().outputs.push_back(array(output));
        }
        return of;
    }();
    return all;
}

Extents extents_of(const Array& x) { return {x.shape.data(), static_cast<int>(x.shape.size())}; }

Layout layout_of(const Array& x) {
    switch (x.shape.size()) {
        case 2: return Layout::NC;
        case 3: return Layout::NCL;
        case 4: return Layout::NCHW;
        default: return Layout::NCDHW;
    }
}

std::unique_ptr<BatchNorm> layer_for(const OnnxCase& c) {
    BatchNormOptions options;
    options.eps = c.epsilon;
    options.momentum = 1 - c.momentum;
    options.running_variance = RunningVariance::biased;
    const int features = static_cast<int>(c.scale.values.size());
    const KernelTable& kernels = kernels_generic::kernels();
    switch (c.x.shape.size()) {
        case 2:
        case 3: return std::make_unique<BatchNorm1d>(features, kernels, options);
        case 4: return std::make_unique<BatchNorm2d>(features, kernels, options);
        default: return std::make_unique<BatchNorm3d>(features, kernels, options);
    }
}

using Onnx = testing::TestWithParam<std::size_t>;

// The wanted values were computed in f32, by numpy and by PyTorch, and carry roundings as the kernel does: some u of
// every part that y is a sum of, in whatever form (a PyTorch of then multiplied out x * a + b). With the batch's
// statistics a mean of numpy's in f32 comes in, a tree of some additions: four times as many.
TEST_P(Onnx, CaseHasTheResultThatOnnxSays) {
    const OnnxCase& c = onnx_cases()[GetParam()];
    const std::unique_ptr<BatchNorm> layer = layer_for(c);
    ASSERT_TRUE(layer->status().ok()) << layer->status().message();
    BatchNormState state = layer->state();
    state.gamma = c.scale.values;
    state.beta = c.bias.values;
    state.running_mean = c.mean.values;
    state.running_var = c.var.values;
    ASSERT_TRUE(layer->set_state(state).ok());
    layer->train(c.training);
    std::vector<float> y(c.x.values.size(), std::nanf(""));
    const Layout layout = layout_of(c.x);
    const Status status =
        layer->forward(tensor(c.x.values.data(), layout, extents_of(c.x)), tensor(y.data(), layout, extents_of(c.x)));
    ASSERT_TRUE(status.ok()) << status.message();

    const double unit = (c.training ? 32 : 8) * oracle::u;
    std::size_t inner = 1;
    for (std::size_t axis = 2; axis < c.x.shape.size(); ++axis) inner *= static_cast<std::size_t>(c.x.shape[axis]);
    ASSERT_EQ(y.size(), c.outputs.at(0).values.size());
    for (std::size_t i = 0; i < y.size(); ++i) {
        const std::size_t ch = i / inner % c.scale.values.size();
        const double mean = c.training ? layer->saved_mean()[ch] : static_cast<double>(c.mean.values[ch]);
        const double inv_std =
            c.training ? layer->saved_inv_std()[ch] : 1 / std::sqrt(static_cast<double>(c.var.values[ch]) + c.epsilon);
        const double parts = std::abs(static_cast<double>(c.scale.values[ch])) * inv_std *
                                 (std::abs(static_cast<double>(c.x.values[i])) + std::abs(mean)) +
                             std::abs(static_cast<double>(c.bias.values[ch]));
        EXPECT_NEAR(static_cast<double>(y[i]), static_cast<double>(c.outputs[0].values[i]), unit * parts) << i;
    }
    if (!c.training) {
        EXPECT_EQ(layer->state().running_mean, c.mean.values);
        return;
    }
    ASSERT_EQ(c.outputs.size(), 3u);
    for (std::size_t ch = 0; ch < c.scale.values.size(); ++ch) {
        const double var = 1 / (layer->saved_inv_std()[ch] * layer->saved_inv_std()[ch]);
        EXPECT_NEAR(layer->state().running_mean[ch], c.outputs[1].values[ch],
                    unit * (std::abs(static_cast<double>(c.mean.values[ch])) + std::sqrt(var) +
                            std::abs(layer->saved_mean()[ch])))
            << ch;
        EXPECT_NEAR(layer->state().running_var[ch], c.outputs[2].values[ch],
                    unit * (static_cast<double>(c.var.values[ch]) + var))
            << ch;
    }
}

INSTANTIATE_TEST_SUITE_P(Backend, Onnx, testing::Range<std::size_t>(0, onnx_cases().size()),
                         [](const auto& test) { return onnx_cases()[test.param].name; });

TEST(OnnxCases, AreAllNine) {
    std::size_t converted = 0, training = 0;
    for (const OnnxCase& c : onnx_cases()) {
        converted += c.converted;
        training += c.training;
    }
    EXPECT_EQ(onnx_cases().size() - converted, 4u);
    EXPECT_EQ(training, 2u);
    if (converted == 0) GTEST_SKIP() << "this onnx package has no data of the five cases converted from PyTorch";
    EXPECT_EQ(converted, 5u);
}

}  // namespace
