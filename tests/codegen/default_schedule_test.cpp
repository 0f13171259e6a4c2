// The schedules of kernels that nobody tuned: legal, and what the model in schedules/default.cpp says.
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

// Shapes from one element to what an address space holds, with extents that only run time knows.
std::vector<KernelSpec> shapes() {
    std::vector<KernelSpec> all;
    const std::int64_t extents[] = {1,   2,    7,     15,    16,      17,      49,         64,
                                    784, 3136, 12544, 65536, 1 << 24, 1 << 27, max_extent, any};
    for (std::int64_t outer : {std::int64_t{1}, std::int64_t{2}, std::int64_t{32}, std::int64_t{100000}, any}) {
        for (std::int64_t channels : extents) {
            for (const Op op : {Op::inference, Op::train_forward, Op::backward}) {
                all.push_back(interleaved(op, outer, channels));
                all.push_back(interleaved(op, channels, outer));
                for (std::int64_t inner : extents) {
                    const auto size = [](std::int64_t e) { return static_cast<double>(e == any ? 1 : e); };
                    if (size(outer) * size(channels) * size(inner) > static_cast<double>(max_elements)) continue;
                    all.push_back(planar(op, outer, channels, inner));
                }
            }
        }
    }
    return all;
}

TEST(DefaultSchedule, IsLegalForEveryShapeAndCache) {
    const CacheModel caches[] = {{},
                                 {1, 1, 1},
                                 {1 << 10, 2 << 10, 4 << 10},
                                 {48 << 10, 2 << 20, 33 << 20},
                                 {32 << 10, 512 << 10, 256 << 20},
                                 model_for("GenuineIntel", {48 << 10, 1 << 20, 33 << 20}),
                                 model_for(another_xeon, {}),
                                 model_for(another_xeon, {48 << 10, 2 << 10, 4 << 10}),
                                 model_for(family_26, {}),
                                 model_for(family_26, {48 << 10, 2 << 10, 4 << 10}),
                                 {64 << 10, 64 << 20, std::int64_t{1} << 34}};
    int count = 0;
    for (const KernelSpec& shape : shapes()) {
        for (const KernelSpec& spec :
             {shape, with(shape, Residual::add), with(shape, Residual::batch_norm, DataType::bf16)}) {
            for (const CacheModel& c : caches) {
                ++count;
                const Schedule s = default_schedule(spec, c);
                ASSERT_EQ(refusal([&] { check_legal(s, spec); }), "") << "L3 " << c.l3;
                ASSERT_EQ(refusal([&] { ASSERT_EQ(parse_schedule(to_text(s), {}), s); }), "") << kernel_name(spec);
            }
        }
    }
    EXPECT_GT(count, 3000);
}

TEST(DefaultSchedule, StreamsOnlyWhatHardlyFitsTheCache) {
    const auto streams = [](const KernelSpec& spec, std::int64_t l3) {
        return default_schedule(spec, {32 << 10, 512 << 10, l3}).store == Schedule::Store::stream;
    };
    for (const Op op : {Op::inference, Op::train_forward}) {
        EXPECT_TRUE(streams(planar(op, 32, 64, 12544), 32 << 20));
        EXPECT_FALSE(streams(planar(op, 1, 64, 784), 32 << 20));
        EXPECT_TRUE(streams(planar(op, 1, 64, 784), 64 << 10));
        EXPECT_FALSE(streams(planar(op, 32, 2049, 49), 1 << 20)) << "a row is not whole 16-byte pieces";
        EXPECT_TRUE(streams(interleaved(op, 1 << 20, 64), 32 << 20));
    }
    // 24.5 MB of 32.
    EXPECT_FALSE(streams(planar(Op::inference, 32, 128, 784), 32 << 20));
    EXPECT_TRUE(streams(planar(Op::train_forward, 32, 128, 784), 32 << 20));
    EXPECT_FALSE(streams(interleaved(Op::train_forward, 32 * 784, 128), 32 << 20));
    // 21.4 MB and 18.4 MB.
    EXPECT_TRUE(streams(planar(Op::train_forward, 32, 112, 784), 32 << 20));
    EXPECT_FALSE(streams(planar(Op::train_forward, 32, 96, 784), 32 << 20));
    // 24.5 MB and 21.4 MB in rows of 16-byte pieces.
    EXPECT_TRUE(streams(planar(Op::train_forward, 32, 512, 196), 32 << 20));
    EXPECT_FALSE(streams(planar(Op::train_forward, 32, 448, 196), 32 << 20));
    EXPECT_FALSE(streams(planar(Op::inference, 32, 512, 196), 32 << 20));
}

// 21.4 and 24.5 MiB of lines, 27.6 and 30.6 of pieces.
TEST(DefaultSchedule, StreamsLaterWhereTheL3CacheIsFastEnough) {
    const auto streams = [](const KernelSpec& spec) {
        return default_schedule(spec, model_for(family_26, {})).store == Schedule::Store::stream;
    };
    const KernelSpec lines = planar(Op::train_forward, 32, 112, 784), pieces = planar(Op::backward, 32, 384, 196);
    for (const KernelSpec& k : {lines, pieces}) {
        EXPECT_EQ(default_schedule(k).store, Schedule::Store::stream) << kernel_name(k);
        EXPECT_FALSE(streams(k)) << kernel_name(k);
    }
    EXPECT_TRUE(streams(planar(Op::train_forward, 32, 128, 784)));
    EXPECT_TRUE(streams(planar(Op::train_forward, 32, 640, 196)));
}

// 12.2 MiB of x and y and 10.7, where rows are lines; 24.5 and 21.4 of pieces.
TEST(DefaultSchedule, StreamsSoonerWhereTheL3CacheIsSlowToWriteTo) {
    const auto streams = [](const KernelSpec& spec, const char* processor = another_xeon) {
        return default_schedule(spec, model_for(processor, {})).store == Schedule::Store::stream;
    };
    for (const Op op : {Op::inference, Op::train_forward}) {
        for (const KernelSpec& k : {planar(op, 32, 64, 784), interleaved(op, 6272, 256)}) {
            EXPECT_TRUE(streams(k)) << kernel_name(k);
            EXPECT_FALSE(streams(k, xeon)) << kernel_name(k);
        }
        for (const KernelSpec& k : {planar(op, 32, 56, 784), interleaved(op, 6272, 224)}) {
            EXPECT_FALSE(streams(k)) << kernel_name(k);
        }
    }
    EXPECT_TRUE(streams(planar(Op::inference, 32, 256, 196)));
    EXPECT_FALSE(streams(planar(Op::train_forward, 32, 448, 196)));
    EXPECT_TRUE(streams(planar(Op::train_forward, 32, 512, 196)));
    // 12.3 and 10.6 MiB of x, dy and dx; 18.4 of pieces.
    EXPECT_TRUE(streams(planar(Op::backward, 32, 43, 784)));
    EXPECT_FALSE(streams(planar(Op::backward, 32, 37, 784)));
    EXPECT_FALSE(streams(planar(Op::backward, 32, 256, 196)));
}

// In pieces of 16 bytes, though a mask is written by whole bytes: eight elements and what is left.
TEST(DefaultSchedule, StreamsRowsBesideAMaskThatAreNoWholeTurns) {
    for (const Op op : {Op::train_forward, Op::backward}) {
        const Schedule s = default_schedule(with(planar(op, 32, 1022, 196), Residual::add));
        EXPECT_EQ(s.store, Schedule::Store::stream);
        EXPECT_EQ(s.vector * s.unroll, 8);
    }
    const KernelSpec bf16 = with(planar(Op::train_forward, 32, 1024, 200), Residual::add);
    EXPECT_EQ(default_schedule(bf16).store, Schedule::Store::stream);
}

TEST(DefaultSchedule, TakesChannelsOneByOneWhereTwoResultsAreStreamedInPieces) {
    const auto schedule = [](Op op, Residual residual, std::int64_t inner) {
        return default_schedule(with(planar(op, 32, 1022, inner), residual));
    };
    EXPECT_EQ(schedule(Op::backward, Residual::batch_norm, 196).task, 1);
    EXPECT_EQ(schedule(Op::backward, Residual::batch_norm, 196).prefetch, 2);
    EXPECT_GT(schedule(Op::backward, Residual::none, 196).task, 1);
    EXPECT_GT(schedule(Op::train_forward, Residual::batch_norm, 196).task, 1);
}

TEST(DefaultSchedule, StreamsInTurnsOfAPowerOfTwo) {
    for (const Op op : {Op::inference, Op::train_forward, Op::backward}) {
        for (const KernelSpec& k : {planar(op, 32, 1024, 196), planar(op, 32, 512, 400), interleaved(op, 1 << 20, 100),
                                    interleaved(op, 1 << 20, 24), interleaved(op, 1 << 20, 144)}) {
            const Schedule s = default_schedule(k);
            const int turn = s.vector * s.unroll;
            EXPECT_EQ(s.store, Schedule::Store::stream) << kernel_name(k);
            EXPECT_EQ(turn & (turn - 1), 0) << kernel_name(k) << " " << to_text(s);
        }
    }
}

// Into whole lines, where two results share them or where nothing else would stream them.
TEST(DefaultSchedule, JoinsRowsThatAreNoWholeLines) {
    const auto schedule = [](const KernelSpec& spec) { return default_schedule(spec, model_for(another_xeon, {})); };
    for (const auto& [side, run] : {std::pair{49, 16}, {196, 4}, {100, 8}, {50, 16}}) {
        for (const Residual residual : {Residual::add, Residual::batch_norm}) {
            const KernelSpec two = with(planar(Op::backward, 32, 512, side), residual);
            const Schedule s = schedule(two);
            EXPECT_TRUE(s.join) << side;
            EXPECT_EQ(s.task, run) << side;
            EXPECT_EQ(stream_alignment(two, s), 64) << side;
            EXPECT_EQ(s.vector * s.unroll, 16) << side;
            EXPECT_FALSE(schedule(with(planar(Op::train_forward, 32, 512, side), residual)).join);
            EXPECT_FALSE(schedule(with(planar(Op::backward, 8, 512, side), residual)).join) << "few samples";
        }
        EXPECT_FALSE(schedule(planar(Op::backward, 32, 512, side)).join) << "one result";
    }
    const Schedule large = schedule(with(planar(Op::backward, 128, 512, 196), Residual::add));
    EXPECT_TRUE(large.join && large.store == Schedule::Store::stream) << to_text(large);
    EXPECT_EQ(large.prefetch, 1);
    EXPECT_EQ(large.ahead, 0);
    for (const KernelSpec& k :
         {planar(Op::backward, 32, 512, 784), planar(Op::backward, 32, 510, 49), planar(Op::backward, 32, 64, 49),
          planar(Op::backward, 32, 512, 169), planar(Op::backward, 1 << 12, 512, 196)}) {
        EXPECT_FALSE(schedule(with(k, Residual::add)).join)
            << kernel_name(k) << ": lines as it is, no run of lines, few tasks, too long, slabs that no cache holds";
    }
    const Schedule inference = schedule(planar(Op::inference, 32, 2048, 49));
    EXPECT_TRUE(inference.join && inference.store == Schedule::Store::stream) << to_text(inference);
    EXPECT_EQ(inference.parallel, Schedule::Parallel::channels);
    EXPECT_FALSE(schedule(planar(Op::inference, 32, 256, 49)).join) << "in the cache";
    EXPECT_FALSE(schedule(planar(Op::inference, 4, 16384, 49)).join) << "few samples";
}

TEST(DefaultSchedule, StreamsWhatComputesForLongInWholeVectorsAlone) {
    for (const Op op : {Op::train_forward, Op::backward}) {
        const Schedule s = default_schedule(planar(op, 32, 2048, 196, Activation::silu));
        EXPECT_EQ(s.store, Schedule::Store::cached) << to_text(s);
        EXPECT_EQ(s.vector, 16);
        const Schedule lines = default_schedule(planar(op, 32, 2048, 256, Activation::silu));
        EXPECT_EQ(lines.store, Schedule::Store::stream) << to_text(lines);
        EXPECT_EQ(default_schedule(planar(op, 32, 2048, 196, Activation::hardswish)).store, Schedule::Store::stream);
    }
    const Schedule s = default_schedule(planar(Op::inference, 32, 2048, 196, Activation::silu));
    EXPECT_TRUE(s.join && s.store == Schedule::Store::stream) << to_text(s);
}

TEST(DefaultSchedule, SharesChunksOutWhereTheyAreFewGroups) {
    for (const Op op : {Op::train_forward, Op::backward}) {
        const auto parallel = [&](std::int64_t rows, std::int64_t channels) {
            return default_schedule(interleaved(op, rows, channels)).parallel;
        };
        EXPECT_EQ(parallel(1024, 512), Schedule::Parallel::chunks);
        EXPECT_EQ(parallel(512, 64), Schedule::Parallel::chunks);
        EXPECT_EQ(parallel(1025, 512), op == Op::backward ? Schedule::Parallel::chunks : Schedule::Parallel::rows);
        EXPECT_EQ(parallel(2049, 512), Schedule::Parallel::rows);
        EXPECT_EQ(parallel(511, 512), Schedule::Parallel::rows) << "fewer than eight";
        EXPECT_EQ(parallel(512, 4), Schedule::Parallel::none);
        EXPECT_EQ(parallel(1024, 2048), Schedule::Parallel::chunks);
        EXPECT_EQ(parallel(1024, 2064), Schedule::Parallel::rows) << "wider than was measured";
        EXPECT_EQ(default_schedule(interleaved(op, 1024, 2048)).block, 0) << "rows as they lie in memory";
    }
    EXPECT_EQ(default_schedule(interleaved(Op::inference, 1024, 512)).parallel, Schedule::Parallel::rows);
}

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

// Where a core has 2 MB of L2 cache: those of planar backward whose slabs are larger, and their halves are not.
TEST(DefaultSchedule, SharesChannelsOutBySamplesWhereTheirHalvesFit) {
    const auto by_samples = [](const KernelSpec& k, std::string_view processor) {
        const Schedule s = default_schedule(k, model_for(processor, {}));
        EXPECT_TRUE(s.parallel != Schedule::Parallel::samples || (s.prefetch == 0 && s.ahead == 1 && s.task == 1));
        return s.parallel == Schedule::Parallel::samples;
    };
    constexpr std::string_view here = "GenuineIntel family 6 model 207";
    const KernelSpec k = planar(Op::backward, 32, 64, 112 * 112);  // slabs of 3.2 MB
    EXPECT_TRUE(by_samples(k, here));
    EXPECT_FALSE(by_samples(k, xeon));
    EXPECT_TRUE(by_samples(planar(Op::backward, 32, 64, 128 * 128), here)) << "4 MiB";
    EXPECT_FALSE(by_samples(planar(Op::backward, 32, 64, 129 * 128), here)) << "more";
    EXPECT_FALSE(by_samples(planar(Op::backward, 32, 64, 90 * 90), here)) << "2 MB, less than 2 MiB";
    EXPECT_TRUE(by_samples(planar(Op::backward, 32, 16, 112 * 112), here)) << "77 MB";
    EXPECT_FALSE(by_samples(planar(Op::backward, 32, 12, 112 * 112), here)) << "58 MB";
    EXPECT_FALSE(by_samples(planar(Op::train_forward, 64, 64, 112 * 112), here)) << "of 3.2 MB";
    EXPECT_FALSE(by_samples(with(k, Residual::add), here)) << "not measured";
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
