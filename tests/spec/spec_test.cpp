// The spec's reader: one test a rule, and a seeded loop of broken files.
#include "compiler/spec.h"

#include <gtest/gtest.h>

#include <random>

#include "texts.h"

namespace fusebn {
namespace {

TEST(Spec, ReadsTheExampleOfTheDocsAndNamesItsKernelsAsItsCommentsSay) {
    const std::string text = example_of_the_docs();
    ASSERT_FALSE(text.empty());
    const LibrarySpec spec = parse(text);
    EXPECT_EQ(spec.name, "resnet50_bn");
    EXPECT_EQ(spec.targets.size(), 3u);
    ASSERT_EQ(spec.kernels.size(), 9u);
    for (const SpecKernel& entry : spec.kernels) {
        EXPECT_NE(text.find("# bn_" + kernel_name(entry.kernel).substr(3)) == std::string::npos,
                  text.find("and " + kernel_name(entry.kernel)) == std::string::npos)
            << kernel_name(entry.kernel);
    }
    EXPECT_TRUE(spec.kernels.back().kernel.generic());
}

TEST(Spec, TakesTheNameFromTheFileWhenItSaysNone) {
    EXPECT_EQ(parse_spec(one_kernel("shape = [1, 2, 3, 4]"), "some/where/my_net.toml").name, "my_net");
    EXPECT_EQ(parse_spec("name = \"a_b9\"\n" + one_kernel("shape = [1, 2, 3, 4]"), "my-net.toml").name, "a_b9");
}

TEST(Spec, TakesAGivenNameBeforeItsOwnAndBeforeTheFiles) {
    EXPECT_EQ(parse_spec(one_kernel("shape = [1, 2, 3, 4]"), "my-net.toml", "given").name, "given");
    EXPECT_EQ(parse_spec("name = \"own\"\n" + one_kernel("shape = [1, 2, 3, 4]"), "net.toml", "given").name, "given");
}

TEST(Spec, BuildsForAllThreeInstructionSetsByDefault) {
    const std::vector<InstructionSet> all = {InstructionSet::x86_64, InstructionSet::x86_64_avx2,
                                             InstructionSet::x86_64_avx512};
    EXPECT_EQ(parse(one_kernel("shape = [1, 2, 3, 4]")).targets, all);
}

TEST(Spec, SortsTargetsAndMergesEqualOnes) {
    const std::string text = "targets = [\"x86-64-avx2\", \"x86-64\", \"x86-64-avx2\"]\n";
    const std::vector<InstructionSet> two = {InstructionSet::x86_64, InstructionSet::x86_64_avx2};
    EXPECT_EQ(parse(text + one_kernel("shape = [1, 2, 3, 4]")).targets, two);
}

TEST(Spec, ResolvesHostIntoTheBestInstructionSetOfThisMachine) {
    const auto host = host_instruction_set();
    if (!host) GTEST_SKIP() << "this machine has no instruction set that fusebn builds for";
    EXPECT_EQ(parse("targets = [\"host\"]\n" + one_kernel("shape = [1, 2, 3, 4]")).targets,
              std::vector<InstructionSet>{*host});
    EXPECT_EQ(parse_targets({"host"}, "--targets"), std::vector<InstructionSet>{*host});
}

TEST(Spec, CollapsesEveryLayoutIntoItsView) {
    EXPECT_EQ(name_of("shape = [32, 64, 56, 56]"), "bn_inference_f32_planar_n32_c64_s3136_none");
    EXPECT_EQ(name_of("shape = [32, 64, 3136]\nlayout = \"NCL\""), "bn_inference_f32_planar_n32_c64_s3136_none");
    EXPECT_EQ(name_of("shape = [2, 3, 4, 5, 6]\nlayout = \"NCDHW\""), "bn_inference_f32_planar_n2_c3_s120_none");
    EXPECT_EQ(name_of("shape = [32, 64]\nlayout = \"NC\""), "bn_inference_f32_interleaved_r32_c64_none");
    EXPECT_EQ(name_of("shape = [32, 10, 64]\nlayout = \"NLC\""), "bn_inference_f32_interleaved_r320_c64_none");
    EXPECT_EQ(name_of("shape = [32, 56, 56, 64]\nlayout = \"NHWC\""), "bn_inference_f32_interleaved_r100352_c64_none");
    EXPECT_EQ(name_of("shape = [2, 3, 4, 5, 6]\nlayout = \"NDHWC\""), "bn_inference_f32_interleaved_r120_c6_none");
}

TEST(Spec, OneAnyExtentMakesItsProductAny) {
    EXPECT_EQ(name_of("shape = [\"any\", 64, 56, 56]"), "bn_inference_f32_planar_nany_c64_s3136_none");
    EXPECT_EQ(name_of("shape = [8, 64, 56, \"any\"]"), "bn_inference_f32_planar_n8_c64_sany_none");
    EXPECT_EQ(name_of("shape = [8, 56, \"any\", 64]\nlayout = \"NHWC\""), "bn_inference_f32_interleaved_rany_c64_none");
    EXPECT_EQ(name_of("shape = [\"any\", \"any\"]\nlayout = \"NC\""), "bn_inference_f32_interleaved_rany_cany_none");
}

TEST(Spec, AKernelsKeysComeBeforeTheDefaults) {
    const std::string defaults =
        "[defaults]\nlayout=\"NCHW\"\nop=\"inference\"\nactivation=\"relu\"\n"
        "dtype=\"bf16\"\nresidual=\"add\"\n";
    const LibrarySpec spec = parse(defaults +
                                   "[[kernel]]\nshape=[1,2,3,4]\n"
                                   "[[kernel]]\nshape=[1,2,3,4]\nop=\"train_forward\"\nactivation=\"none\"\n"
                                   "dtype=\"f16\"\nresidual=\"none\"\n");
    ASSERT_EQ(spec.kernels.size(), 2u);
    EXPECT_EQ(kernel_name(spec.kernels[0].kernel), "bn_inference_bf16_planar_n1_c2_s12_add_relu");
    EXPECT_EQ(kernel_name(spec.kernels[1].kernel), "bn_train_forward_f16_planar_n1_c2_s12_none");
    EXPECT_EQ(spec.kernels[0].line, 7);
    EXPECT_EQ(spec.kernels[1].line, 9);
}

TEST(Spec, ExpandsOperationsAndMergesEqualRowsInTheOrderOfTheFile) {
    const LibrarySpec spec =
        parse(one_kernel("shape = [1, 2, 3, 4]\nop = [\"train_forward\", \"inference\"]\n"
                         "[[kernel]]\nshape = [1, 2, 12]\nlayout = \"NCL\"\n"
                         "[[kernel]]\nshape = [1, 2, 3, 5]"));
    ASSERT_EQ(spec.kernels.size(), 3u);
    EXPECT_EQ(kernel_name(spec.kernels[0].kernel), "bn_train_forward_f32_planar_n1_c2_s12_none");
    EXPECT_EQ(kernel_name(spec.kernels[1].kernel), "bn_inference_f32_planar_n1_c2_s12_none");
    EXPECT_EQ(kernel_name(spec.kernels[2].kernel), "bn_inference_f32_planar_n1_c2_s15_none");
}

// Every row of the tables of words, so that a new word is read without a line here.
TEST(Spec, ReadsEveryWordOfTypesH) {
    const auto kernel = [](const std::string& key, std::string_view word) {
        return parse(one_kernel(key + " = \"" + std::string(word) + "\"\nshape = [2, 3, 4, 5]")).kernels[0].kernel;
    };
    for (const auto& row : op_names) EXPECT_EQ(kernel("op", row.name).op, row.value) << row.name;
    for (const auto& row : dtype_names) EXPECT_EQ(kernel("dtype", row.name).dtype, row.value) << row.name;
    for (const auto& row : activation_names) {
        EXPECT_EQ(kernel("activation", row.name).activation, row.value) << row.name;
    }
    for (const auto& row : residual_names) EXPECT_EQ(kernel("residual", row.name).residual, row.value) << row.name;
}

TEST(Spec, NamesEveryChoiceInTheKernelsName) {
    EXPECT_EQ(name_of("shape = [32, 64, 56, 56]\nop = \"train_forward\"\nresidual = \"add\"\nactivation = \"relu\""),
              "bn_train_forward_f32_planar_n32_c64_s3136_add_relu");
    EXPECT_EQ(name_of("shape = [32, 64, 56, 56]\nop = \"backward\"\nresidual = \"batch_norm\"\ndtype = \"bf16\""),
              "bn_backward_bf16_planar_n32_c64_s3136_batch_norm_none");
    EXPECT_EQ(name_of("shape = [32, 64]\nlayout = \"NC\"\ndtype = \"f16\"\nactivation = \"leaky_relu\""),
              "bn_inference_f16_interleaved_r32_c64_leaky_relu");
}

TEST(Spec, RowsThatDifferInTheResidualOrTheTypeAloneAreTwoKernels) {
    const LibrarySpec spec =
        parse(one_kernel("shape = [1, 2, 3, 4]\n"
                         "[[kernel]]\nshape = [1, 2, 3, 4]\nresidual = \"add\"\n"
                         "[[kernel]]\nshape = [1, 2, 3, 4]\nresidual = \"none\"\n"
                         "[[kernel]]\nshape = [1, 2, 3, 4]\ndtype = \"bf16\""));
    ASSERT_EQ(spec.kernels.size(), 3u);
    EXPECT_EQ(kernel_name(spec.kernels[1].kernel), "bn_inference_f32_planar_n1_c2_s12_add_none");
    EXPECT_EQ(kernel_name(spec.kernels[2].kernel), "bn_inference_bf16_planar_n1_c2_s12_none");
}

TEST(Spec, KeepsAScheduleAsItWasWritten) {
    EXPECT_EQ(parse(one_kernel("shape = [1, 2, 3, 4]\nschedule = \"vector=8 store=stream\"")).kernels[0].schedule,
              "vector=8 store=stream");
    EXPECT_EQ(parse(one_kernel("shape = [1, 2, 3, 4]")).kernels[0].schedule, "");
}

TEST(Spec, TakesTheLargestExtentAndTheLargestTensor) {
    EXPECT_EQ(name_of("shape = [1073741824, 1]\nlayout = \"NC\""), "bn_inference_f32_interleaved_r1073741824_c1_none");
    EXPECT_EQ(name_of("shape = [1048576, 33554432]\nlayout = \"NC\""),
              "bn_inference_f32_interleaved_r1048576_c33554432_none");
}

TEST(Spec, ReadsWindowsLineEndsAndAByteOrderMark) {
    EXPECT_EQ(parse("\xEF\xBB\xBF[[kernel]]\r\nop=\"inference\"\r\nlayout=\"NC\"\r\nshape=[4,8]\r\n").kernels.size(),
              1u);
}

// ---- any input at all ----

// A seeded stand-in for a fuzzer: whatever was broken, the answer is a spec or a sentence that names the file.
TEST(Spec, AnswersEveryBrokenFileWithASentence) {
    const std::string base = example_of_the_docs();
    ASSERT_FALSE(base.empty());
    const std::string pieces[] = {"[",
                                  "]",
                                  "[[",
                                  "{",
                                  "}",
                                  "\"",
                                  "'''",
                                  "\"\"\"",
                                  "=",
                                  ".",
                                  ",",
                                  "\n",
                                  "\r",
                                  "#",
                                  "any",
                                  "kernel",
                                  "shape",
                                  "-1",
                                  "1e9",
                                  "0x7f",
                                  "nan",
                                  "inf",
                                  "true",
                                  "\xff",
                                  "\\u",
                                  "\0x",
                                  "[[kernel]]\n",
                                  "op",
                                  "name",
                                  "targets",
                                  "9999999999",
                                  "a.b.c",
                                  "99:99:99",
                                  "1979-05-27T07:32:00Z"};
    std::mt19937 random(20150211);  // fixed: a failure can be run again
    const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
    int accepted = 0;
    for (int round = 0; round < 5000; ++round) {
        std::string text = base;
        for (std::size_t change = 1 + below(6); change > 0 && !text.empty(); --change) {
            const std::size_t at = below(text.size());
            switch (below(5)) {
                case 0: text[at] = static_cast<char>(below(256)); break;
                case 1: text.erase(at, 1 + below(20)); break;
                case 2: text.insert(at, pieces[below(std::size(pieces))]); break;
                case 3: text.insert(at, text.substr(below(text.size()), 1 + below(80))); break;
                case 4: text.resize(at); break;
            }
        }
        try {
            const LibrarySpec spec = parse(text);
            ++accepted;
            EXPECT_TRUE(is_library_name(spec.name));
            EXPECT_FALSE(spec.targets.empty());
            EXPECT_FALSE(spec.kernels.empty());
        } catch (const SpecError& error) {
            const std::string said = error.what();
            EXPECT_EQ(said.rfind("net.toml:", 0), 0u) << said;
            EXPECT_NE(said.find("; allowed: "), std::string::npos) << said;
            EXPECT_LT(said.size(), 1000u) << said;
            EXPECT_EQ(said.find('\n'), std::string::npos) << said;
        }
    }
    EXPECT_GT(accepted, 0);
}

}  // namespace
}  // namespace fusebn
