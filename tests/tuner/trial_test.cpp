// A batch of candidates: what is timed, and what becomes of those that compute something else or end the process.
#include "tuner/trial.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "compiler/files.h"
#include "compiler/job_pool.h"
#include "compiler/tuning_key.h"
#include "compiler/variant.h"
#include "measure/device.h"
#include "tuner/space.h"

using namespace fusebn;

namespace {

KernelSpec planar(Op op, Activation activation = Activation::relu) {
    return {op, View::planar, DataType::f32, activation, Residual::none, 4, 8, 256};
}

class Trials : public testing::Test {
protected:
    // Compiled in a process of its own, as the tuner does it: Halide keeps global state.
    CompiledVariant compiled(const KernelSpec& spec, const std::string& keys = "",
                             InstructionSet isa = InstructionSet::x86_64) {
        const ManifestKernel kernel{spec, needs_large(spec), {}};
        const Schedule base = is_device(isa) ? default_gpu_schedule(spec, gpu_model(isa)) : default_schedule(spec);
        CompiledVariant v;
        v.variant = {isa, spec_schedule(keys, spec, base), "tuned", "candidate", 0};
        v.object = directory_ / (std::to_string(++count_) + ".o");
        EXPECT_EQ(run_jobs({{"", [&] { write_file(v.object, compile(kernel, v.variant, std::nullopt)); }}}, 1,
                           [](int, const Job&) {}),
                  "");
        return v;
    }
    static CompiledVariant by_hand(const std::string& symbol, InstructionSet isa = InstructionSet::x86_64) {
        CompiledVariant v;
        v.variant.isa = isa;
        v.variant.schedule.vector = 1;  // one entry
        v.variant.symbol = symbol;
        v.object = CRASH_OBJECT;
        return v;
    }
    static Batch batch(const KernelSpec& spec, std::vector<CompiledVariant> candidates) {
        Batch b;
        b.kernel = {spec, needs_large(spec), {}};
        b.candidates = std::move(candidates);
        b.threads = 2;
        return b;
    }

private:
    TemporaryFolder directory_;
    int count_ = 0;
};

TEST_F(Trials, TimesWhatIsRight) {
    const KernelSpec k = planar(Op::train_forward);
    const BatchResult r = run_batch(batch(k, {compiled(k), compiled(k, "vector=8"), compiled(k, "unroll=1")}));
    EXPECT_EQ(r.complaint, "");
    ASSERT_EQ(r.trials.size(), 3u);
    for (const Trial& t : r.trials) {
        EXPECT_EQ(t.failure, "");
        EXPECT_TRUE(t.finalist);
        EXPECT_GT(t.ms, 0);
        EXPECT_LE(t.ratio_low, t.ratio);
        EXPECT_LE(t.ratio, t.ratio_high);
        EXPECT_GT(t.of_copy, 0);
    }
    EXPECT_EQ(r.trials[0].ratio, 1);
}

TEST_F(Trials, BackwardIsGivenWhatItsForwardKept) {
    const KernelSpec k = planar(Op::backward);
    Batch b = batch(k, {compiled(k), compiled(k, "vector=8")});
    b.forward = compiled(planar(Op::train_forward));
    const BatchResult r = run_batch(b);
    EXPECT_EQ(r.complaint, "");
    EXPECT_EQ(r.trials[1].failure, "");
}

TEST_F(Trials, ACandidateWithOtherBitsIsNotTimed) {
    const KernelSpec k = planar(Op::inference);
    const BatchResult r = run_batch(batch(k, {compiled(k), compiled(planar(Op::inference, Activation::relu6)),
                                              by_hand("does_nothing"), compiled(k, "unroll=1")}));
    EXPECT_EQ(r.complaint, "");
    EXPECT_EQ(r.trials[1].failure, "wrong: its bits are not the default's");
    EXPECT_EQ(r.trials[2].failure, "wrong: its bits are not the default's");
    EXPECT_FALSE(r.trials[1].finalist);
    EXPECT_TRUE(r.trials[3].finalist);
}

TEST_F(Trials, ACandidateThatCrashesCostsItselfAlone) {
    const KernelSpec k = planar(Op::inference);
    const BatchResult r =
        run_batch(batch(k, {compiled(k), by_hand("crashes"), compiled(k, "unroll=1"), by_hand("crashes")}));
    EXPECT_EQ(r.complaint, "");
    EXPECT_EQ(r.trials[1].failure, "killed by Illegal instruction");
    EXPECT_EQ(r.trials[3].failure, "killed by Illegal instruction");
    EXPECT_EQ(r.trials[2].failure, "");
    EXPECT_TRUE(r.trials[2].finalist);
}

TEST_F(Trials, AWrongDefaultIsFoundByTheOracle) {
    const KernelSpec k = planar(Op::inference);
    const BatchResult r = run_batch(batch(k, {compiled(planar(Op::inference, Activation::relu6)), compiled(k)}));
    EXPECT_NE(r.complaint.find("y of channel"), std::string::npos) << r.complaint;
    EXPECT_EQ(run_batch(batch(k, {by_hand("crashes"), compiled(k)})).complaint,
              "the default schedule: killed by Illegal instruction");
}

TEST_F(Trials, TheDefaultsBitsAreRememberedFromBatchToBatch) {
    const KernelSpec k = planar(Op::inference);
    Batch b = batch(k, {compiled(k)});
    const std::uint64_t digest = run_batch(b).digest;
    b.expected = digest;
    EXPECT_EQ(run_batch(b).complaint, "");
    b.expected = digest + 1;
    EXPECT_NE(run_batch(b).complaint, "");
}

TEST_F(Trials, AnObjectThatIsNoneIsSaid) {
    const KernelSpec k = planar(Op::inference);
    CompiledVariant missing = compiled(k);
    missing.object += ".gone";
    EXPECT_NE(run_batch(batch(k, {missing})).complaint.find("cannot be read"), std::string::npos);
    CompiledVariant garbage = compiled(k);
    write_file(garbage.object, "no object");
    EXPECT_NE(run_batch(batch(k, {garbage})).complaint, "");
}

// On an OpenCL device (PoCL makes one of any CPU).
class DeviceTrials : public Trials {
protected:
    void SetUp() override {
        // Not asked in this process: a driver does not outlive the forks of its trials.
        if (const TargetHere here = target_here(opencl); !here.key) GTEST_SKIP() << here.missing;
    }
    Batch on_device(const KernelSpec& spec, std::vector<CompiledVariant> candidates) {
        Batch b = batch(spec, std::move(candidates));
        b.device = Device::opencl();
        b.expected = digest_of_cpu(spec);
        return b;
    }
    std::uint64_t digest_of_cpu(const KernelSpec& spec) {
        Batch b = batch(spec, {compiled(spec)});
        if (spec.op == Op::backward) b.forward = compiled(forward_of(spec));
        const BatchResult r = run_batch(b);
        EXPECT_EQ(r.complaint, "");
        return r.digest;
    }
    static KernelSpec forward_of(KernelSpec spec) {
        spec.op = Op::train_forward;
        return spec;
    }
    static constexpr InstructionSet opencl = InstructionSet::opencl;
};

TEST_F(DeviceTrials, TheCopyBesideThemCopies) {
    const Job copying{"copying", [] {
                          std::vector<std::uint32_t> numbers(100'003), copied(numbers.size());
                          std::iota(numbers.begin(), numbers.end(), 1u);
                          const std::size_t bytes = 4 * numbers.size();
                          DeviceMemory from(Device::opencl(), bytes), to(Device::opencl(), bytes);
                          const auto require = [](const Status& s) {
                              if (!s.ok()) throw std::runtime_error(s.message());
                          };
                          require(from.upload(numbers.data(), bytes));
                          require(to.upload(copied.data(), bytes));
                          require(measure::DeviceCopy(Device::opencl(), from, to).status());
                          require(to.download(copied.data(), bytes));
                          std::fill(numbers.end() - 3, numbers.end(), 0u);  // no whole 16 bytes
                          if (copied != numbers) throw std::runtime_error("other numbers");
                      }};
    EXPECT_EQ(run_jobs({copying}, 1, [](int, const Job&) {}), "");
}

TEST_F(DeviceTrials, GiveTheBitsOfTheCpuAndAreTimed) {
    const KernelSpec k = planar(Op::train_forward);
    const BatchResult r = run_batch(on_device(k, {compiled(k, "", opencl), compiled(k, "threads=64", opencl)}));
    EXPECT_EQ(r.complaint, "");
    ASSERT_EQ(r.trials.size(), 2u);
    for (const Trial& t : r.trials) {
        EXPECT_EQ(t.failure, "");
        EXPECT_TRUE(t.finalist);
        EXPECT_GT(t.ms, 0);
        EXPECT_GT(t.of_copy, 0);
    }
}

TEST_F(DeviceTrials, BackwardHasTheMaskThatItsForwardKept) {
    KernelSpec k = planar(Op::backward);
    k.residual = Residual::add;
    Batch b = on_device(k, {compiled(k, "", opencl), compiled(k, "unroll=2", opencl)});
    b.forward = compiled(forward_of(k), "", opencl);
    const BatchResult r = run_batch(b);
    EXPECT_EQ(r.complaint, "");
    EXPECT_EQ(r.trials[1].failure, "");
}

TEST_F(DeviceTrials, ACandidateThatIsWrongOrEndsTheContextCostsItselfAlone) {
    const KernelSpec k = planar(Op::inference);
    const KernelSpec other = planar(Op::inference, Activation::relu6);
    const BatchResult r =
        run_batch(on_device(k, {compiled(k, "", opencl), compiled(other, "", opencl), by_hand("fails_for_good", opencl),
                                by_hand("does_nothing_while_it_can", opencl), compiled(k, "unroll=2", opencl)}));
    EXPECT_EQ(r.complaint, "");
    EXPECT_EQ(r.trials[1].failure, "wrong: its bits are not the default's");
    EXPECT_NE(r.trials[2].failure.find("stopped with code 7"), std::string::npos) << r.trials[2].failure;
    EXPECT_EQ(r.trials[3].failure, "wrong: its bits are not the default's");
    EXPECT_EQ(r.trials[4].failure, "");
    EXPECT_TRUE(r.trials[4].finalist);
}

TEST_F(DeviceTrials, ADefaultWithoutTheBitsOfTheCpuIsNotTuned) {
    const KernelSpec k = planar(Op::inference);
    const KernelSpec other = planar(Op::inference, Activation::relu6);
    EXPECT_EQ(run_batch(on_device(k, {compiled(other, "", opencl)})).complaint,
              "the default schedule: its bits are not the CPU's");
    const std::string complaint = run_batch(on_device(k, {by_hand("fails_for_good", opencl)})).complaint;
    EXPECT_EQ(complaint.find("the default schedule: opencl:0"), 0u) << complaint;
}

}  // namespace
