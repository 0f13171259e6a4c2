// The code of a GPU's variants, without a GPU.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <set>
#include <string>

#include "codegen/generated.h"
#include "codegen/ptx_text.h"
#include "compiler/build.h"
#include "compiler/emit.h"
#include "compiler/inspect.h"
#include "compiler/lower.h"
#include "compiler/ptx.h"

using namespace fusebn;

namespace {

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t found = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++found;
    return found;
}

// Split and staged, planar and interleaved.
std::vector<KernelSpec> kernels(const std::vector<DataType>& dtypes) {
    std::vector<KernelSpec> all;
    for (const DataType dtype : dtypes) {
        for (const Op op : {Op::inference, Op::train_forward, Op::backward}) {
            all.push_back({op, View::planar, dtype, Activation::relu, Residual::none, 32, 64, 3136});
            all.push_back({op, View::planar, dtype, Activation::relu, Residual::none, 64, 64, 64});
            all.push_back({op, View::interleaved, dtype, Activation::relu, Residual::none, 100352, 64, 1});
        }
    }
    return all;
}

DeviceObject compiled(const KernelSpec& k, InstructionSet isa, const std::optional<std::string>& ptxas) {
    const Schedule schedule = default_gpu_schedule(k, gpu_model(isa));
    return emit_device_kernel(lower(k, schedule, isa, k.generic()), nullptr, isa, "device_test", ptxas);
}

TEST(Ptx, TakesFusedMultiplicationsApartAndRoundsEveryOther) {
    const std::string made = without_contraction(
        ".visible .entry f()\n{\n\tfma.rn.f32 \t%r1, %r2, %r3, %r4;\n\t@%p1 add.f64 \t%rd1, %rd2, %rd3;\n\tmul.f32 "
        "\t%r5, %r6, 0f3F800000;\n\tmad.lo.s32 \t%r7, %r8, %r9, %r10;\n}\n");
    EXPECT_EQ(count(made, "fma"), 0u) << made;
    EXPECT_NE(made.find("mul.rn.f32 \t%product32, %r2, %r3;\n\tadd.rn.f32"), std::string::npos) << made;
    EXPECT_NE(made.find("@%p1 add.rn.f64 \t%rd1, %rd2, %rd3;"), std::string::npos) << made;
    EXPECT_NE(made.find("mul.rn.f32 \t%r5, %r6, 0f3F800000;"), std::string::npos) << made;
    EXPECT_NE(made.find("mad.lo.s32"), std::string::npos) << made;
}

TEST(Ptx, LimitsTheRegistersOfTheFunctionThatIsNamed) {
    const std::string made = with_register_limits(".entry f(\n)\n{\n}\n.entry g(\n)\n{\n}\n", {{"g", 64}});
    EXPECT_EQ(made, ".entry f(\n)\n{\n}\n.entry g(\n)\n.maxnreg 64\n{\n}\n");
    EXPECT_THROW(with_register_limits(".entry f(\n)\n{\n}\n", {{"h", 64}}), std::runtime_error);
}

TEST(DeviceCode, HasNoContraction) {
    for (const KernelSpec& k : kernels({DataType::f32, DataType::bf16, DataType::f16})) {
        SCOPED_TRACE(kernel_name(k));
        const std::string text = compiled(k, InstructionSet::cuda_sm_90, std::nullopt).bytes;
        EXPECT_EQ(count(text, "fma.rn"), 0u);
        EXPECT_EQ(count(text, "\tmul.f32"), 0u);
        EXPECT_EQ(count(text, "\tadd.f32"), 0u);
    }
}

// Rows of all these shapes are whole vectors. A tensor is a pointer through which 16 bytes are accessed at least once,
// and there are as many as the operation has: so none is left out, and none of its accesses is narrower.
TEST(DeviceCode, AccessesTensorsByNothingButSixteenBytesInTheApplyLoop) {
    std::vector<KernelSpec> all = kernels({DataType::f32, DataType::bf16, DataType::f16});
    for (const Residual residual : {Residual::add, Residual::batch_norm}) {
        for (KernelSpec k : kernels({DataType::f32, DataType::bf16})) {
            k.residual = residual;
            all.push_back(k);
        }
    }
    for (const KernelSpec& k : all) {
        const Schedule schedule = default_gpu_schedule(k, gpu_model(InstructionSet::cuda_sm_90));
        SCOPED_TRACE(kernel_name(k) + " " + to_text(schedule));
        const Lowered lowered = lower(k, schedule, InstructionSet::cuda_sm_90, false);
        const std::string text = device_text(lowered, InstructionSet::cuda_sm_90, "device_test");
        const auto functions = codegen::global_accesses(text, k.op == Op::backward ? "_kernel_dx" : "_kernel_y");
        ASSERT_EQ(functions.size(), 1u);
        const std::vector<codegen::GlobalAccess>& accesses = functions.begin()->second;
        std::set<std::string> tensors, written;
        for (const codegen::GlobalAccess& a : accesses) {
            if (a.bytes == 16) (a.store ? written : tensors).insert(a.parameter);
        }
        EXPECT_EQ(static_cast<int>(written.size()), traffic(k).written);
        EXPECT_EQ(static_cast<int>(tensors.size()), traffic(k).read);
        tensors.insert(written.begin(), written.end());
        for (const codegen::GlobalAccess& a : accesses) {
            if (tensors.count(a.parameter) > 0) {
                EXPECT_EQ(a.bytes, 16) << a.text;
            }
        }
    }
}

TEST(DeviceCode, IsAssembledWithoutSpillsForEveryArchitecture) {
    const std::optional<std::string> ptxas = find_ptxas();
    if (!ptxas) GTEST_SKIP() << "no ptxas: a CUDA toolkit's, or FUSEBN_PTXAS";
    for (const InstructionSet isa :
         {InstructionSet::cuda_sm_80, InstructionSet::cuda_sm_90, InstructionSet::cuda_sm_100}) {
        // The schedules are nearly the same: one type each is enough.
        const DataType dtype = isa == InstructionSet::cuda_sm_90 ? DataType::bf16 : DataType::f32;
        for (const KernelSpec& k : kernels({dtype})) {
            const DeviceObject object = compiled(k, isa, ptxas);
            ASSERT_FALSE(object.functions.empty());
            for (const DeviceFunction& f : object.functions) {
                EXPECT_EQ(f.spill_bytes, 0) << kernel_name(k) << " " << to_string(isa) << " " << f.name;
                EXPECT_GT(f.registers, 0);
                EXPECT_LE(f.registers, 168) << kernel_name(k) << " " << to_string(isa) << " " << f.name;
            }
        }
    }
}

// The most that a block's threads have to hold; a library has the generic ones without being asked.
TEST(DeviceCode, OfTwoBranchesOrSiluDoesNotSpill) {
    const std::optional<std::string> ptxas = find_ptxas();
    if (!ptxas) GTEST_SKIP() << "no ptxas: a CUDA toolkit's, or FUSEBN_PTXAS";
    for (const DataType dtype : {DataType::f32, DataType::bf16}) {
        for (const auto& [activation, residual] :
             {std::pair(Activation::relu, Residual::batch_norm), std::pair(Activation::silu, Residual::batch_norm),
              std::pair(Activation::silu, Residual::add)}) {
            // As many blocks as a GPU wants, so that tiles are as long as they get.
            const KernelSpec k{Op::backward, View::interleaved, dtype, activation, residual, 802816, 256, 1};
            for (const DeviceFunction& f : compiled(k, InstructionSet::cuda_sm_80, ptxas).functions) {
                EXPECT_EQ(f.spill_bytes, 0) << kernel_name(k) << " " << f.name;
            }
        }
    }
    for (const View view : {View::planar, View::interleaved}) {
        const std::int64_t inner = view == View::planar ? any_extent : 1;
        const KernelSpec k{Op::backward,         view,       DataType::f32, Activation::silu,
                           Residual::batch_norm, any_extent, any_extent,    inner};
        for (const DeviceFunction& f : compiled(k, InstructionSet::cuda_sm_80, ptxas).functions) {
            EXPECT_EQ(f.spill_bytes, 0) << kernel_name(k) << " " << f.name;
        }
    }
}

TEST(DeviceCode, HasNoHalfTypeInOpenCl) {
    const KernelSpec k{Op::inference, View::planar, DataType::f16, Activation::none, Residual::none, 2, 3, 64};
    try {
        compiled(k, InstructionSet::opencl, std::nullopt);
        FAIL() << "it compiled";
    } catch (const std::runtime_error& e) {
        EXPECT_NE(std::string(e.what()).find("opencl has no f16; allowed: f32, bf16"), std::string::npos) << e.what();
    }
}

TEST(DeviceLibrary, SaysThatItHoldsPtxAloneAndIsMadeAgainWhereAnAssemblerTurnsUp) {
    const codegen::TemporaryDirectory folder;
    LibrarySpec spec;
    spec.name = "ptx";
    spec.targets = {InstructionSet::cuda_sm_80};
    spec.kernels = {{{Op::inference, View::planar, DataType::f32, Activation::none, Residual::none, 2, 3, 64}, "", 1}};
    BuildOptions options;
    options.directory = folder.path();
    options.quiet = true;
    const char* const before = std::getenv("FUSEBN_PTXAS");
    const std::string restored = before != nullptr ? before : "";
    setenv("FUSEBN_PTXAS", "", 1);
    const bool ptx_alone = build(spec, options).ptx_alone;
    const BuildResult again = build(spec, options);
    before != nullptr ? setenv("FUSEBN_PTXAS", restored.c_str(), 1) : unsetenv("FUSEBN_PTXAS");
    EXPECT_TRUE(ptx_alone);
    EXPECT_TRUE(again.ptx_alone);
    EXPECT_TRUE(again.up_to_date);
    EXPECT_NE(inspect({folder / "libptx.a", "bn_inference_f32_planar_n2", "", InspectOptions::Show::assembly})
                  .find(".visible .entry"),
              std::string::npos);
    if (!find_ptxas()) return;
    const BuildResult assembled = build(spec, options);
    EXPECT_FALSE(assembled.ptx_alone);
    EXPECT_EQ(assembled.reused, 0);
}

TEST(DeviceCode, ExistsForOpenCl) {
    for (const KernelSpec& k : kernels({DataType::f32, DataType::bf16})) {
        EXPECT_NE(compiled(k, InstructionSet::opencl, std::nullopt).bytes.find("__kernel"), std::string::npos);
    }
}

TEST(GpuSchedules, AreLegalByDefaultAndSayWhatIsNot) {
    for (const KernelSpec& k : kernels({DataType::f32, DataType::bf16})) {
        for (const InstructionSet isa : {InstructionSet::cuda_sm_80, InstructionSet::opencl}) {
            const Schedule s = default_gpu_schedule(k, gpu_model(isa));
            EXPECT_TRUE(is_legal(s, k)) << kernel_name(k) << " " << to_text(s);
            EXPECT_TRUE(is_legal(unaligned_schedule(s), k)) << kernel_name(k) << " " << to_text(unaligned_schedule(s));
            EXPECT_EQ(parse_schedule(to_text(s), Schedule()), s);
        }
    }
    const KernelSpec odd{Op::inference, View::planar, DataType::f32, Activation::relu, Residual::none, 4, 3, 49};
    Schedule s = default_gpu_schedule(odd, GpuModel());
    EXPECT_EQ(s.vector, 1);
    s.vector = 4;
    EXPECT_FALSE(is_legal(s, odd));
    s.vector = 1;
    s.threads = 2000;
    EXPECT_FALSE(is_legal(s, odd));
    // Two branches have half the threads for their statistics.
    KernelSpec k{Op::backward, View::interleaved, DataType::f32, Activation::relu, Residual::none, 802816, 256, 1};
    s = default_gpu_schedule(k, gpu_model(InstructionSet::cuda_sm_80));
    s.block = 128;
    EXPECT_TRUE(is_legal(s, k)) << to_text(s);
    k.residual = Residual::batch_norm;
    const std::string refused = codegen::refusal([&] { check_legal(s, k); });
    EXPECT_NE(refused.find("block: found 128"), std::string::npos) << refused;
    EXPECT_NE(refused.find("multiples of vector up to 64"), std::string::npos) << refused;
}

}  // namespace
