// Schedules in a spec: each mistake is said with its place.
#include "compiler/spec_schedule.h"

#include <gtest/gtest.h>

namespace fusebn {
namespace {

std::string text_with(const std::string& schedule, const std::string& targets = "\"x86-64\"") {
    return "targets = [" + targets + "]\n[[kernel]]\nop = [\"inference\", \"train_forward\"]\nlayout = \"NCHW\"\n" +
           "shape = [1, 2, 3, 4]\nschedule = \"" + schedule + "\"\n";
}

std::string said(const std::string& text) {
    try {
        check_schedules(parse_spec(text, "net.toml"), "net.toml", {});
    } catch (const SpecError& error) {
        return error.what();
    }
    return "";
}

TEST(SpecSchedule, ALegalOneIsTaken) {
    EXPECT_EQ(said(text_with("vector=8 unroll=1")), "");
    EXPECT_EQ(said(text_with("vector=4 parallel=rows threads=64", "\"x86-64\", \"cuda-sm_90\"")), "");
}

TEST(SpecSchedule, OneThatIsNotLegalIsSaidWithItsPlace) {
    EXPECT_EQ(
        said(text_with("vector=3")),
        "net.toml:6:12: kernel.schedule.vector: found 3 for bn_inference_f32_planar_n1_c2_s12_none; allowed: 4, 8, "
        "16, 32");
    EXPECT_EQ(
        said(text_with("threads=31", "\"cuda-sm_90\"")).rfind("net.toml:6:12: kernel.schedule.threads: found 31", 0),
        0u);
}

TEST(SpecSchedule, OneThatCannotBeReadIsSaidWithItsPlace) {
    EXPECT_EQ(said(text_with("task=-1")),
              "net.toml:6:12: kernel.schedule.task: found \"-1\"; allowed: a number from 1 to 65536");
    EXPECT_EQ(
        said(text_with("wings=2")).rfind("net.toml:6:12: kernel.schedule: found \"wings=2\"; allowed: vector=", 0), 0u);
}

TEST(SpecSchedule, AKeyThatIsThereTwiceIsRefused) {
    EXPECT_EQ(said(text_with("vector=8 unroll=2 vector=4")),
              "net.toml:6:12: kernel.schedule.vector: found twice in \"vector=8 unroll=2 vector=4\"; allowed: once");
}

TEST(SpecSchedule, OneOfNoKeysIsRefused) {
    for (const char* const empty : {"", " ", "\\t \\n"}) {
        const std::string found = said(text_with(empty));
        EXPECT_EQ(found.rfind("net.toml:6:12: kernel.schedule: found \"", 0), 0u) << found;
        EXPECT_NE(found.find("allowed: a string of keys, such as \"vector=8\", or no such key"), std::string::npos)
            << found;
    }
}

TEST(SpecSchedule, OneThatNoTargetTakesIsNamedOnce) {
    const auto unused = [](const std::string& text) {
        return unused_schedules(parse_spec(text, "net.toml"), "net.toml");
    };
    const std::string rest = "; the defaults or records are used";
    EXPECT_EQ(
        unused(text_with("threads=64")),
        std::vector<std::string>{"net.toml:6:12: kernel.schedule: \"threads=64\" is for devices (threads=), and no "
                                 "target is one" +
                                 rest});
    EXPECT_EQ(
        unused(text_with("vector=8", "\"cuda-sm_90\"")),
        std::vector<std::string>{"net.toml:6:12: kernel.schedule: \"vector=8\" is for CPUs (no threads=), and all "
                                 "targets are devices" +
                                 rest});
    EXPECT_TRUE(unused(text_with("threads=64", "\"x86-64\", \"cuda-sm_90\"")).empty());
    EXPECT_TRUE(unused(text_with("vector=8", "\"x86-64\", \"cuda-sm_90\"")).empty());
}

// A spec may be built for other targets than its own, so it is told when those are known.
TEST(SpecTypes, OneThatATargetHasNotIsNamedWithItsKernel) {
    const auto said = [](const std::string& targets, const std::string& dtype) -> std::string {
        const std::string text = "targets = [" + targets +
                                 "]\n[[kernel]]\nop = \"inference\"\nlayout = \"NC\"\nshape = [8, 4]\ndtype = \"" +
                                 dtype + "\"\n";
        try {
            check_types(parse_spec(text, "net.toml"), "net.toml");
        } catch (const SpecError& e) {
            return e.what();
        }
        return "";
    };
    EXPECT_EQ(said("\"x86-64\", \"opencl\"", "f16"),
              "net.toml:2:1: kernel.dtype: found \"f16\" with the target opencl; allowed with it: f32, bf16");
    EXPECT_EQ(said("\"x86-64\", \"opencl\"", "bf16"), "");
    EXPECT_EQ(said("\"x86-64\", \"cuda-sm_90\"", "f16"), "");
}

}  // namespace
}  // namespace fusebn
