// Slices and shared memory: what is taken gives the numbers of separate tensors, what is not is refused.
#include <gtest/gtest.h>

#include "fake_library.h"

namespace fusebn::test {
namespace {

constexpr float untouched = -7.0f;

struct Slice {
    std::size_t offset;
    Extents strides;
};

// A buffer whose x slice is filled; checks that a forward call on the two slices writes y's elements and no other.
void expect_taken(Layout layout, const Extents& extents, const Slice& x, const Slice& y) {
    FakeLibrary library = generic_library();
    BatchNorm2d layer(static_cast<int>(extents[channel_axis(layout)]), library.table());
    std::vector<float> buffer(4096, untouched);
    std::vector<std::size_t> places;  // relative offsets in the layout's order
    const auto place = [&](const Slice& slice, const Extents& at) {
        std::size_t offset = slice.offset;
        for (int i = 0; i < 4; ++i) offset += static_cast<std::size_t>(at[i] * slice.strides[i]);
        return offset;
    };
    std::vector<float> dense;
    std::vector<std::size_t> y_places;
    const std::vector<float> values = noise(4096);
    for (std::int64_t a = 0; a < extents[0]; ++a) {
        for (std::int64_t b = 0; b < extents[1]; ++b) {
            for (std::int64_t c = 0; c < extents[2]; ++c) {
                for (std::int64_t d = 0; d < extents[3]; ++d) {
                    dense.push_back(values[dense.size()]);
                    buffer[place(x, {a, b, c, d})] = dense.back();
                    y_places.push_back(place(y, {a, b, c, d}));
                }
            }
        }
    }
    std::vector<float> expected = buffer;
    const std::vector<float> result =
        normalised(dense, layout, extents, statistics(dense, layout, extents), {}, {}, 1e-5, false);
    for (std::size_t i = 0; i < y_places.size(); ++i) expected[y_places[i]] = result[i];
    const Status s = layer.forward(tensor(buffer.data() + x.offset, layout, extents, x.strides),
                                   tensor(buffer.data() + y.offset, layout, extents, y.strides));
    ASSERT_TRUE(s.ok()) << s.message();
    expect_near(buffer, expected);
}

void expect_refused(Layout layout, const Extents& extents, const Slice& x, const Slice& y) {
    FakeLibrary library = generic_library();
    BatchNorm2d layer(static_cast<int>(extents[channel_axis(layout)]), library.table());
    std::vector<float> buffer(4096, untouched);
    for (const bool training : {true, false}) {
        layer.train(training);
        const Status s = layer.forward(tensor(buffer.data() + x.offset, layout, extents, x.strides),
                                       tensor(buffer.data() + y.offset, layout, extents, y.strides));
        EXPECT_EQ(s.code(), ErrorCode::overlap) << s.message();
        EXPECT_EQ(buffer, std::vector<float>(4096, untouched));
        EXPECT_EQ(layer.state().num_batches_tracked, 0);
    }
}

TEST(Slices, OfChannelsNeedNoCopy) {
    // [2, 10, 3, 3], x = channels 2 to 5, y = channels 6 to 9
    expect_taken(Layout::NCHW, {2, 4, 3, 3}, {18, {90, 9, 3, 1}}, {54, {90, 9, 3, 1}});
    expect_taken(Layout::NCHW, {2, 4, 3, 3}, {54, {90, 9, 3, 1}}, {18, {90, 9, 3, 1}});
    expect_taken(Layout::NHWC, {2, 3, 3, 4}, {0, {72, 24, 8, 1}}, {4, {72, 24, 8, 1}});
    expect_taken(Layout::NHWC, {2, 3, 3, 4}, {4, {72, 24, 8, 1}}, {0, {72, 24, 8, 1}});
}

TEST(Slices, OfTheBatchNeedNoCopy) {
    expect_taken(Layout::NCHW, {2, 4, 3, 3}, {0, {72, 9, 3, 1}}, {36, {72, 9, 3, 1}});  // every second sample
    expect_taken(Layout::NCHW, {2, 4, 3, 3}, {0, {36, 9, 3, 1}}, {72, {36, 9, 3, 1}});
}

TEST(Slices, OfSpatialRowsNeedNoCopy) {
    // [2, 4, 6, 3], x the upper half of each plane, y the lower
    expect_taken(Layout::NCHW, {2, 4, 3, 3}, {0, {72, 18, 3, 1}}, {9, {72, 18, 3, 1}});
    expect_taken(Layout::NCHW, {1, 4, 3, 3}, {9, {0, 18, 3, 1}}, {0, {0, 18, 3, 1}});
    expect_taken(Layout::NCHW, {3, 1, 3, 3}, {9, {18, 1, 3, 1}}, {0, {18, 2, 3, 1}});
}

TEST(Slices, MayHaveTheChannelsOutsideTheBatch) {
    expect_taken(Layout::NCHW, {2, 4, 3, 3}, {0, {9, 18, 3, 1}}, {100, {9, 18, 3, 1}});
    expect_taken(Layout::NCHW, {2, 4, 3, 3}, {0, {9, 36, 3, 1}}, {18, {9, 36, 3, 1}});  // interlocked
    expect_taken(Layout::NCHW, {2, 4, 1, 1}, {0, {1, 2, 1, 1}}, {100, {1, 2, 1, 1}});
}

TEST(Slices, MayHaveDifferentStridesWhereTheyAreApart) {
    expect_taken(Layout::NCHW, {2, 4, 3, 3}, {0, {90, 9, 3, 1}}, {1000, {36, 9, 3, 1}});
    expect_taken(Layout::NHWC, {2, 3, 3, 4}, {200, {36, 12, 4, 1}}, {0, {90, 30, 10, 1}});
}

TEST(Slices, MayBeWrittenInPlace) {
    expect_taken(Layout::NCHW, {2, 4, 3, 3}, {18, {90, 9, 3, 1}}, {18, {90, 9, 3, 1}});
    expect_taken(Layout::NHWC, {2, 3, 3, 4}, {4, {72, 24, 8, 1}}, {4, {72, 24, 8, 1}});
}

TEST(Slices, ThatShareElementsAreRefused) {
    const Extents planar{2, 4, 3, 3}, rows{2, 3, 3, 4};
    expect_refused(Layout::NCHW, planar, {0, {36, 9, 3, 1}}, {1, {36, 9, 3, 1}});  // shifted by one
    expect_refused(Layout::NCHW, planar, {1, {36, 9, 3, 1}}, {0, {36, 9, 3, 1}});
    expect_refused(Layout::NCHW, planar, {0, {36, 9, 3, 1}}, {36, {36, 9, 3, 1}});   // one sample in common
    expect_refused(Layout::NCHW, planar, {0, {36, 9, 3, 1}}, {71, {36, 9, 3, 1}});   // the last element
    expect_refused(Layout::NCHW, planar, {0, {90, 9, 3, 1}}, {27, {90, 9, 3, 1}});   // one channel in common
    expect_refused(Layout::NCHW, planar, {0, {36, 9, 3, 1}}, {0, {45, 9, 3, 1}});    // one address, other strides
    expect_refused(Layout::NCHW, planar, {0, {72, 18, 3, 1}}, {8, {72, 18, 3, 1}});  // rows that touch
    expect_refused(Layout::NHWC, rows, {0, {72, 24, 8, 1}}, {3, {72, 24, 8, 1}});
    expect_refused(Layout::NHWC, rows, {5, {72, 24, 8, 1}}, {0, {72, 24, 8, 1}});  // 5 + 4 is the next row
    expect_refused(Layout::NHWC, rows, {0, {72, 24, 8, 1}}, {4, {81, 27, 9, 1}});
}

// Two tensors that interlock although their strides differ are not told from those that share elements.
TEST(Slices, ThatMayShareElementsAreNotSaidToDo) {
    const Extents extents{2, 4, 3, 3};
    const Slice x{0, {90, 9, 3, 1}}, y{36, {180, 9, 3, 1}};  // elements 0-35 and 90-125, 36-71 and 216-251
    expect_refused(Layout::NCHW, extents, x, y);
    FakeLibrary library = generic_library();
    BatchNorm2d layer(4, library.table());
    std::vector<float> buffer(4096);
    const Status s = layer.forward(tensor(buffer.data() + x.offset, Layout::NCHW, extents, x.strides),
                                   tensor(buffer.data() + y.offset, Layout::NCHW, extents, y.strides));
    for (const char* words : {"144 bytes after x", "may share memory with x", "expected the same address and strides",
                              "a place outside x's range", "or x's strides"}) {
        EXPECT_NE(s.message().find(words), std::string::npos) << s.message();
    }
    EXPECT_EQ(s.message().find("shares memory"), std::string::npos) << s.message();
}

}  // namespace
}  // namespace fusebn::test
