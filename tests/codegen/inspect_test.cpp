// Manifests, and what `fusebn inspect` says of them. A manifest is enough: the code is made again from its rows.

#include "compiler/inspect.h"

#include <gtest/gtest.h>

#include "codegen/generated.h"
#include "compiler/device_report.h"
#include "compiler/files.h"
#include "compiler/plan.h"
#include "compiler/variant.h"

using namespace fusebn;
using namespace codegen;

namespace {

Manifest example() {
    Manifest m;
    m.name = "example";
    m.generator = generator_version();
    m.digest = "0123456789abcdef0123456789abcdef";
    m.caches = {16 << 10, 256 << 10, 16 << 20};
    m.library_bytes = 12345;
    m.kernels = plan({m.name,
                      {InstructionSet::x86_64, InstructionSet::x86_64_avx2},
                      {{planar(Op::inference, 4, 16, 256), "unroll=2 parallel=rows task=3 store=stream", 0},
                       {planar(Op::train_forward, any_extent, 16, 256), "", 0},
                       {planar(Op::train_forward, 32, 14, 12544), "", 0}}},
                     m.caches);
    m.kernels[0].variants[0].object_bytes = 6789;
    return m;
}

const char* const planar_inference = "bn_inference_f32_planar_n4_c16_s256_relu";

class Inspect : public testing::Test {
protected:
    Inspect() { write_file(directory / "example.json", to_json(example())); }

    std::string inspect(const std::string& kernel, const std::string& target = "",
                        InspectOptions::Show show = InspectOptions::Show::summary) {
        return fusebn::inspect({directory / "example.json", kernel, target, show});
    }
    std::string mistake(const std::string& kernel, const std::string& target = "",
                        InspectOptions::Show show = InspectOptions::Show::summary) {
        return refusal([&] { inspect(kernel, target, show); });
    }
    TemporaryDirectory directory;
};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(Manifests, ReadBackAsTheyWereWritten) {
    const Manifest before = example();
    const Manifest after = manifest_from_json(to_json(before));
    EXPECT_EQ(to_json(after), to_json(before));
    EXPECT_EQ(after.name, before.name);
    EXPECT_EQ(after.digest, before.digest);
    EXPECT_EQ(after.generator, before.generator);
    EXPECT_EQ(after.library_bytes, before.library_bytes);
    EXPECT_EQ(after.caches.l3, before.caches.l3);
    ASSERT_EQ(after.kernels.size(), before.kernels.size());
    for (std::size_t k = 0; k < after.kernels.size(); ++k) {
        EXPECT_EQ(after.kernels[k].kernel, before.kernels[k].kernel);
        EXPECT_EQ(after.kernels[k].large, before.kernels[k].large);
        ASSERT_EQ(after.kernels[k].variants.size(), before.kernels[k].variants.size());
        for (std::size_t v = 0; v < after.kernels[k].variants.size(); ++v) {
            const ManifestVariant& a = after.kernels[k].variants[v];
            const ManifestVariant& b = before.kernels[k].variants[v];
            EXPECT_EQ(a.isa, b.isa);
            EXPECT_EQ(a.schedule, b.schedule);
            EXPECT_EQ(a.origin, b.origin);
            EXPECT_EQ(a.symbol, b.symbol);
            EXPECT_EQ(a.processor, b.processor);
            EXPECT_EQ(a.object_bytes, b.object_bytes);
        }
    }
}

Manifest assembled() {
    Manifest m = example();
    m.ptxas = "13.0.88";
    m.kernels[0].variants[1].functions = {{"one", false, 32, 16, 1024, 8, 0, 256},
                                          {"two", true, 255, 0, DeviceFunction::any, 0, 40, DeviceFunction::any}};
    return m;
}

TEST(Manifests, KeepWhatDeviceFunctionsTake) {
    const Manifest before = assembled(), after = manifest_from_json(to_json(before));
    EXPECT_EQ(to_json(after), to_json(before));
    EXPECT_EQ(after.ptxas, "13.0.88");
    EXPECT_TRUE(after.kernels[0].variants[0].functions.empty());
    const auto& functions = after.kernels[0].variants[1].functions;
    ASSERT_EQ(functions.size(), 2u);
    EXPECT_EQ(functions[0].name, "one");
    EXPECT_FALSE(functions[0].unaligned);
    EXPECT_EQ(functions[0].registers, 32);
    EXPECT_EQ(functions[0].shared_bytes, 16);
    EXPECT_EQ(functions[0].dynamic_shared_bytes, 1024);
    EXPECT_EQ(functions[0].stack_bytes, 8);
    EXPECT_EQ(functions[0].spill_bytes, 0);
    EXPECT_EQ(functions[0].threads, 256);
    EXPECT_TRUE(functions[1].unaligned);
    EXPECT_EQ(functions[1].spill_bytes, 40);
    EXPECT_EQ(functions[1].dynamic_shared_bytes, DeviceFunction::any);
    EXPECT_EQ(functions[1].threads, DeviceFunction::any);
    for (const auto& [from, to] :
         std::vector<std::pair<std::string, std::string>>{{"\"registers\": 32", "\"registers\": \"many\""},
                                                          {"\"threads\": \"any\"", "\"threads\": \"some\""},
                                                          {"\"unaligned\": true", "\"unaligned\": \"yes\""},
                                                          {"\"ptxas\": \"13.0.88\"", "\"ptxas\": null"}}) {
        std::string bad = to_json(before);
        ASSERT_TRUE(contains(bad, from)) << from;
        bad.replace(bad.find(from), from.size(), to);
        EXPECT_NE(refusal([&] { manifest_from_json(bad); }), "") << to;
    }
}

TEST(Manifests, RefuseWhatIsNone) {
    for (const char* text : {"", "[]", "{}", "null", "42", "\"text\"", "{\"name\": \"x\"}", "{\"name\": 3}"}) {
        EXPECT_NE(refusal([&] { manifest_from_json(text); }), "") << text;
    }
    // Every value of a wrong type, and every name that is none, is an error: none is read as something else.
    const std::string good = to_json(example());
    for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
             {"\"op\": \"inference\"", "\"op\": \"backwards\""},
             {"\"view\": \"planar\"", "\"view\": \"round\""},
             {"\"dtype\": \"f32\"", "\"dtype\": 32"},
             {"\"activation\": \"relu\"", "\"activation\": null"},
             {"\"target\": \"x86-64\"", "\"target\": \"z80\""},
             {"store=stream", "store=elsewhere"},
             {"\"large\": false", "\"large\": \"no\""},
             {"\"library_bytes\": 12345", "\"library_bytes\": \"many\""}}) {
        std::string bad = good;
        ASSERT_TRUE(contains(bad, from)) << from;
        bad.replace(bad.find(from), from.size(), to);
        EXPECT_NE(refusal([&] { manifest_from_json(bad); }), "") << to;
    }
}

TEST_F(Inspect, ListsAllKernelsOrOne) {
    const std::string all = inspect("");
    for (const ManifestKernel& k : example().kernels) EXPECT_TRUE(contains(all, kernel_name(k.kernel))) << all;
    const std::string one = inspect("planar_n4");
    EXPECT_TRUE(contains(one, planar_inference)) << one;
    EXPECT_FALSE(contains(one, "train_forward")) << one;
    EXPECT_EQ(inspect(planar_inference), one);
}

TEST_F(Inspect, ShowsWhatDeviceFunctionsTake) {
    EXPECT_FALSE(contains(inspect(""), "ptxas"));
    const Manifest m = assembled();
    write_file(directory / "example.json", to_json(m));
    EXPECT_TRUE(contains(inspect(""), "CUDA kernels assembled by ptxas 13.0.88\n")) << inspect("");
    for (const char* kernel : {"", planar_inference}) {
        for (const DeviceFunction& f : m.kernels[0].variants[1].functions) {
            EXPECT_TRUE(contains(inspect(kernel), to_text(f) + "\n")) << inspect(kernel);
        }
    }
}

TEST_F(Inspect, TakesAnArchiveForItsManifest) {
    write_file(directory / "libexample.a", std::string(12345, 'x'));
    EXPECT_EQ(fusebn::inspect({directory / "libexample.a", "", "", InspectOptions::Show::summary}), inspect(""));
}

TEST_F(Inspect, ShowsTheCodeOfATarget) {
    const auto assembly = InspectOptions::Show::assembly;
    EXPECT_TRUE(contains(inspect(planar_inference, "", assembly), "%ymm")) << "the highest target";
    const std::string baseline = inspect(planar_inference, "x86-64", assembly);
    EXPECT_TRUE(contains(baseline, "movntps"));
    EXPECT_FALSE(contains(baseline, "%ymm"));
    const std::string loops = inspect(planar_inference, "x86-64", InspectOptions::Show::statement);
    EXPECT_TRUE(contains(loops, "_par_for_y")) << loops;
}

TEST_F(Inspect, ShowsTheCodeForAProcessor) {
    const std::string listed = inspect("train_forward_f32_planar_n32");
    EXPECT_TRUE(contains(listed, "store=stream\n")) << listed;
    EXPECT_TRUE(contains(listed, "store=stream  on GenuineIntel\n")) << listed;
    const auto assembly = [&](const std::string& processor) {
        return fusebn::inspect({directory / "example.json", "train_forward_f32_planar_n32", "x86-64",
                                InspectOptions::Show::assembly, processor});
    };
    EXPECT_TRUE(contains(assembly(""), "prefetch"));
    EXPECT_FALSE(contains(assembly("GenuineIntel"), "prefetch"));
    // As a layer would choose. (The names of the loops count on from one lowering to the next.)
    EXPECT_TRUE(contains(assembly("GenuineIntel family 6 model 167"), "__x86_64__genuineintel\"\n"));
    EXPECT_TRUE(contains(assembly("CentaurHauls"), "__x86_64\"\n"));
    for (const char* kernel : {"", "train_forward_f32_planar_n32"}) {
        EXPECT_EQ(refusal([&] {
                      fusebn::inspect(
                          {directory / "example.json", kernel, "", InspectOptions::Show::summary, "GenuineIntel"});
                  }),
                  "--processor chooses the variant that --stmt and --asm show: say which of them");
    }
}

TEST_F(Inspect, AnswersEveryMistakeWithWhatThereIs) {
    EXPECT_EQ(mistake("no_such_kernel"),
              "--kernel: no kernel of example is called \"no_such_kernel\"; `fusebn inspect` "
              "without --kernel lists them");
    const std::string ambiguous = mistake("train_forward");
    EXPECT_EQ(ambiguous.rfind("--kernel: \"train_forward\" is part of several names; say which:\n", 0), 0u)
        << ambiguous;
    EXPECT_TRUE(contains(ambiguous, "\n  bn_train_forward_f32_planar_nany_c16_s256_relu")) << ambiguous;
    EXPECT_FALSE(contains(ambiguous, "bn_inference")) << ambiguous;
    EXPECT_EQ(mistake(planar_inference, "x86-64-avx512"),
              "--target: found \"x86-64-avx512\"; example was built for: x86-64, x86-64-avx2");
    EXPECT_EQ(mistake("", "x86-64-avx512"),
              "--target: found \"x86-64-avx512\"; example was built for: x86-64, x86-64-avx2");
    EXPECT_EQ(mistake("", "z80").rfind("--target: found \"z80\"; allowed: \"x86-64\", ", 0), 0u) << mistake("", "z80");
    for (const auto show : {InspectOptions::Show::statement, InspectOptions::Show::assembly}) {
        EXPECT_EQ(mistake("", "", show), "--stmt and --asm show one kernel: name it with --kernel");
    }
}

TEST_F(Inspect, RefusesAFileThatIsNoManifest) {
    const auto of = [](const std::string& path) {
        return refusal([&] { fusebn::inspect({path, "", "", InspectOptions::Show::summary}); });
    };
    EXPECT_EQ(of("kernels.o"),
              "kernels.o: expected a library lib<name>.a, with its manifest beside it, or <name>.json");
    EXPECT_EQ(of("example.a"),
              "example.a: expected a library lib<name>.a, with its manifest beside it, or <name>.json");
    write_file(directory / "other.json", "{\"name\": \"other\"}");
    EXPECT_EQ(of(directory / "other.json").rfind(directory / "other.json" + ": not a manifest of fusebn: ", 0), 0u);
    EXPECT_TRUE(contains(of(directory / "missing.json"), "missing.json: cannot be read: No such file or directory"))
        << of(directory / "missing.json");
}

TEST_F(Inspect, ShowsNoCodeOfAnotherVersion) {
    Manifest m = example();
    m.generator = "fusebn 0.0.1, Halide 1.0.0, LLVM 1.0.0";
    write_file(directory / "example.json", to_json(m));
    EXPECT_EQ(mistake(""), "");
    EXPECT_EQ(mistake(planar_inference, "", InspectOptions::Show::assembly),
              "example was built by fusebn 0.0.1, Halide 1.0.0, LLVM 1.0.0; this is " + generator_version() +
                  ": build it again to see its code");
}

}  // namespace
