// The schedules of GPUs that the tuner tries: legal in both entries, in what a block has, and compilable; and what the
// model says of them.
#include "tuner/gpu_space.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "compiler/job_pool.h"
#include "compiler/variant.h"

using namespace fusebn;

namespace {

constexpr InstructionSet targets[] = {InstructionSet::cuda_sm_90, InstructionSet::opencl};

KernelSpec planar(Op op) { return {op, View::planar, DataType::f32, Activation::relu, Residual::none, 32, 256, 196}; }

std::vector<KernelSpec> kernels() {
    std::vector<KernelSpec> all;
    for (Op op : {Op::inference, Op::train_forward, Op::backward}) {
        all.push_back(planar(op));
        all.push_back({op, View::planar, DataType::bf16, Activation::relu, Residual::add, 256, 64, 3136});
        all.push_back({op, View::planar, DataType::f32, Activation::silu, Residual::batch_norm, 1, 3, 49});
        all.push_back({op, View::interleaved, DataType::bf16, Activation::relu, Residual::add, 25088, 256, 1});
        all.push_back({op, View::interleaved, DataType::f32, Activation::none, Residual::none, 3137, 100, 1});
        all.push_back({op, View::interleaved, DataType::f32, Activation::hardswish, Residual::batch_norm, 2, 1, 1});
    }
    return all;
}

std::vector<Schedule> space_of(const KernelSpec& k, InstructionSet isa) {
    return gpu_schedule_space(k, default_gpu_schedule(k, gpu_model(isa)), gpu_model(isa));
}

TEST(GpuSpace, HasTheDefaultFirstAndLegalSchedulesAlone) {
    for (const InstructionSet isa : targets) {
        for (const KernelSpec& k : kernels()) {
            std::set<std::string> seen;
            const std::vector<Schedule> space = space_of(k, isa);
            for (const Schedule& s : space) {
                SCOPED_TRACE(kernel_name(k) + " " + to_text(s));
                EXPECT_TRUE(is_legal(s, k));
                EXPECT_TRUE(s.vector == 1 || is_legal(unaligned_schedule(s), k));
                EXPECT_TRUE(seen.insert(to_text(s)).second) << "twice";
                if (s.parallel == Schedule::Parallel::channels) {
                    EXPECT_LE(staged_bytes(k) * std::max(1, s.block), gpu_model(isa).shared_bytes);
                }
            }
            EXPECT_TRUE(space.front() == default_gpu_schedule(k, gpu_model(isa)));
            EXPECT_GT(space.size(), 10u);
        }
    }
}

TEST(GpuSpace, HasBothShapesOfACallWhereSlabsFit) {
    std::set<Schedule::Parallel> shapes;
    for (const Schedule& s : space_of(planar(Op::train_forward), InstructionSet::cuda_sm_90)) shapes.insert(s.parallel);
    EXPECT_EQ(shapes.size(), 2u);
}

// Of every space some, as far from each other as can be.
TEST(GpuSpace, CanBeCompiled) {
    std::vector<std::pair<KernelSpec, Schedule>> some;
    std::vector<Job> jobs;
    for (const KernelSpec& k : kernels()) {
        const std::vector<Schedule> space = space_of(k, InstructionSet::opencl);
        for (const std::size_t i : {space.size() / 2, space.size() - 1}) some.emplace_back(k, space[i]);
    }
    for (const auto& [kernel, schedule] : some) {
        jobs.push_back({"", [&kernel = kernel, &schedule = schedule] {
                            const ManifestKernel k{kernel, needs_large(kernel), {}};
                            compile(k, {InstructionSet::opencl, schedule, "tuned", "candidate", 0}, std::nullopt);
                        }});
    }
    const std::vector<std::string> failures = run_all_jobs(jobs, 2);
    for (std::size_t i = 0; i < jobs.size(); ++i) {
        EXPECT_EQ(failures[i], "") << kernel_name(some[i].first) << " " << to_text(some[i].second);
    }
}

TEST(GpuSpace, TheModelKnowsWhatMustMoveAndWhatIsOnItsWay) {
    const auto cost = [](const KernelSpec& k, const std::string& keys) {
        const GpuModel gpu = gpu_model(InstructionSet::cuda_sm_90);
        return predicted_gpu_cost(k, spec_schedule(keys, k, default_gpu_schedule(k, gpu)), gpu);
    };
    // 103 MB, of which a launch is nothing.
    const KernelSpec slabs{Op::train_forward, View::planar, DataType::f32, Activation::none,
                           Residual::none,    256,          512,           196};
    EXPECT_LT(1.3 * cost(slabs, "parallel=channels"), cost(slabs, "parallel=rows task=64"));  // x is read once
    const KernelSpec small{
        Op::train_forward, View::planar, DataType::f32, Activation::none, Residual::none, 2, 256, 196};
    EXPECT_LT(2 * cost(small, "parallel=channels"), cost(small, "parallel=rows"));  // one launch
    const KernelSpec large{Op::inference, View::planar, DataType::f32, Activation::none, Residual::none, 256, 64, 3136};
    EXPECT_LT(cost(large, "vector=4"), cost(large, "vector=1 unroll=16"));
    EXPECT_LT(cost(large, "unroll=4"), cost(large, "unroll=1 threads=32"));  // too little on its way
    EXPECT_LT(cost(large, "task=4"), cost(large, "task=256"));               // 64 blocks for 132 multiprocessors
}

}  // namespace
