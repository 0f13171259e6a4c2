// From a spec to files: what is compiled again and what is kept, what a failure leaves behind, and that the same spec
// gives the same bytes.

#include "compiler/build.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <map>

#include "codegen/generated.h"
#include "compiler/files.h"
#include "compiler/plan.h"
#include "compiler/variant.h"

using namespace fusebn;
using namespace codegen;
namespace fs = std::filesystem;

namespace {

constexpr std::int64_t any = any_extent;

// Two kernels and the four generic ones that come with them.
LibrarySpec library(const std::string& first = "", const std::string& second = "") {
    return {"built",
            {InstructionSet::x86_64},
            {{planar(Op::inference, 4, 16, 256), first, 0}, {interleaved(Op::inference, 256, 16), second, 0}}};
}
constexpr int kernels = 6;

class Build : public testing::Test {
protected:
    BuildResult run(const LibrarySpec& spec, int jobs = 2) { return build(spec, {directory.path(), jobs, {}, true}); }

    // The three files that a user sees.
    std::map<std::string, std::string> files() {
        std::map<std::string, std::string> all;
        for (const char* name : {"libbuilt.a", "built.h", "built.json"}) all[name] = read_file(directory / name);
        return all;
    }
    // Temporary files that were left behind.
    int strays() {
        int count = 0;
        for (const auto& entry : fs::recursive_directory_iterator(directory.path())) {
            count += entry.path().extension() == ".tmp";
        }
        return count;
    }

    TemporaryDirectory directory;
};

TEST_F(Build, CompilesNothingWhenNothingChanged) {
    const BuildResult first = run(library());
    EXPECT_EQ(first.compiled, kernels);
    EXPECT_EQ(first.reused, 0);
    EXPECT_FALSE(first.up_to_date);
    const auto before = files();

    const BuildResult second = run(library());
    EXPECT_EQ(second.compiled, 0);
    EXPECT_EQ(second.reused, kernels);
    EXPECT_TRUE(second.up_to_date);
    EXPECT_EQ(to_json(second.manifest), to_json(first.manifest));
    EXPECT_EQ(files(), before);
}

TEST_F(Build, CompilesOnlyTheKernelThatChanged) {
    run(library());
    const BuildResult changed = run(library("unroll=3"));
    EXPECT_EQ(changed.compiled, 1);
    EXPECT_EQ(changed.reused, kernels - 1);
    EXPECT_FALSE(changed.up_to_date);
    // The object that nobody needs any more is gone.
    int objects = 0;
    for (const auto& entry : fs::directory_iterator(directory / "built.objects"))
        objects += entry.path().extension() == ".o";
    EXPECT_EQ(objects, kernels);
}

// A crash can leave an empty file, or half of one.
TEST_F(Build, CompilesAnObjectThatIsDamagedAgain) {
    run(library());
    const auto before = files();
    for (std::uintmax_t size : {std::uintmax_t{0}, std::uintmax_t{100}}) {
        for (const auto& entry : fs::directory_iterator(directory / "built.objects")) {
            if (entry.path().extension() != ".o") continue;
            fs::resize_file(entry.path(), size);
            break;
        }
        const BuildResult again = run(library());
        EXPECT_EQ(again.compiled, 1);
        EXPECT_EQ(files(), before);
    }
}

TEST_F(Build, TakesGenericKernelsUnderOtherSchedulesAndExtentsAtTheLimit) {
    constexpr std::int64_t most = max_extent;
    LibrarySpec spec = library();
    spec.kernels = {{planar(Op::train_forward, any, any, any), "parallel=rows", 0},
                    {interleaved(Op::train_forward, any, any), "block=64", 0},
                    {interleaved(Op::inference, any, 1), "task=65536", 0},
                    {interleaved(Op::inference, most, 4), "", 0},
                    {interleaved(Op::train_forward, most, 1), "", 0},
                    {interleaved(Op::train_forward, 2, 1 << 24), "", 0},
                    {planar(Op::inference, 2, 1 << 24, 3), "", 0},
                    {planar(Op::train_forward, most, 1, 3), "", 0},
                    {planar(Op::train_forward, most / 4, 1, 2049), "", 0},
                    {planar(Op::train_forward, 2, 1, most), "", 0}};
    EXPECT_GE(run(spec).compiled, 10);
}

TEST_F(Build, IntoAFileSaysThatItIsNoFolder) {
    write_file(directory / "file", "");
    BuildOptions options;
    options.directory = directory / "file";
    options.quiet = true;
    try {
        (void)build(library(), options);
        ADD_FAILURE() << "it was built";
    } catch (const std::runtime_error& e) {
        EXPECT_NE(std::string(e.what()).find("cannot be made a folder"), std::string::npos) << e.what();
    }
}

TEST_F(Build, WritesAgainWhatIsMissingOrDamaged) {
    run(library());
    const auto before = files();
    for (const char* name : {"libbuilt.a", "built.h", "built.json"}) {
        fs::remove(directory / name);
        EXPECT_FALSE(run(library()).up_to_date) << name;
        EXPECT_EQ(files(), before) << name;
    }
    for (const char* name : {"libbuilt.a", "built.json"}) {
        write_file(directory / name, "damaged");
        EXPECT_FALSE(run(library()).up_to_date) << name;
        EXPECT_EQ(files(), before) << name;
    }
}

// Build systems go by time.
TEST_F(Build, GivesFilesThatAreUpToDateTheTimeOfTheBuild) {
    run(library());
    const auto long_ago = fs::file_time_type::clock::now() - std::chrono::hours(1);
    for (const auto& [name, bytes] : files()) fs::last_write_time(directory / name, long_ago);
    EXPECT_TRUE(run(library()).up_to_date);
    for (const auto& [name, bytes] : files()) EXPECT_GT(fs::last_write_time(directory / name), long_ago) << name;
}

TEST_F(Build, GivesTheSameBytesWithAnyNumberOfJobs) {
    run(library(), 1);
    const auto first = files();
    for (int jobs : {3, 8}) {
        const TemporaryDirectory other;
        build(library(), {other.path(), jobs, {}, true});
        for (const auto& [name, bytes] : first) EXPECT_TRUE(read_file(other / name) == bytes) << name << " " << jobs;
    }
}

TEST_F(Build, ThatIsAskedForAnIllegalScheduleLeavesTheLastOne) {
    run(library());
    const auto before = files();
    const std::string message = refusal([&] { run(library("", "vector=12")); });
    EXPECT_NE(message.find("vector: found 12"), std::string::npos) << message;
    EXPECT_NE(message.find("bn_inference_f32_interleaved_r256_c16_relu"), std::string::npos) << message;
    EXPECT_EQ(files(), before);
}

TEST_F(Build, ThatFailsInAKernelNamesItAndLeavesTheLastOne) {
    run(library());
    const auto before = files();
    // A limit on the size of files is a failure that any kernel can meet.
    struct rlimit old {};
    ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
    const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
    struct rlimit small = old;
    small.rlim_cur = 100;
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    const std::string message = refusal([&] { run(library("unroll=3")); });
    setrlimit(RLIMIT_FSIZE, &old);
    std::signal(SIGXFSZ, old_handler);

    EXPECT_NE(message.find("built__bn_inference_f32_planar_n4_c16_s256_relu__x86_64"), std::string::npos) << message;
    EXPECT_EQ(files(), before);
    EXPECT_EQ(strays(), 0);
    EXPECT_EQ(run(library("unroll=3")).compiled, 1);
}

TEST_F(Build, WhoseCompilerIsKilledSaysSo) {
    run(library());
    const auto before = files();
    struct rlimit old {};
    ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
    struct rlimit small = old;
    small.rlim_cur = 100;
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    const std::string message = refusal([&] { run(library("unroll=3")); });
    setrlimit(RLIMIT_FSIZE, &old);
    EXPECT_NE(message.find("killed by signal"), std::string::npos) << message;
    EXPECT_NE(message.find("bn_inference_f32_planar_n4_c16_s256_relu"), std::string::npos) << message;
    EXPECT_EQ(files(), before);
}

std::vector<std::string> names(const std::vector<ManifestKernel>& rows) {
    std::vector<std::string> all;
    for (const ManifestKernel& k : rows) all.push_back(kernel_name(k.kernel));
    return all;
}

TEST(Plan, GivesEveryKindOfKernelItsGenericOnes) {
    EXPECT_EQ(names(plan({"p", {InstructionSet::x86_64}, {{interleaved(Op::inference, 8, 16), "", 0}}}, {})),
              (std::vector<std::string>{"bn_inference_f32_interleaved_r8_c16_relu",
                                        "bn_inference_f32_interleaved_rany_cany_relu",
                                        "bn_train_forward_f32_interleaved_rany_cany_relu"}));
    // A planar call may have one element to a row, which is an interleaved one.
    EXPECT_EQ(names(plan({"p",
                          {InstructionSet::x86_64},
                          {{planar(Op::inference, 2, 3, 4, Activation::none), "", 0},
                           {interleaved(Op::train_forward, 8, 16), "", 0}}},
                         {})),
              (std::vector<std::string>{
                  "bn_inference_f32_planar_n2_c3_s4_none", "bn_train_forward_f32_interleaved_r8_c16_relu",
                  "bn_inference_f32_interleaved_rany_cany_none", "bn_inference_f32_interleaved_rany_cany_relu",
                  "bn_train_forward_f32_interleaved_rany_cany_none", "bn_train_forward_f32_interleaved_rany_cany_relu",
                  "bn_inference_f32_planar_nany_cany_sany_none", "bn_train_forward_f32_planar_nany_cany_sany_none"}));
}

// A library that infers alone can train too, but has no kernels of backward.
TEST(Plan, GivesBackwardItsGenericOnesWhereTheSpecHasIt) {
    const KernelSpec add = with(interleaved(Op::backward, 8, 16), Residual::add, DataType::bf16);
    EXPECT_EQ(
        names(plan({"p",
                    {InstructionSet::x86_64},
                    {{add, "", 0}, {interleaved(Op::train_forward, 8, 16, Activation::silu), "", 0}}},
                   {})),
        (std::vector<std::string>{
            "bn_backward_bf16_interleaved_r8_c16_add_relu", "bn_train_forward_f32_interleaved_r8_c16_silu",
            "bn_inference_f32_interleaved_rany_cany_silu", "bn_inference_bf16_interleaved_rany_cany_add_relu",
            "bn_train_forward_f32_interleaved_rany_cany_silu", "bn_train_forward_bf16_interleaved_rany_cany_add_relu",
            "bn_backward_bf16_interleaved_rany_cany_add_relu"}));
}

TEST(Plan, PutsTheFixedFirstAndTheGenericLast) {
    const std::vector<std::string> all = names(plan({"p",
                                                     {InstructionSet::x86_64},
                                                     {{planar(Op::inference, any, any, any), "", 0},
                                                      {planar(Op::inference, any, 3, any), "", 0},
                                                      {planar(Op::inference, any, 3, 4), "", 0},
                                                      {planar(Op::inference, 2, 3, 4), "", 0}}},
                                                    {}));
    EXPECT_EQ(all, (std::vector<std::string>{
                       "bn_inference_f32_planar_n2_c3_s4_relu", "bn_inference_f32_planar_nany_c3_s4_relu",
                       "bn_inference_f32_planar_nany_c3_sany_relu", "bn_inference_f32_interleaved_rany_cany_relu",
                       "bn_train_forward_f32_interleaved_rany_cany_relu", "bn_inference_f32_planar_nany_cany_sany_relu",
                       "bn_train_forward_f32_planar_nany_cany_sany_relu"}))
        << "and the spec's own generic kernel is not made twice";
}

TEST(Plan, TakesPlanarRowsOfOneElementForInterleaved) {
    const auto rows = plan({"p",
                            {InstructionSet::x86_64},
                            {{planar(Op::inference, 8, 16, 1), "", 0}, {interleaved(Op::inference, 8, 16), "", 0}}},
                           {});
    EXPECT_EQ(names(rows), (std::vector<std::string>{"bn_inference_f32_interleaved_r8_c16_relu",
                                                     "bn_inference_f32_interleaved_rany_cany_relu",
                                                     "bn_train_forward_f32_interleaved_rany_cany_relu"}));
}

// Training within the L3 cache: by default with prefetches, which one kind of processors does not want there.
const KernelSpec& prefetched() {
    static const KernelSpec spec = planar(Op::train_forward, 32, 256, 196);
    return spec;
}

std::vector<ManifestVariant> variants_of(const std::string& schedule, const RecordBook& book = {}) {
    return plan({"p", {InstructionSet::x86_64}, {{prefetched(), schedule, 0}}}, {}, book).front().variants;
}

TEST(Plan, GivesAProcessorWithOtherDefaultsAVariant) {
    const std::vector<ManifestVariant> all = variants_of("");
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0].processor, "");
    EXPECT_TRUE(all[0].schedule == default_schedule(prefetched()));
    EXPECT_EQ(all[1].processor, "GenuineIntel");
    EXPECT_TRUE(all[1].schedule == default_schedule(prefetched(), model_for("GenuineIntel", {})));
    EXPECT_EQ(all[1].symbol, all[0].symbol + "__genuineintel");
    EXPECT_EQ(all[1].origin, "default");
    // The spec's schedule is for all.
    EXPECT_EQ(variants_of("unroll=2").size(), 1u);
}

TEST(Plan, GivesAProcessorsRecordsToItAlone) {
    const TemporaryFile file;
    const std::string amd = "AuthenticAMD family 25 model 17", intel = "GenuineIntel family 6 model 167";
    const Schedule usual = default_schedule(prefetched());
    {
        RecordAppender appender(file.path());
        for (const std::string& processor : {intel, amd}) {
            Record r;
            r.kind = Record::Kind::best;
            r.kernel = kernel_name(prefetched());
            r.key = {"a machine with " + processor, 2, generator_version(), processor};
            r.schedule = processor == amd ? usual : parse_schedule("vector=8 unroll=2 parallel=channels", {});
            appender.append(r);
        }
    }
    const std::vector<ManifestVariant> all =
        variants_of("", RecordBook({file.path()}, {}, generator_version(), {InstructionSet::x86_64}));
    ASSERT_EQ(all.size(), 4u);
    EXPECT_EQ(all[0].origin, "default");
    EXPECT_TRUE(all[0].schedule == usual);
    EXPECT_EQ(all[1].processor, amd);
    EXPECT_EQ(all[1].origin, "tuned");
    EXPECT_EQ(all[1].symbol, all[0].symbol) << "of equal schedules there is one object";
    EXPECT_EQ(all[2].processor, "GenuineIntel");
    EXPECT_EQ(all[3].processor, intel);
    EXPECT_EQ(all[3].origin, "tuned");
    EXPECT_EQ(all[3].schedule.vector, 8);
    EXPECT_EQ(all[3].symbol, all[0].symbol + "__genuineintel_family_6_model_167");
}

TEST(Plan, GivesEachTargetItsVariantInOrder) {
    for (const ManifestKernel& k :
         plan({"p", instruction_sets(), {{planar(Op::inference, 2, 3, 4), "unroll=3", 0}}}, {})) {
        ASSERT_EQ(k.variants.size(), 3u);
        for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(k.variants[i].isa, instruction_sets()[i]);
        EXPECT_EQ(k.variants[0].origin, k.kernel.generic() ? "default" : "spec");
        if (!k.kernel.generic()) {
            EXPECT_EQ(k.variants[0].schedule.unroll, 3);
        }
        EXPECT_EQ(k.variants[1].symbol, "p__" + kernel_name(k.kernel) + "__x86_64_avx2");
    }
}

TEST(Plan, CountsInSixtyFourBitsWhereATensorNeedsIt) {
    const auto large = [](const KernelSpec& spec) {
        return plan({"p", {InstructionSet::x86_64}, {{spec, "", 0}}}, {}).front().large;
    };
    EXPECT_FALSE(large(interleaved(Op::inference, 32767, 65536)));
    EXPECT_TRUE(large(interleaved(Op::inference, 32768, 65536)));
    EXPECT_TRUE(large(planar(Op::inference, 2, 40000, 40000)));
    EXPECT_TRUE(large(planar(Op::inference, any, 3, 4)));
}

}  // namespace
