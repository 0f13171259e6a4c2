// Every refusal of a call's arguments: its code, its sentence, and that nothing has changed.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

#include "fake_library.h"

namespace fusebn::test {
namespace {

constexpr std::int64_t huge = std::numeric_limits<std::int64_t>::max();
constexpr float untouched = -7.0f;

class Forward : public testing::Test {
protected:
    FakeLibrary library_ = generic_library();
    BatchNorm1d one_{4, library_.table()};
    BatchNorm2d two_{4, library_.table()};
    BatchNorm3d three_{4, library_.table()};
    std::vector<float> x_ = noise(4096);
    std::vector<float> y_ = std::vector<float>(4096, untouched);

    ConstTensor x(Layout layout, const Extents& extents, const Extents& strides = {}) {
        return tensor(const_cast<const float*>(x_.data()), layout, extents, strides);
    }
    Tensor y(Layout layout, const Extents& extents, const Extents& strides = {}) {
        return tensor(y_.data(), layout, extents, strides);
    }

    // In both modes: the same refusal, and y and the state as they were.
    void expect(BatchNorm& layer, ErrorCode code, const ConstTensor& x, const Tensor& y, const std::string& words = "",
                bool in_evaluation = true) {
        for (const bool training : {true, false}) {
            if (!training && !in_evaluation) continue;
            layer.train(training);
            const BatchNormState before = layer.state();
            const int runs = fake_run.runs;
            const Status s = layer.forward(x, y);
            EXPECT_EQ(s.code(), code) << s.message();
            EXPECT_NE(s.message().find(words), std::string::npos) << s.message();
            EXPECT_EQ(fake_run.runs, runs);
            EXPECT_EQ(y_, std::vector<float>(4096, untouched));
            EXPECT_EQ(layer.state().running_mean, before.running_mean);
            EXPECT_EQ(layer.state().running_var, before.running_var);
            EXPECT_EQ(layer.state().num_batches_tracked, before.num_batches_tracked);
            EXPECT_TRUE(layer.saved_mean().empty());
        }
    }
    void expect_both(BatchNorm& layer, ErrorCode code, Layout layout, const Extents& extents,
                     const std::string& words = "", const Extents& strides = {}) {
        expect(layer, code, x(layout, extents, strides), y(layout, extents, strides), words);
    }
};

TEST_F(Forward, RefusesNullData) {
    ConstTensor no_x = x(Layout::NC, {5, 4});
    no_x.data = nullptr;
    expect(one_, ErrorCode::null_pointer, no_x, y(Layout::NC, {5, 4}), "x: its data is null");
    Tensor no_y = y(Layout::NC, {5, 4});
    no_y.data = nullptr;
    expect(one_, ErrorCode::null_pointer, x(Layout::NC, {5, 4}), no_y, "y: its data is null");
}

TEST_F(Forward, RefusesAnUnknownElementType) {
    ConstTensor in = x(Layout::NC, {5, 4});
    in.dtype = static_cast<DataType>(9);
    expect(one_, ErrorCode::no_kernel, in, y(Layout::NC, {5, 4}), "number 9");
    in.dtype = static_cast<DataType>(-1);
    expect(one_, ErrorCode::no_kernel, in, y(Layout::NC, {5, 4}), "number -1");
    Tensor out = y(Layout::NC, {5, 4});
    out.dtype = static_cast<DataType>(9);
    expect(one_, ErrorCode::shape_mismatch, x(Layout::NC, {5, 4}), out, "y: it is 9 NC");
}

TEST_F(Forward, RefusesALayoutOfAnotherDimension) {
    expect_both(one_, ErrorCode::wrong_layout, Layout::NCHW, {2, 4, 3, 3}, "BatchNorm1d takes NC, NCL or NLC");
    expect_both(two_, ErrorCode::wrong_layout, Layout::NCL, {2, 4, 3}, "BatchNorm2d takes NCHW or NHWC");
    expect_both(two_, ErrorCode::wrong_layout, Layout::NDHWC, {2, 3, 3, 3, 4}, "its layout is NDHWC");
    expect_both(three_, ErrorCode::wrong_layout, Layout::NHWC, {2, 3, 3, 4}, "BatchNorm3d takes NCDHW or NDHWC");
    expect_both(three_, ErrorCode::wrong_layout, static_cast<Layout>(99), {2, 3, 3, 4}, "its layout is 99");
    expect_both(three_, ErrorCode::wrong_layout, static_cast<Layout>(-1), {2, 3, 3, 4}, "its layout is -1");
}

TEST_F(Forward, RefusesExtentsOfAnotherRank) {
    expect_both(two_, ErrorCode::wrong_layout, Layout::NCHW, {2, 4, 3}, "it has 3 extents {2, 4, 3}, but NCHW has 4");
    expect_both(two_, ErrorCode::wrong_layout, Layout::NCHW, {}, "it has 0 extents");
    expect_both(three_, ErrorCode::wrong_layout, Layout::NCDHW, {2, 4, 3, 3, 3, 3},
                "it has 6 extents {2, 4, 3, 3, 3, ...}");
    expect_both(one_, ErrorCode::wrong_layout, Layout::NC, Extents(nullptr, -3), "it has -3 extents");
    expect_both(two_, ErrorCode::empty_tensor, Layout::NCHW, Extents(nullptr, 4), "its extents are {0, 0, 0, 0}");
    expect_both(two_, ErrorCode::unsupported_strides, Layout::NCHW, {5, 4, 2, 2}, "{0, 0, 0, 0}", Extents(nullptr, 4));
}

TEST_F(Forward, RefusesEmptyTensors) {
    expect_both(two_, ErrorCode::empty_tensor, Layout::NCHW, {0, 4, 3, 3}, "every extent must be at least 1");
    expect_both(two_, ErrorCode::empty_tensor, Layout::NCHW, {2, 0, 3, 3});
    expect_both(two_, ErrorCode::empty_tensor, Layout::NHWC, {2, 0, 3, 4});
    expect_both(one_, ErrorCode::empty_tensor, Layout::NC, {-5, 4}, "{-5, 4}");
    expect_both(one_, ErrorCode::empty_tensor, Layout::NC, {-huge - 1, 4});
}

TEST_F(Forward, RefusesExtentsTooLargeToCount) {
    constexpr std::int64_t most = FUSEBN_MAX_EXTENT;
    expect_both(one_, ErrorCode::too_large, Layout::NC, {most + 1, 4}, "1073741824");
    expect_both(one_, ErrorCode::too_large, Layout::NC, {huge, 4});
    expect_both(two_, ErrorCode::too_large, Layout::NCHW, {1, 4, 65536, 65536}, "the spatial extents multiplied");
    expect_both(two_, ErrorCode::too_large, Layout::NHWC, {65536, 32768, 1, 4}, "batch and spatial");
    expect_both(two_, ErrorCode::too_large, Layout::NCHW, {4194304, 4, 1024, 1024}, "values per channel");
    expect_both(three_, ErrorCode::too_large, Layout::NCDHW, {1, 4, most, most, most});
    expect_both(three_, ErrorCode::too_large, Layout::NDHWC, {most, most, most, most, 4});
    expect_both(two_, ErrorCode::too_large, Layout::NCHW, {2, 4, 32768, 32768}, "outer strides may be 2147483647");
    expect_both(two_, ErrorCode::too_large, Layout::NCHW, {2, 4, 1, 1}, "with strides {4294967296,",
                {1ll << 32, 1, 1, 1});
}

TEST_F(Forward, RefusesATensorThatEndsBehindTheLastAddress) {
    // The highest address whose tensor would wrap around; never read.
    ConstTensor in = x(Layout::NC, {5, 4});
    in.data = reinterpret_cast<const void*>(std::numeric_limits<std::uintptr_t>::max() - 63);
    expect(one_, ErrorCode::too_large, in, y(Layout::NC, {5, 4}), "past the end of memory");
}

TEST_F(Forward, SaysWhichLayoutToDeclareWhenTheChannelsAreAtTheOtherEnd) {
    expect_both(one_, ErrorCode::wrong_layout, Layout::NCL, {2, 7, 4}, "declare Layout::NLC");
    expect_both(one_, ErrorCode::wrong_layout, Layout::NLC, {2, 4, 7}, "declare Layout::NCL");
    expect_both(two_, ErrorCode::wrong_layout, Layout::NCHW, {2, 3, 3, 4}, "declare Layout::NHWC");
    expect_both(two_, ErrorCode::wrong_layout, Layout::NHWC, {2, 4, 3, 3}, "declare Layout::NCHW");
    expect_both(three_, ErrorCode::wrong_layout, Layout::NCDHW, {2, 3, 3, 3, 4}, "declare Layout::NDHWC");
    expect_both(three_, ErrorCode::wrong_layout, Layout::NDHWC, {2, 4, 3, 3, 3}, "declare Layout::NCDHW");
}

TEST_F(Forward, RefusesOtherChannelsThanTheLayersFeatures) {
    expect_both(one_, ErrorCode::shape_mismatch, Layout::NC, {4, 5}, "has 5 channels (extent 1), but the layer has 4");
    expect_both(two_, ErrorCode::shape_mismatch, Layout::NCHW, {2, 3, 4, 5}, "has 3 channels");
    expect_both(two_, ErrorCode::shape_mismatch, Layout::NHWC, {2, 3, 4, 5}, "has 5 channels (extent 3)");
}

TEST_F(Forward, RefusesYOfAnotherShapeThanX) {
    expect(two_, ErrorCode::shape_mismatch, x(Layout::NCHW, {2, 4, 3, 5}), y(Layout::NCHW, {2, 4, 5, 3}),
           "y: it is f32 NCHW {2, 4, 5, 3}, but x is f32 NCHW {2, 4, 3, 5}");
    expect(two_, ErrorCode::shape_mismatch, x(Layout::NCHW, {2, 4, 4, 4}), y(Layout::NHWC, {2, 4, 4, 4}), "NHWC");
    expect(two_, ErrorCode::shape_mismatch, x(Layout::NCHW, {2, 4, 4, 4}), y(Layout::NCHW, {2, 4, 4}), "{2, 4, 4}");
    expect(two_, ErrorCode::shape_mismatch, x(Layout::NCHW, {2, 4, 4, 4}), y(static_cast<Layout>(70), {2, 4, 4, 4}));
    expect(two_, ErrorCode::shape_mismatch, x(Layout::NCHW, {2, 4, 4, 4}), y(Layout::NCHW, {}));
}

TEST_F(Forward, RefusesStridesOfAnotherRank) {
    expect_both(two_, ErrorCode::unsupported_strides, Layout::NCHW, {2, 4, 3, 3}, "it has 3 strides {36, 9, 3}",
                {36, 9, 3});
    expect_both(two_, ErrorCode::unsupported_strides, Layout::NCHW, {2, 4, 3, 3}, "it has 6 strides",
                {1, 1, 1, 1, 1, 1});
}

TEST_F(Forward, RefusesAnInnermostAxisThatIsNotContiguous) {
    const auto bad = ErrorCode::unsupported_strides;
    expect_both(two_, bad, Layout::NCHW, {2, 4, 3, 3}, "the spatial axes must be contiguous", {72, 18, 6, 2});
    expect_both(two_, bad, Layout::NCHW, {2, 4, 3, 3}, "the spatial axes must be contiguous", {64, 16, 4, 1});
    expect_both(two_, bad, Layout::NCHW, {2, 4, 3, 3}, "the spatial axes must be contiguous", {36, 9, 1, 3});
    expect_both(two_, bad, Layout::NHWC, {2, 3, 3, 4}, "the channels must have stride 1", {72, 24, 8, 2});
    expect_both(two_, bad, Layout::NHWC, {2, 3, 3, 4}, "evenly spaced", {48, 16, 4, 1});
    expect_both(two_, bad, Layout::NHWC, {2, 3, 3, 4}, "evenly spaced", {40, 12, 4, 1});
    expect_both(one_, bad, Layout::NC, {5, 4}, "the channels must have stride 1", {1, 5});
}

TEST_F(Forward, RefusesStridesThatAreNotPositive) {
    const auto bad = ErrorCode::unsupported_strides;
    expect_both(two_, bad, Layout::NCHW, {2, 4, 3, 3}, "every stride must be positive", {-36, 9, 3, 1});
    expect_both(two_, bad, Layout::NCHW, {2, 4, 3, 3}, "every stride must be positive", {0, 9, 3, 1});
    expect_both(two_, bad, Layout::NCHW, {2, 4, 3, 3}, "every stride must be positive", {36, -9, 3, 1});
    expect_both(two_, bad, Layout::NHWC, {2, 3, 3, 4}, "every stride must be positive", {36, 12, -4, 1});
    expect_both(one_, bad, Layout::NC, {5, 4}, "every stride must be positive", {-huge - 1, 1});
    expect_both(one_, ErrorCode::too_large, Layout::NLC, {5, 5, 4}, "outer strides", {huge, huge, 1});
    expect_both(one_, bad, Layout::NCL, {5, 4, 3}, "every stride must be positive", {huge, -huge, 1});
}

TEST_F(Forward, RefusesStridesThatFoldATensorOntoItself) {
    const auto bad = ErrorCode::unsupported_strides;
    expect_both(two_, bad, Layout::NCHW, {2, 4, 3, 3}, "fold it onto itself", {35, 9, 3, 1});
    expect_both(two_, bad, Layout::NCHW, {2, 4, 3, 3}, "fold it onto itself", {36, 8, 3, 1});
    expect_both(two_, bad, Layout::NCHW, {2, 4, 3, 3}, "fold it onto itself", {9, 9, 3, 1});
    expect_both(two_, bad, Layout::NCHW, {2, 4, 3, 3}, "fold it onto itself", {9, 17, 3, 1});
    expect_both(one_, bad, Layout::NC, {5, 4}, "fold it onto itself", {3, 1});
    // One of the two is enough.
    expect(one_, bad, x(Layout::NC, {5, 4}, {3, 1}), y(Layout::NC, {5, 4}), "x: its strides");
    expect(one_, bad, x(Layout::NC, {5, 4}), y(Layout::NC, {5, 4}, {3, 1}), "y: its strides");
}

TEST_F(Forward, RefusesMisalignedAddresses) {
    ConstTensor in = x(Layout::NC, {5, 4});
    in.data = static_cast<const char*>(in.data) + 2;
    expect(one_, ErrorCode::misaligned, in, y(Layout::NC, {5, 4}), "x: its address is no multiple of 4");
    Tensor out = y(Layout::NC, {5, 4});
    out.data = static_cast<char*>(out.data) + 1;
    expect(one_, ErrorCode::misaligned, x(Layout::NC, {5, 4}), out, "y: its address");
}

TEST_F(Forward, RefusesOneValuePerChannel) {
    const auto code = ErrorCode::one_value_per_channel;
    expect(one_, code, x(Layout::NC, {1, 4}), y(Layout::NC, {1, 4}), "evaluation mode", false);
    expect(one_, code, x(Layout::NCL, {1, 4, 1}), y(Layout::NCL, {1, 4, 1}), "one value per channel", false);
    expect(two_, code, x(Layout::NHWC, {1, 1, 1, 4}), y(Layout::NHWC, {1, 1, 1, 4}), "NHWC {1, 1, 1, 4}", false);
    BatchNormOptions options;
    options.track_running_stats = false;
    BatchNorm1d untracked(4, library_.table(), options);
    expect(untracked, code, x(Layout::NC, {1, 4}), y(Layout::NC, {1, 4}), "a layer that tracks running statistics");
}

TEST_F(Forward, RefusesATableOfAnotherVersion) {
    KernelTable table = library_.table();
    table.abi_version = 99;
    BatchNorm1d layer(4, table);
    EXPECT_EQ(layer.status().code(), ErrorCode::bad_library);
    EXPECT_NE(layer.status().message().find("99"), std::string::npos);
    expect(layer, ErrorCode::bad_library, x(Layout::NC, {5, 4}), y(Layout::NC, {5, 4}));
}

TEST_F(Forward, RefusesATableWithABrokenRow) {
    const auto expect_broken = [&](auto&& breaking) {
        FakeLibrary library = generic_library();
        breaking(library.row(2));
        BatchNorm1d layer(4, library.table());
        expect(layer, ErrorCode::bad_library, x(Layout::NC, {5, 4}), y(Layout::NC, {5, 4}), "row 2 of fake_bn");
    };
    expect_broken([](fusebn_kernel& row) { row.name = nullptr; });
    expect_broken([](fusebn_kernel& row) { row.op = 7; });
    expect_broken([](fusebn_kernel& row) { row.op = -1; });
    expect_broken([](fusebn_kernel& row) { row.view = -1; });
    expect_broken([](fusebn_kernel& row) { row.view = 2; });
    expect_broken([](fusebn_kernel& row) { row.dtype = 3; });
    expect_broken([](fusebn_kernel& row) { row.dtype = -1; });
    expect_broken([](fusebn_kernel& row) { row.activation = 6; });
    expect_broken([](fusebn_kernel& row) { row.activation = -1; });
    expect_broken([](fusebn_kernel& row) { row.residual = 3; });
    expect_broken([](fusebn_kernel& row) { row.residual = -1; });
    expect_broken([](fusebn_kernel& row) { row.extents[0] = 0; });
    expect_broken([](fusebn_kernel& row) { row.variant_count = 0; });
    expect_broken([](fusebn_kernel& row) { row.variants = nullptr; });
    const fusebn_variant no_entry{0, 4, "s", nullptr, nullptr, nullptr, 0};
    expect_broken([&](fusebn_kernel& row) { row.variants = &no_entry; });
    fusebn_variant no_other = library_.table().kernels[0].variants[0];
    no_other.dense = 1;
    no_other.entry_unaligned = nullptr;
    expect_broken([&](fusebn_kernel& row) {
        row.variants = &no_other;
        row.variant_count = 1;
    });
    KernelTable no_rows = library_.table();
    no_rows.kernels = nullptr;
    BatchNorm1d layer(4, no_rows);
    EXPECT_EQ(layer.status().code(), ErrorCode::bad_library);
}

TEST_F(Forward, TakesStridesOfAxesOfExtentOneAsTheyCome) {
    for (const Extents& strides : {Extents{-1, 9, 3, 1}, Extents{0, 9, 3, 1}, Extents{huge, 9, 3, 1}}) {
        const Status s = two_.forward(x(Layout::NCHW, {1, 4, 3, 3}, strides), y(Layout::NCHW, {1, 4, 3, 3}));
        EXPECT_TRUE(s.ok()) << s.message();
    }
    EXPECT_TRUE(two_.forward(x(Layout::NHWC, {2, 1, 3, 4}, {12, -5, 4, 1}), y(Layout::NHWC, {2, 1, 3, 4})).ok());
    EXPECT_TRUE(two_.forward(x(Layout::NCHW, {2, 4, 1, 3}, {12, 3, huge, 1}), y(Layout::NCHW, {2, 4, 1, 3})).ok());
    EXPECT_EQ(fake_run["y"].extents(), (std::vector<std::int32_t>{3, 4, 2}));
    EXPECT_EQ(fake_run["y"].strides(), (std::vector<std::int32_t>{1, 3, 12}));
}

}  // namespace
}  // namespace fusebn::test
