// What the functions of a library's CUDA variants take: known from the build, kept with the objects, read back.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "codegen/generated.h"
#include "compiler/build.h"
#include "compiler/device_report.h"
#include "compiler/emit.h"
#include "compiler/inspect.h"
#include "compiler/plan.h"
#include "compiler/ptx.h"

using namespace fusebn;
using namespace codegen;

namespace {

// For as long as it lives, $FUSEBN_PTXAS.
class Assembler {
public:
    explicit Assembler(const std::string& path) : before_(std::getenv("FUSEBN_PTXAS")) {
        if (before_) restored_ = before_;
        setenv("FUSEBN_PTXAS", path.c_str(), 1);
    }
    ~Assembler() { before_ ? setenv("FUSEBN_PTXAS", restored_.c_str(), 1) : unsetenv("FUSEBN_PTXAS"); }
    Assembler(const Assembler&) = delete;
    Assembler& operator=(const Assembler&) = delete;

private:
    const char* before_;
    std::string restored_;
};

// With the generic kernels six kernels; the backward has all that a channel needs in shared memory.
LibrarySpec library() {
    return {"taken",
            {InstructionSet::x86_64, InstructionSet::cuda_sm_90},
            {{planar(Op::backward, 64, 64, 64, Activation::relu), "", 0}}};
}

BuildOptions into(const TemporaryDirectory& folder) { return {folder.path(), 2, {}, true}; }

const ManifestVariant& variant(const Manifest& m, const std::string& kernel, InstructionSet isa) {
    for (const ManifestKernel& k : m.kernels) {
        for (const ManifestVariant& v : k.variants) {
            if (v.isa == isa && kernel_name(k.kernel) == kernel) return v;
        }
    }
    throw std::runtime_error("no " + kernel);
}

const char* const backward = "bn_backward_f32_planar_n64_c64_s64_relu";

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(DeviceLibrary, KnowsWhatItsFunctionsTakeAlsoOfObjectsThatItReuses) {
    const std::optional<std::string> ptxas = find_ptxas();
    if (!ptxas) GTEST_SKIP() << "no ptxas: a CUDA toolkit's, or FUSEBN_PTXAS";
    const TemporaryDirectory folder;
    const BuildResult first = build(library(), into(folder));
    EXPECT_EQ(first.manifest.ptxas, ptxas_version(*ptxas));
    int unaligned = 0;
    for (const ManifestKernel& k : first.manifest.kernels) {
        EXPECT_TRUE(k.variants.front().functions.empty()) << "of a CPU";
        EXPECT_FALSE(k.variants.back().functions.empty()) << kernel_name(k.kernel);
        for (const DeviceFunction& f : k.variants.back().functions) {
            EXPECT_GT(f.registers, 0) << f.name;
            EXPECT_GT(f.threads, 0) << f.name;
            unaligned += f.unaligned;
        }
    }
    EXPECT_EQ(unaligned, 1) << "the backward of known extents has rows of whole vectors";

    // x and dy of a block's two channels, as they lie in shared memory.
    const DeviceFunction staged = variant(first.manifest, backward, InstructionSet::cuda_sm_90).functions.at(0);
    EXPECT_GE(staged.dynamic_shared_bytes, 2 * 2 * 64 * 64 * 4);
    EXPECT_LE(staged.dynamic_shared_bytes, gpu_model(InstructionSet::cuda_sm_90).shared_bytes);

    std::filesystem::remove(folder / "taken.json");
    const BuildResult again = build(library(), into(folder));
    EXPECT_EQ(again.compiled, 0);
    EXPECT_EQ(to_json(again.manifest), to_json(first.manifest));
    EXPECT_TRUE(contains(inspect({folder / "libtaken.a", backward, "", InspectOptions::Show::summary}),
                         to_text(staged) + "\n"));
}

// Whatever the kernels need, an assembler that gives each function 24 registers spills.
TEST(DeviceLibrary, IsNotBuiltWhereAFunctionSpillsUnlessThatIsAllowed) {
    const std::optional<std::string> ptxas = find_ptxas();
    if (!ptxas) GTEST_SKIP() << "no ptxas: a CUDA toolkit's, or FUSEBN_PTXAS";
    const TemporaryDirectory folder;
    write_file(folder / "ptxas", "#!/bin/sh\nexec '" + *ptxas + "' --maxrregcount=24 \"$@\"\n");
    std::filesystem::permissions(folder / "ptxas", std::filesystem::perms::owner_all);
    const Assembler mean(folder / "ptxas");
    const auto refused = [&] { return refusal([&] { build(library(), into(folder)); }); };
    const std::string first = refused();
    EXPECT_TRUE(contains(first, "--allow-spills:\n  ")) << first;
    EXPECT_TRUE(contains(first, std::string(backward) + " cuda-sm_90 _kernel_dx")) << first;
    EXPECT_TRUE(contains(first, " bytes with vector=4 ")) << first;
    EXPECT_FALSE(std::filesystem::exists(folder / "libtaken.a"));
    EXPECT_EQ(refused(), first) << "of objects that were kept";

    BuildOptions allowed = into(folder);
    allowed.allow_spills = true;
    EXPECT_GT(
        variant(build(library(), allowed).manifest, backward, InstructionSet::cuda_sm_90).functions[0].spill_bytes, 0);
    EXPECT_EQ(refused(), first) << "of a library that is up to date";
    EXPECT_TRUE(build(library(), allowed).up_to_date);
}

TEST(DeviceLibrary, RefusesAnAssemblerThatSaysNoVersion) {
    const TemporaryDirectory folder;
    write_file(folder / "ptxas", "#!/bin/sh\necho none\n");
    std::filesystem::permissions(folder / "ptxas", std::filesystem::perms::owner_all);
    const std::string message = refusal([&] { ptxas_version(folder / "ptxas"); });
    EXPECT_TRUE(contains(message, "ptxas --version: expected a version like V13.0.88, found: none")) << message;
}

// Linked programs are rid of the section: it is marked as to be left out.
TEST(DeviceObjects, KeepTheirFunctionsWhereNoProgramHasThem) {
    const KernelSpec k = planar(Op::inference, 2, 3, 64);
    const Schedule s = default_gpu_schedule(k, {});
    const std::string bare = emit_device_kernel(lower(k, s, InstructionSet::cuda_sm_90, false), nullptr,
                                                InstructionSet::cuda_sm_90, "bare", std::nullopt)
                                 .bytes;
    EXPECT_TRUE(device_functions(bare).empty()) << "PTX alone";
    EXPECT_NE(refusal([&] { device_functions("no object"); }), "");
    const std::optional<std::string> ptxas = find_ptxas();
    if (!ptxas) GTEST_SKIP() << "no ptxas: a CUDA toolkit's, or FUSEBN_PTXAS";
    const TemporaryDirectory folder;
    write_file(folder / "object.o", emit_device_kernel(lower(k, s, InstructionSet::cuda_sm_90, false), nullptr,
                                                       InstructionSet::cuda_sm_90, "kept", ptxas)
                                        .bytes);
    const std::vector<Section> all = sections(folder / "object.o");
    const auto kept =
        std::find_if(all.begin(), all.end(), [](const Section& x) { return x.name == ".fusebn.functions"; });
    ASSERT_NE(kept, all.end());
    EXPECT_EQ(kept->flags, "E");
}

TEST(DeviceReport, NamesTheWorstFunctionOfAKernelOrAll) {
    Manifest m;
    m.name = "m";
    m.kernels = plan({m.name, {InstructionSet::cuda_sm_80}, {{interleaved(Op::inference, 8, 16), "", 0}}}, {});
    const auto report = [&](bool all) {
        std::ostringstream out;
        report_functions(out, m, all);
        return out.str();
    };
    EXPECT_EQ(report(false), "") << "nothing was assembled";
    m.ptxas = "13.0.88";
    auto& functions = m.kernels[0].variants[0].functions;
    functions = {{"few", false, 20, 0, 0, 0, 0, 64},
                 {"many", false, 60, 0, 1024, 0, 0, 256},
                 {"others", true, 90, 0, DeviceFunction::any, 0, 0, DeviceFunction::any}};
    const std::string header = "assembled by ptxas 13.0.88; the worst function of each kernel (--verbose: all):\n";
    EXPECT_EQ(report(false), header +
                                 "   60 registers     0 + 1024   bytes shared    0 spilled  256 threads  "
                                 "bn_inference_f32_interleaved_r8_c16_relu cuda-sm_80 many\n");
    EXPECT_TRUE(contains(report(true),
                         "   90 registers     0 + any    bytes shared    0 spilled  any threads  others (unaligned)\n"))
        << report(true);
    for (const DeviceFunction& f : functions) EXPECT_TRUE(contains(report(true), to_text(f))) << f.name;
    EXPECT_EQ(refusal([&] { refuse_spills(m); }), "");
    functions[2].spill_bytes = 8;
    EXPECT_TRUE(contains(report(false), "cuda-sm_80 others (unaligned)\n")) << "it spills";
    functions.assign(12, functions[2]);
    const std::string message = refusal([&] { refuse_spills(m); });
    EXPECT_TRUE(contains(message, "others (unaligned): 8 bytes with vector=4 ")) << message;
    EXPECT_TRUE(contains(message, "\n  and 2 more")) << message;
}

}  // namespace
