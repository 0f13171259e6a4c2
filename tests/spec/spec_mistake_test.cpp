// What the spec's reader says of mistakes: the place, the key, what was found, what is allowed. One test a kind.
#include <gtest/gtest.h>

#include "compiler/spec.h"
#include "texts.h"

namespace fusebn {
namespace {

TEST(SpecMistake, ATextThatIsNotTomlSaysWhere) {
    const std::string said = refusal("name = \"a\"\nshape = [1,\n");
    EXPECT_EQ(said.rfind("net.toml:2:", 0), 0u) << said;
    EXPECT_NE(said.find("syntax: found a mistake in the TOML itself"), std::string::npos) << said;
    EXPECT_NE(said.find("allowed: TOML 1.0"), std::string::npos) << said;
}

// toml++ 3.3 takes it for granted that a header opens with a key.
TEST(SpecMistake, ATableWhoseNameIsADotIsRefusedInEveryBuildType) {
    EXPECT_EQ(refusal("[.]\n"),
              "net.toml:1:1: syntax: found a mistake in the TOML itself (at a place its reader cannot name); allowed: "
              "TOML 1.0");
}

TEST(SpecMistake, LettersBeyondAsciiAreForComments) {
    EXPECT_EQ(
        parse("# caf\xc3\xa9 \xe2\x86\x92 \xf0\x9f\x98\x80\n" + one_kernel("shape = [1, 2, 3, 4]")).kernels.size(), 1u);
    EXPECT_EQ(refusal("# caf\xc3\xa9\nname = \"caf\xc3\xa9\"\n"),
              "net.toml:2:12: syntax: found the byte \\xc3; allowed: ASCII (in a comment, any UTF-8)");
    EXPECT_EQ(refusal("caf\xc3\xa9 = 1\n"),
              "net.toml:1:4: syntax: found the byte \\xc3; allowed: ASCII (in a comment, any UTF-8)");
}

TEST(SpecMistake, AnUnknownKeyOfTheFileIsAnsweredWithTheNearestOne) {
    EXPECT_EQ(refusal("target = [\"host\"]\n" + one_kernel("shape = [1, 2, 3, 4]")),
              "net.toml:1:1: target: found an unknown key; allowed: name, targets, defaults, kernel; did you mean "
              "\"targets\"?");
}

TEST(SpecMistake, AnUnknownKeyOfTheDefaultsIsAnsweredWithTheNearestOne) {
    EXPECT_EQ(
        refusal("[defaults]\n  activaton = \"relu\"\n"),
        "net.toml:2:3: defaults.activaton: found an unknown key; allowed: op, layout, dtype, activation, residual; "
        "did you mean \"activation\"?");
}

TEST(SpecMistake, AnUnknownKeyOfAKernelIsAnsweredWithTheNearestOne) {
    EXPECT_EQ(
        refusal(one_kernel("shpae = [1, 2, 3, 4]")),
        "net.toml:5:1: kernel.shpae: found an unknown key; allowed: op, shape, layout, dtype, activation, residual, "
        "schedule; did you mean \"shape\"?");
}

TEST(SpecMistake, AnUnknownKeyLikeNoOtherGetsNoSuggestion) {
    EXPECT_EQ(refusal("zzzzzzzz = 1\n"),
              "net.toml:1:1: zzzzzzzz: found an unknown key; allowed: name, targets, defaults, kernel");
}

TEST(SpecMistake, OfSeveralUnknownKeysTheFirstInTheFileIsNamed) {
    EXPECT_EQ(refusal("zz = 1\naa = 2\n").rfind("net.toml:1:1: zz:", 0), 0u);
}

TEST(SpecMistake, ANameThatIsNoCIdentifierIsRefused) {
    EXPECT_EQ(
        refusal("name = \"my-net\"\n" + one_kernel("shape = [1, 2, 3, 4]")),
        "net.toml:1:8: name: found \"my-net\"; allowed: a C identifier (letters, digits and single underscores, no "
        "digit first, 100 characters at most) that is not a word, a macro or a header of C and C++");
    for (const char* name :
         {"", "9lives", "_x", "a__b", "class", "std", "fusebn", "main", "NULL", "errno", "stdint", "h\xc3\xa9"}) {
        EXPECT_FALSE(is_library_name(name)) << name;
    }
    EXPECT_FALSE(is_library_name(std::string(101, 'a')));
    EXPECT_TRUE(is_library_name(std::string(100, 'a')));
}

TEST(SpecMistake, ANameThatIsNoStringIsRefused) {
    EXPECT_EQ(refusal("name = 3\n").rfind("net.toml:1:8: name: found 3; allowed: a C identifier", 0), 0u);
}

TEST(SpecMistake, AFileNameThatCannotNameTheLibraryIsRefused) {
    const std::string said = refusal(one_kernel("shape = [1, 2, 3, 4]"), "my-net.toml");
    EXPECT_EQ(
        said.rfind("my-net.toml:1:1: name: found none, and the file's own name \"my-net\" cannot be one; allowed: a C",
                   0),
        0u)
        << said;
}

TEST(SpecMistake, AGivenNameThatCannotNameTheLibraryIsRefused) {
    try {
        parse_spec(one_kernel("shape = [1, 2, 3, 4]"), "net.toml", "my-net");
        FAIL();
    } catch (const SpecError& error) {
        EXPECT_EQ(std::string(error.what()).rfind("--name: found \"my-net\"; allowed: a C identifier", 0), 0u);
    }
}

TEST(SpecMistake, AnUnknownTargetIsAnsweredWithTheNearestOne) {
    EXPECT_EQ(refusal("targets = [\"x86-64\", \"x86-64-avx3\"]\n"),
              "net.toml:1:22: targets: found \"x86-64-avx3\"; allowed: \"x86-64\", \"x86-64-avx2\", \"x86-64-avx512\", "
              "\"cuda-sm_80\", \"cuda-sm_90\", \"cuda-sm_100\", \"opencl\", \"host\"; did you mean \"x86-64-avx2\"?");
}

TEST(SpecMistake, AnEmptyListOfTargetsIsRefused) {
    EXPECT_EQ(refusal("targets = []\n"),
              "net.toml:1:11: targets: found an empty array; allowed: one or more of \"x86-64\", \"x86-64-avx2\", "
              "\"x86-64-avx512\", \"cuda-sm_80\", \"cuda-sm_90\", \"cuda-sm_100\", \"opencl\", \"host\"");
}

TEST(SpecMistake, AnUnknownTargetOfTheCommandLineNamesItsOption) {
    try {
        parse_targets({"avx2"}, "--targets");
        FAIL();
    } catch (const SpecError& error) {
        EXPECT_EQ(std::string(error.what()).rfind("--targets: found \"avx2\"; allowed: \"x86-64\"", 0), 0u);
    }
    EXPECT_THROW(parse_targets({}, "--targets"), SpecError);
}

TEST(SpecMistake, AnUnknownLayoutIsAnsweredWithTheNearestOne) {
    EXPECT_EQ(refusal(one_kernel("layout = \"NHCW\"\nshape = [1, 2, 3, 4]")),
              "net.toml:5:10: kernel.layout: found \"NHCW\"; allowed: \"NC\", \"NCL\", \"NLC\", \"NCHW\", \"NHWC\", "
              "\"NCDHW\", \"NDHWC\"; did you mean \"NCHW\"?");
}

TEST(SpecMistake, AnUnknownTypeSaysWhatThereIs) {
    EXPECT_EQ(refusal(one_kernel("dtype = \"fp16\"\nshape = [1, 2, 3, 4]")),
              "net.toml:5:9: kernel.dtype: found \"fp16\"; allowed: \"f32\", \"bf16\", \"f16\"; did you mean \"f16\"?");
}

TEST(SpecMistake, AnUnknownActivationSaysWhatThereIs) {
    EXPECT_EQ(refusal(one_kernel("activation = \"tanh\"\nshape = [1, 2, 3, 4]")),
              "net.toml:5:14: kernel.activation: found \"tanh\"; allowed: \"none\", \"relu\", \"relu6\", "
              "\"leaky_relu\", \"silu\", \"hardswish\"");
    EXPECT_NE(
        refusal(one_kernel("activation = \"hard_swish\"\nshape = [1, 2, 3, 4]")).find("; did you mean \"hardswish\"?"),
        std::string::npos);
}

TEST(SpecMistake, AnUnknownOperationSaysWhatThereIs) {
    EXPECT_EQ(refusal(one_kernel("op = [\"inference\", \"backwards\"]\nshape = [1, 2, 3, 4]")),
              "net.toml:5:20: kernel.op: found \"backwards\"; allowed: \"inference\", \"train_forward\", \"backward\"; "
              "did you mean \"backward\"?");
}

TEST(SpecMistake, AnEmptyListOfOperationsIsRefused) {
    EXPECT_EQ(refusal(one_kernel("op = []\nshape = [1, 2, 3, 4]")),
              "net.toml:5:6: kernel.op: found an empty array; allowed: one or more of \"inference\", "
              "\"train_forward\", \"backward\"");
}

TEST(SpecMistake, AnOperationThatIsNoStringIsRefused) {
    EXPECT_EQ(refusal(one_kernel("op = [true]\nshape = [1, 2, 3, 4]")),
              "net.toml:5:7: kernel.op: found true; allowed: \"inference\", \"train_forward\", \"backward\"");
}

TEST(SpecMistake, AKernelWithoutAnOperationIsRefused) {
    EXPECT_EQ(refusal("[[kernel]]\nlayout = \"NC\"\nshape = [1, 2]\n"),
              "net.toml:1:1: kernel.op: found none, here and in [defaults]; allowed: one or more of \"inference\", "
              "\"train_forward\", \"backward\"");
}

TEST(SpecMistake, AKernelWithoutALayoutIsRefusedAndNotGuessed) {
    EXPECT_EQ(refusal("[[kernel]]\nop = \"inference\"\nshape = [1, 2]\n")
                  .rfind("net.toml:1:1: kernel.layout: found none, here and in [defaults]; allowed: \"NC\"", 0),
              0u);
}

TEST(SpecMistake, AKernelWithoutAShapeIsRefused) {
    EXPECT_EQ(refusal(one_kernel("activation = \"relu\"")),
              "net.toml:4:1: kernel.shape: found none; allowed: 4 extents, in the order of NCHW: [N, C, H, W]");
}

TEST(SpecMistake, AShapeThatIsNoArrayIsRefused) {
    EXPECT_EQ(refusal(one_kernel("shape = \"any\"")),
              "net.toml:5:9: kernel.shape: found \"any\"; allowed: 4 extents, in the order of NCHW: [N, C, H, W]");
}

TEST(SpecMistake, AShapeOfAnotherRankIsRefused) {
    EXPECT_EQ(refusal(one_kernel("shape = [1, 2, 3]")),
              "net.toml:5:9: kernel.shape: found 3 extents; allowed: 4 extents, in the order of NCHW: [N, C, H, W]");
    EXPECT_EQ(refusal(one_kernel("layout = \"NLC\"\nshape = [1]")),
              "net.toml:6:9: kernel.shape: found 1 extent; allowed: 3 extents, in the order of NLC: [N, L, C]");
}

TEST(SpecMistake, AnExtentOutsideItsRangeIsNamedByItsLetter) {
    EXPECT_EQ(refusal(one_kernel("shape = [1, 2, 0, 4]")),
              "net.toml:5:16: kernel.shape: found 0 for H; allowed: 1 to 1073741824, or \"any\"");
    EXPECT_EQ(refusal(one_kernel("shape = [-1, 2, 3, 4]")),
              "net.toml:5:10: kernel.shape: found -1 for N; allowed: 1 to 1073741824, or \"any\"");
    EXPECT_EQ(refusal(one_kernel("shape = [1, 2, 3, 1073741825]")),
              "net.toml:5:19: kernel.shape: found 1073741825 for W; allowed: 1 to 1073741824, or \"any\"");
}

TEST(SpecMistake, AnExtentThatIsNoWholeNumberIsRefused) {
    EXPECT_EQ(refusal(one_kernel("shape = [1, 2.5, 3, 4]")),
              "net.toml:5:13: kernel.shape: found the fraction 2.5 for C; allowed: 1 to 1073741824, or \"any\"");
    EXPECT_EQ(refusal(one_kernel("shape = [\"all\", 2, 3, 4]")),
              "net.toml:5:10: kernel.shape: found \"all\" for N; allowed: 1 to 1073741824, or \"any\"");
}

TEST(SpecMistake, AProductOutsideTheRangeOfAnExtentIsRefused) {
    EXPECT_EQ(
        refusal(one_kernel("shape = [1, 2, 65536, 65536]")),
        "net.toml:5:9: kernel.shape: found H*W of more than 1073741824; allowed: 1 to 1073741824 for the product");
    EXPECT_EQ(refusal(one_kernel("layout = \"NDHWC\"\nshape = [1073741824, 1073741824, 1073741824, 1073741824, 1]")),
              "net.toml:6:9: kernel.shape: found N*D*H*W of more than 1073741824; allowed: 1 to 1073741824 for the "
              "product");
    // The known factors alone are too many, whatever "any" will be.
    EXPECT_NE(refusal(one_kernel("layout = \"NHWC\"\nshape = [\"any\", 65536, 65536, 8]")), "accepted");
}

TEST(SpecMistake, ATensorLargerThanMemoryCanBeIsRefused) {
    EXPECT_EQ(refusal(one_kernel("shape = [1073741824, 1073741824, 1073741824, 1]")),
              "net.toml:5:9: kernel.shape: found more than 35184372088832 elements; allowed: that many at most");
}

TEST(SpecMistake, AnyChannelsBesideAFixedExtentAreRefused) {
    EXPECT_EQ(
        refusal(one_kernel("shape = [\"any\", \"any\", 7, \"any\"]")),
        "net.toml:5:17: kernel.shape: found \"any\" for C beside a fixed extent; allowed: a number for C, or \"any\" "
        "for every extent (the generic kernel)");
}

TEST(SpecMistake, TrainingOnOneValuePerChannelIsRefused) {
    const std::string expected =
        ":9: kernel.shape: found one value per channel; allowed: two or more for train_forward and backward: a single "
        "value has no variance";
    EXPECT_EQ(refusal(one_kernel("op = \"train_forward\"\nshape = [1, 64, 1, 1]")), "net.toml:6" + expected);
    EXPECT_EQ(refusal(one_kernel("op = [\"inference\", \"backward\"]\nshape = [1, 64, 1, 1]")),
              "net.toml:6" + expected);
    EXPECT_EQ(name_of("shape = [1, 64, 1, 1]\nresidual = \"add\""), "bn_inference_f32_planar_n1_c64_s1_add_none");
}

TEST(SpecMistake, AResidualThatIsNoneOfTheThreeWordsIsRefused) {
    EXPECT_EQ(refusal(one_kernel("residual = true\nshape = [1, 2, 3, 4]")),
              "net.toml:5:12: kernel.residual: found true; allowed: \"none\", \"add\", \"batch_norm\"");
    EXPECT_EQ(
        refusal(one_kernel("residual = \"batchnorm\"\nshape = [1, 2, 3, 4]")),
        "net.toml:5:12: kernel.residual: found \"batchnorm\"; allowed: \"none\", \"add\", \"batch_norm\"; did you "
        "mean \"batch_norm\"?");
    EXPECT_EQ(refusal("[defaults]\nresidual = false\n"),
              "net.toml:2:12: defaults.residual: found false; allowed: \"none\", \"add\", \"batch_norm\"");
}

TEST(SpecMistake, AScheduleThatIsNoStringIsRefused) {
    EXPECT_EQ(
        refusal(one_kernel("schedule = 8\nshape = [1, 2, 3, 4]")),
        "net.toml:5:12: kernel.schedule: found 8; allowed: a string of keys, such as \"vector=8\", or no such key for "
        "the default");
}

TEST(SpecMistake, TheSameKernelWithTwoSchedulesIsRefused) {
    EXPECT_EQ(
        refusal(one_kernel("shape = [1, 2, 3, 4]\nschedule = \"vector=4\"\n"
                           "[[kernel]]\nshape = [1, 2, 12]\nlayout = \"NCL\"\nschedule = \"vector=8\"")),
        "net.toml:10:12: kernel.schedule: found \"vector=8\" for bn_inference_f32_planar_n1_c2_s12_none; allowed: "
        "\"vector=4\", as the same kernel on line 4 has it");
    EXPECT_EQ(refusal(one_kernel("shape = [1, 2, 3, 4]\nschedule = \"vector=4\"\n[[kernel]]\nshape = [1, 2, 3, 4]"))
                  .rfind("net.toml:7:1: kernel.schedule: found \"\" for bn_", 0),
              0u);
}

TEST(SpecMistake, AFileWithoutKernelsIsRefused) {
    const char* const expected =
        "net.toml:1:1: kernel: found none; allowed: one or more tables, each written [[kernel]]";
    EXPECT_EQ(refusal(""), expected);
    EXPECT_EQ(refusal("name = \"a\"\n"), expected);
}

TEST(SpecMistake, AKernelInSingleBracketsIsRefused) {
    EXPECT_EQ(refusal("[kernel]\nop = \"inference\"\n"),
              "net.toml:1:1: kernel: found a table; allowed: one or more tables, each written [[kernel]]");
    EXPECT_EQ(refusal("kernel = [3]\n"),
              "net.toml:1:11: kernel: found 3; allowed: one or more tables, each written [[kernel]]");
}

TEST(SpecMistake, DefaultsThatAreNoTableAreRefused) {
    EXPECT_EQ(refusal("defaults = \"f32\"\n"),
              "net.toml:1:12: defaults: found \"f32\"; allowed: a table, written [defaults]");
    EXPECT_NE(refusal("[[defaults]]\nop = \"inference\"\n").find("allowed: a table, written [defaults]"),
              std::string::npos);
}

TEST(SpecMistake, TextOfTheFileIsShownOnOneShortLine) {
    const std::string said = refusal("name = \"\\n\\u0007" + std::string(500, 'x') + "\"\n");
    EXPECT_NE(said.find("found \"\\x0a\\x07xxx"), std::string::npos) << said;
    EXPECT_NE(said.find("xxx...\""), std::string::npos) << said;
    EXPECT_LT(said.size(), 300u);
}

TEST(SpecMistake, AFileThatIsTooLargeIsRefused) {
    EXPECT_EQ(refusal(std::string(max_spec_bytes + 1, '#')),
              "net.toml:1:1: file: found more than 1048576 bytes; allowed: that many at most");
}

TEST(SpecMistake, TooManyKernelsAreRefused) {
    std::string text = "defaults.op = [\"inference\", \"train_forward\"]\ndefaults.layout = \"NC\"\n";
    for (int i = 0; i < 5000; ++i) text += "[[kernel]]\nshape = [2, 3]\n";
    EXPECT_EQ(parse(text).kernels.size(), 2u);
    EXPECT_EQ(refusal(text + "[[kernel]]\nshape = [2, 3]\n"),
              "net.toml:10003:1: kernel: found more than 10000 kernels; allowed: that many at most");
}

TEST(SpecMistake, KeysNestedPastAnyStackAreRefused) {
    std::string dots, in_a_string = "name = \"";
    for (int i = 0; i < 200000; ++i) dots += "a.";
    EXPECT_EQ(refusal(dots + "a = 1\n"),
              "net.toml:1:1: file: found more than 1000 dots in keys; allowed: that many at most");
    EXPECT_EQ(refusal("# \"\n" + dots + "a = 1\n").find("dots") == std::string::npos, false);
    EXPECT_EQ(refusal(in_a_string + dots + "\"\n").find("dots"), std::string::npos);
    EXPECT_NE(refusal("x = " + std::string(100000, '[')).find("syntax"), std::string::npos);
}

TEST(SpecMistake, AFileThatCannotBeReadIsRefused) {
    const auto said = [](const std::string& path) -> std::string {
        try {
            read_spec(path);
        } catch (const SpecError& error) {
            return error.what();
        }
        return "accepted";
    };
    EXPECT_EQ(said("no/such/net.toml"),
              "no/such/net.toml:1:1: file: found No such file or directory; allowed: a spec that can be read");
    EXPECT_EQ(said("/"), "/:1:1: file: found Is a directory; allowed: a spec that can be read");
    EXPECT_EQ(said("/dev/zero"), "/dev/zero:1:1: file: found more than 1048576 bytes; allowed: that many at most");
}

}  // namespace
}  // namespace fusebn
