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

}  // namespace
