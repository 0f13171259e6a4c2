// How many channels a kernel may have: what its scratch memory is a limit for.
#include <gtest/gtest.h>

#include "compiler/spec.h"

namespace fusebn {
namespace {

// "" where the shape is taken, else what is said.
std::string said(const std::string& op, const std::string& layout, const std::string& shape) {
    try {
        parse_spec("[[kernel]]\nop = \"" + op + "\"\nlayout = \"" + layout + "\"\nshape = [" + shape + "]\n",
                   "net.toml");
    } catch (const SpecError& error) {
        return error.what();
    }
    return "";
}

void expect_limit(const std::string& op, const std::string& layout, const std::string& before, std::int64_t most,
                  const std::string& after, int column) {
    EXPECT_EQ(said(op, layout, before + std::to_string(most) + after), "");
    EXPECT_EQ(said(op, layout, before + std::to_string(most + 1) + after),
              "net.toml:4:" + std::to_string(column) + ": kernel.shape: found " + std::to_string(most + 1) +
                  " for C of " + op + "; allowed: 1 to " + std::to_string(most) +
                  " beside these extents, as scratch memory is limited, or \"any\" for every extent");
}

// Two GiB less a block of 64 KB, by the bytes of a channel.
constexpr std::int64_t bytes = (std::int64_t{1} << 31) - (1 << 16);

TEST(Channels, OfInferenceHaveFourBytes) {
    expect_limit("inference", "NCHW", "1, ", bytes / 4, ", 1, 1", 13);
    expect_limit("inference", "NC", "4, ", bytes / 4, "", 13);
}

TEST(Channels, OfTrainingHaveEightBytesForEachGroupOfChunks) {
    for (const char* op : {"train_forward", "backward"}) {
        expect_limit(op, "NCHW", "2, ", bytes / 8, ", 1, 2", 13);
        expect_limit(op, "NC", "1024, ", bytes / 8, "", 16);
        expect_limit(op, "NC", "1025, ", bytes / 8 / 2, "", 16);
        expect_limit(op, "NC", "65536, ", bytes / 8 / 64, "", 17);
        expect_limit(op, "NCL", "65, ", bytes / 8 / 2, ", 2048", 14);
        expect_limit(op, "NCL", "\"any\", ", bytes / 8, ", 2048", 17);
    }
}

}  // namespace
}  // namespace fusebn
