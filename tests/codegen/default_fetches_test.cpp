// What the default schedules fetch ahead, of which processors.
#include <gtest/gtest.h>

#include "codegen/generated.h"
#include "compiler/build.h"
#include "schedules/schedule.h"

using namespace fusebn;
using namespace codegen;

namespace {

constexpr std::int64_t any = any_extent;
constexpr const char* family_26 = "AuthenticAMD family 26 model 2";
constexpr const char* xeon = "GenuineIntel family 6 model 167";
constexpr const char* another_xeon = "GenuineIntel family 6 model 207";

// Slabs of 1.6 MB, and tensors that are stored through the cache: prefetched alone where what is too much is dropped.
TEST(DefaultSchedule, FetchesLessWhereEveryPrefetchIsCarriedOut) {
    EXPECT_TRUE(model_for("AuthenticAMD family 25 model 17", {}).drops_prefetches);
    EXPECT_TRUE(model_for("", {}).drops_prefetches);
    const CacheModel dropped, carried_out = model_for(xeon, {});
    EXPECT_FALSE(carried_out.drops_prefetches);
    for (const Op op : {Op::train_forward, Op::backward}) {
        for (const KernelSpec& k : {planar(op, 32, 64, 12544), planar(op, 32, 256, 196), planar(op, 32, 2048, 49),
                                    planar(op, 32, 4096, 49)}) {
            EXPECT_GT(default_schedule(k, dropped).prefetch, 0) << kernel_name(k);
            EXPECT_EQ(default_schedule(k, carried_out).prefetch, 0) << kernel_name(k);
        }
        for (const KernelSpec& k : {planar(op, 32, 512, 784), interleaved(op, 100352, 256)}) {
            EXPECT_GT(default_schedule(k, dropped).repeat, 1) << kernel_name(k);
            EXPECT_EQ(default_schedule(k, carried_out).prefetch, 1) << kernel_name(k);
            EXPECT_EQ(default_schedule(k, carried_out).repeat, 1) << kernel_name(k);
        }
    }
}

// N = 32, planar, by how many bytes a task's slabs and all tensors have.
TEST(DefaultSchedule, FetchesSamplesAheadWhereAProcessorGainsByIt) {
    const CacheModel others, its = model_for(family_26, {});
    const auto keys = [&](const KernelSpec& k) {
        const Schedule s = default_schedule(k, its);
        return "prefetch=" + std::to_string(s.prefetch) + " ahead=" + std::to_string(s.ahead);
    };
    const auto train = [](std::int64_t c, std::int64_t side, Residual residual = Residual::none) {
        KernelSpec k = planar(Op::train_forward, 32, c, side * side);
        k.residual = residual;
        return k;
    };
    // Training beyond three L3 caches; smaller tensors come fast enough.
    EXPECT_EQ(keys(train(256, 56)), "prefetch=1 ahead=1");
    EXPECT_EQ(keys(train(64, 112)), "prefetch=1 ahead=1");
    EXPECT_EQ(keys(train(512, 28, Residual::add)), "prefetch=1 ahead=1");
    EXPECT_EQ(keys(train(64, 56)), "prefetch=1 ahead=0");
    EXPECT_EQ(keys(train(256, 28, Residual::batch_norm)), "prefetch=1 ahead=0");
    // Alone, where two tasks' slabs, 0.8 MB each, do not fit the L2 cache together.
    EXPECT_EQ(keys(planar(Op::backward, 32, 64, 3136)), "prefetch=0 ahead=1");
    EXPECT_EQ(keys(train(64, 56, Residual::batch_norm)), "prefetch=0 ahead=1");
    EXPECT_EQ(keys(planar(Op::backward, 32, 256, 3136)), "prefetch=1 ahead=0") << "beyond five L3 caches";
    EXPECT_EQ(keys(planar(Op::backward, 32, 256, 784)), "prefetch=1 ahead=0") << "slabs of 0.2 MB";
    EXPECT_EQ(keys(planar(Op::backward, 4, 64, 25088)), "prefetch=1 ahead=0") << "few samples";
    EXPECT_EQ(keys(planar(Op::backward, 32, 32, 12544)), "prefetch=1 ahead=0") << "slabs of 3.2 MB";
    // With a second branch in short turns; not where rows are pieces of lines.
    KernelSpec branches = planar(Op::backward, 32, 256, 3136);
    branches.residual = Residual::batch_norm;
    EXPECT_EQ(keys(branches), "prefetch=1 ahead=1");
    EXPECT_EQ(default_schedule(branches, its).vector * default_schedule(branches, its).unroll, 8);
    EXPECT_EQ(default_schedule(branches, others).vector * default_schedule(branches, others).unroll, 64);
    branches.dtype = DataType::bf16;
    EXPECT_EQ(default_schedule(branches, its).vector * default_schedule(branches, its).unroll, 32);
    branches.dtype = DataType::f32;
    branches.channels = 1022;
    branches.inner = 196;
    EXPECT_EQ(keys(branches), "prefetch=2 ahead=0");
    for (const KernelSpec& k : {train(256, 56), planar(Op::backward, 32, 64, 3136)}) {
        EXPECT_EQ(default_schedule(k, others).ahead, 0) << kernel_name(k);
        EXPECT_EQ(default_schedule(k, others).prefetch, 1) << kernel_name(k);
    }
}

// The same on Xeons, beyond three L3 caches, of slabs of any size, which says whether the next task is fetched too.
TEST(DefaultSchedule, FetchesSamplesAheadOfAllThatIsReadFromMemory) {
    const auto keys = [](Op op, std::int64_t c, std::int64_t side, Residual residual = Residual::none) {
        KernelSpec k = planar(op, 32, c, side * side);
        k.residual = residual;
        const Schedule s = default_schedule(k, model_for(xeon, {}));
        return "prefetch=" + std::to_string(s.prefetch) + " ahead=" + std::to_string(s.ahead);
    };
    constexpr Op train = Op::train_forward, back = Op::backward;
    for (const Op op : {train, back}) {
        EXPECT_EQ(keys(op, 64, 112), "prefetch=0 ahead=1") << "slabs of 1.6 MB or more";
        EXPECT_EQ(keys(op, 512, 28), "prefetch=1 ahead=1") << "slabs of 0.1 or 0.2 MB";
    }
    EXPECT_EQ(keys(train, 256, 56), "prefetch=1 ahead=1");
    EXPECT_EQ(keys(train, 256, 56, Residual::batch_norm), "prefetch=1 ahead=1") << "slabs of 0.8 MB";
    EXPECT_EQ(keys(back, 256, 56), "prefetch=0 ahead=1") << "slabs of 0.8 MB";
    EXPECT_EQ(keys(back, 512, 28, Residual::batch_norm), "prefetch=1 ahead=1");
    EXPECT_EQ(keys(train, 64, 56), "prefetch=1 ahead=0") << "51 MB";
    EXPECT_EQ(keys(back, 64, 56), "prefetch=1 ahead=0") << "77 MB";
    EXPECT_EQ(default_schedule(planar(train, 4, 512, 12544), model_for(xeon, {})).ahead, 0) << "few samples";
}

TEST(DefaultSchedule, FetchesShortRowsWhereAProcessorGainsByIt) {
    const auto ahead = [](Op op, std::int64_t rows, std::int64_t channels, const char* processor = xeon) {
        return default_schedule(interleaved(op, rows, channels), model_for(processor, {})).ahead;
    };
    for (const Op op : {Op::train_forward, Op::backward}) {
        EXPECT_EQ(ahead(op, 401408, 64), 4);
        EXPECT_EQ(ahead(op, 401408, 64, family_26), 0);
        EXPECT_EQ(ahead(op, 401408, 32), 4);
        EXPECT_EQ(ahead(op, 401408, 128), 2);
        EXPECT_EQ(ahead(op, 1 << 20, 16), 0);
        EXPECT_EQ(ahead(op, 100352, 64), 0) << "51 or 77 MB";
    }
    EXPECT_EQ(ahead(Op::inference, 401408, 64), 0);
    EXPECT_EQ(ahead(Op::backward, 1 << 20, any), 0) << "channels that only run time knows";
}

TEST(DefaultSchedule, AsksAsOftenAsAProcessorWants) {
    const KernelSpec k = planar(Op::backward, 32, 256, 3136), near = planar(Op::backward, 32, 112, 784);
    EXPECT_EQ(default_schedule(k).repeat, 4);
    EXPECT_EQ(default_schedule(k, model_for(family_26, {})).repeat, 8);
    EXPECT_EQ(default_schedule(near, model_for(family_26, {})).repeat, 4) << "within 1.5 L3 caches";
}

TEST(DefaultSchedule, LeavesInterleavedTensorsToTheL3CacheWhereItIsFastEnough) {
    const auto prefetch = [](Op op, std::int64_t rows, const char* processor) {
        const std::int64_t channels = op == Op::train_forward ? 1024 : 512;  // in rows too long for steps
        return default_schedule(interleaved(op, rows, channels), model_for(processor, {})).prefetch;
    };
    EXPECT_EQ(prefetch(Op::train_forward, 6272, ""), 1);
    EXPECT_EQ(prefetch(Op::train_forward, 6272, family_26), 0) << "51 MB";
    EXPECT_EQ(prefetch(Op::train_forward, 6272, xeon), 0) << "51 MB";
    EXPECT_EQ(prefetch(Op::train_forward, 12544, family_26), 1) << "103 MB";
    EXPECT_EQ(prefetch(Op::backward, 6272, ""), 1);
    EXPECT_EQ(prefetch(Op::backward, 6272, family_26), 0) << "39 MB";
    EXPECT_EQ(prefetch(Op::backward, 6272, xeon), 0) << "39 MB";
    EXPECT_EQ(prefetch(Op::backward, 12544, family_26), 1) << "77 MB";
    // Vectors of two lines are for what is large, fetched or not.
    EXPECT_EQ(default_schedule(interleaved(Op::train_forward, 25088, 256), model_for(family_26, {})).vector, 32);
}

// As many as reach 12 KB of what is read twice, 16 of 16-bit types.
TEST(DefaultSchedule, FetchesStepsAheadWhereAProcessorGainsByIt) {
    const auto of = [](KernelSpec k, DataType dtype = DataType::f32, const char* processor = family_26) {
        k.dtype = dtype;
        const Schedule s = default_schedule(k, model_for(processor, {}));
        EXPECT_TRUE(s.steps == 0 || s.prefetch == 0) << to_text(s);
        return s.steps;
    };
    constexpr Op train = Op::train_forward, back = Op::backward;
    EXPECT_EQ(of(interleaved(train, 401408, 32)), 8);
    EXPECT_EQ(of(interleaved(train, 401408, 64)), 4);
    EXPECT_EQ(of(interleaved(train, 100352, 256)), 1);
    EXPECT_EQ(of(interleaved(train, 25088, 512)), 1);
    EXPECT_EQ(of(interleaved(train, 401408, 64), DataType::bf16), 8) << "of 16, which are refused";
    EXPECT_EQ(of(interleaved(back, 401408, 64)), 2);
    EXPECT_EQ(of(interleaved(back, 100352, 256)), 1);
    EXPECT_EQ(of(interleaved(back, 100352, 128), DataType::bf16), 4);
    // Tensors that the L3 cache holds, few channels, long steps, pieces of lines.
    EXPECT_EQ(of(interleaved(train, 25088, 192)), 0) << "39 MB";
    EXPECT_EQ(of(interleaved(train, 25088, 256)), 1) << "51 MB";
    EXPECT_EQ(of(interleaved(back, 6272, 256)), 0) << "19 MB";
    EXPECT_EQ(of(interleaved(back, 25088, 128)), 1) << "39 MB";
    EXPECT_EQ(of(interleaved(train, 401408, 16)), 0);
    EXPECT_EQ(of(interleaved(back, 401408, 32)), 0);
    EXPECT_EQ(of(interleaved(train, 25088, 1024)), 0);
    EXPECT_EQ(of(interleaved(back, 25088, 512)), 0);
    EXPECT_EQ(of(interleaved(train, 100352, 100)), 0);
    EXPECT_EQ(of(interleaved(train, 100352, any_extent)), 0);
    for (const char* processor : {"", "AuthenticAMD family 25 model 17"}) {
        EXPECT_EQ(of(interleaved(back, 401408, 64), DataType::f32, processor), 0) << processor;
    }
    // Short ones of backward alone.
    EXPECT_EQ(of(interleaved(back, 401408, 64), DataType::f32, xeon), 2);
    EXPECT_EQ(of(interleaved(back, 401408, 128), DataType::f32, xeon), 0);
    EXPECT_EQ(of(interleaved(back, 401408, 128), DataType::bf16, xeon), 4);
    EXPECT_EQ(of(interleaved(train, 401408, 64), DataType::f32, xeon), 0);
}

// Of up to a page: x's row, and in backward dy's too.
TEST(DefaultSchedule, FetchesLongRowsWhereAProcessorGainsByIt) {
    const auto prefetch = [](Op op, std::int64_t channels, const char* processor) {
        return default_schedule(interleaved(op, 25088, channels), model_for(processor, {})).prefetch;
    };
    for (const Op op : {Op::train_forward, Op::backward}) {
        const std::int64_t page = op == Op::backward ? 512 : 1024;
        for (const char* processor : {family_26, xeon}) {
            EXPECT_EQ(prefetch(op, page, processor), 1) << processor;
            EXPECT_EQ(prefetch(op, 2 * page, processor), 0) << processor;
        }
        for (const char* processor : {"", "AuthenticAMD family 25 model 17", "AuthenticAMD family 261"}) {
            EXPECT_EQ(prefetch(op, 2 * page, processor), 1) << processor;
        }
    }
}

TEST(DefaultSchedule, FetchesTheNextTaskIntoTheL2CacheBesideThisOne) {
    for (const Op op : {Op::train_forward, Op::backward}) {
        const std::int64_t read = op == Op::backward ? 2 : 1;
        for (const std::int64_t l2 : {std::int64_t{256} << 10, std::int64_t{1} << 20}) {
            const Schedule s = default_schedule(planar(op, 32, 256, 196), {32 << 10, l2, 32 << 20});
            const std::int64_t slab = read * 32 * 196 * 4;
            EXPECT_EQ(s.parallel, Schedule::Parallel::channels);
            EXPECT_EQ(s.prefetch, 1);
            EXPECT_LE(2 * s.task * slab, std::max(l2, 2 * slab));
            EXPECT_GT(4 * s.task * slab, std::min(l2, 16 * slab)) << "twice as many would do as well";
        }
        // From memory, where prefetches are dropped, into a cache that holds the slabs.
        EXPECT_GT(default_schedule(planar(op, 32, 512, 784)).repeat, 1);
        EXPECT_EQ(default_schedule(planar(op, 32, 64, 12544)).repeat, 1);
        EXPECT_EQ(default_schedule(planar(op, 32, 256, 196)).repeat, 1);
        // From the L3 cache it comes as fast as it is needed.
        for (const KernelSpec& k : {planar(op, 4, 64, 196), planar(op, 32, 128, 50), planar(op, 32, 512, 49)}) {
            EXPECT_EQ(default_schedule(k).prefetch, 0) << kernel_name(k);
        }
    }
}

}  // namespace
