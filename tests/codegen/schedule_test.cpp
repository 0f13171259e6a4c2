// Schedules as data: their text and their legal space.

#include "schedules/schedule.h"

#include <gtest/gtest.h>

#include "codegen/generated.h"

using namespace fusebn;
using namespace codegen;

namespace {

constexpr std::int64_t any = any_extent;

TEST(ScheduleText, ReadsBackAsItWasWritten) {
    int count = 0;
    for (int vector : {4, 8, 16, 32}) {
        for (auto parallel : {Schedule::Parallel::none, Schedule::Parallel::channels, Schedule::Parallel::rows,
                              Schedule::Parallel::chunks, Schedule::Parallel::samples}) {
            for (auto store : {Schedule::Store::cached, Schedule::Store::stream}) {
                Schedule s;
                s.vector = vector;
                s.unroll = 1 + count % 16;
                s.parallel = parallel;
                s.task = 1 + count * 1000;
                s.join = count % 2 == 1;
                s.block = 16 * count;
                s.prefetch = count % 9;
                s.steps = count % 3;
                s.ahead = count % 65;
                s.repeat = 1 + count % 3;
                s.store = store;
                EXPECT_EQ(parse_schedule(to_text(s), {}), s) << to_text(s);
                ++count;
            }
        }
    }
}

TEST(ScheduleText, KeepsWhatItDoesNotName) {
    const Schedule base = parse_schedule("vector=8 unroll=3 parallel=rows task=5 store=stream", {});
    Schedule changed = base;
    changed.task = 7;
    EXPECT_EQ(parse_schedule("task=7", base), changed);
    EXPECT_NE(to_text(changed), to_text(base));
    EXPECT_EQ(parse_schedule("", base), base);
    EXPECT_EQ(parse_schedule(" \t\n", base), base);
}

TEST(SpecSchedule, TurnsOffWhatTheDefaultHasAndTheTextDoesNotGoWith) {
    const KernelSpec spec = planar(Op::train_forward, any, 64, 3136);
    const Schedule fallback = parse_schedule("parallel=channels unroll=4 prefetch=1 store=stream", {});
    const Schedule s = spec_schedule("parallel=rows", spec, fallback);
    EXPECT_EQ(s.prefetch, 0);
    EXPECT_EQ(s.store, Schedule::Store::stream);
    EXPECT_EQ(spec_schedule("", spec, fallback), fallback);
    const KernelSpec rows = interleaved(Op::backward, any, 64);
    const Schedule steps = parse_schedule("parallel=rows steps=2 ahead=2", {});
    EXPECT_EQ(spec_schedule("prefetch=1", rows, steps), parse_schedule("parallel=rows prefetch=1 ahead=2", {}));
    const Schedule chunks = parse_schedule("parallel=rows prefetch=1 ahead=2 repeat=4", {});
    EXPECT_EQ(spec_schedule("steps=1", rows, chunks), parse_schedule("parallel=rows steps=1 ahead=2 repeat=4", {}));
    // One key, where that is enough.
    const KernelSpec halves = with(interleaved(Op::backward, any, 64), Residual::none, DataType::bf16);
    const Schedule streamed = parse_schedule("parallel=rows unroll=4 steps=2 store=stream", {});
    EXPECT_EQ(spec_schedule("unroll=3", halves, streamed), parse_schedule("unroll=3 store=cached", streamed));
    // What the text itself asks for is refused, with the kernel's name.
    const std::string said = refusal([&] { spec_schedule("parallel=rows prefetch=1", spec, fallback); });
    EXPECT_NE(said.find("schedule.prefetch: found 1 for " + kernel_name(spec)), std::string::npos) << said;
    const std::string wrong = refusal([&] { spec_schedule("vector=seven", spec, fallback); });
    EXPECT_EQ(wrong.find(kernel_name(spec) + ": schedule.vector"), 0u) << wrong;
}

TEST(ScheduleText, AnswersEveryMistakeWithWhatIsAllowed) {
    const auto message = [](const std::string& text) { return refusal([&] { parse_schedule(text, {}); }); };
    const std::string keys =
        "; allowed: vector=, unroll=, parallel=, task=, block=, prefetch=, steps=, ahead=, repeat=, join=, store=, "
        "threads=";
    EXPECT_EQ(message("tile=4"), "schedule: found \"tile=4\"" + keys);
    EXPECT_EQ(message("vector"), "schedule.vector: found \"\"; allowed: a number from 1 to 1048576");
    EXPECT_EQ(message("=4"), "schedule: found \"=4\"" + keys);
    EXPECT_EQ(message("Vector=4"), "schedule: found \"Vector=4\"" + keys);
    for (const char* key : {"vector", "unroll", "task", "repeat"}) {
        const std::string most = key == std::string("task") ? "65536" : "1048576";
        for (const char* value : {"", "0", "-1", "1048577", "99999999999999999999", "4x", "x", "1.5", "+4", "=4"}) {
            EXPECT_EQ(message(std::string(key) + "=" + value), std::string("schedule.") + key + ": found \"" + value +
                                                                   "\"; allowed: a number from 1 to " + most);
        }
    }
    EXPECT_EQ(message("join=2"), "schedule.join: found \"2\"; allowed: a number from 0 to 1");
    for (const char* key : {"block", "prefetch", "ahead"}) {
        EXPECT_EQ(message(std::string(key) + "=0"), "");
        EXPECT_EQ(message(std::string(key) + "=-1"),
                  std::string("schedule.") + key + ": found \"-1\"; allowed: a number from 0 to 1048576");
    }
    EXPECT_EQ(message("parallel=all"),
              "schedule.parallel: found \"all\"; allowed: none, channels, rows, chunks, samples");
    EXPECT_EQ(message("store="), "schedule.store: found \"\"; allowed: cached, stream");
    EXPECT_EQ(message("vector=8,unroll=2"),
              "schedule.vector: found \"8,unroll=2\"; allowed: a number from 1 to 1048576");
}

TEST(ScheduleText, IsNotReadBeyondItsFirstMistake) {
    EXPECT_EQ(refusal([] { parse_schedule("vector=8 task=0 store=none", {}); }),
              "schedule.task: found \"0\"; allowed: a number from 1 to 65536");
}

struct Refusal {
    KernelSpec spec;
    const char* schedule;
    const char* key;
    const char* why;
};

TEST(LegalSpace, RefusesWithKeyKernelAndReason) {
    const KernelSpec inference = planar(Op::inference, 4, 16, 256), train = planar(Op::train_forward, 4, 16, 256);
    const KernelSpec rows_inference = interleaved(Op::inference, 64, 32);
    const KernelSpec rows_train = interleaved(Op::train_forward, 64, 32);
    const Refusal table[] = {
        {inference, "vector=1", "vector: found 1", "allowed: 4, 8, 16, 32"},
        {inference, "vector=12", "vector: found 12", "allowed: 4, 8, 16, 32"},
        {inference, "vector=64", "vector: found 64", "allowed: 4, 8, 16, 32"},
        {inference, "unroll=17", "unroll: found 17", "allowed: 1 to 16"},
        {inference, "parallel=channels", "parallel: found channels",
         "only planar train_forward and backward, and inference with join=1, work channel by channel; allowed: none, "
         "rows"},
        {rows_train, "parallel=channels", "parallel: found channels",
         "only planar train_forward and backward, and inference with join=1, work channel by channel; allowed: none, "
         "rows, chunks"},
        {train, "parallel=chunks", "parallel: found chunks",
         "only interleaved train_forward and backward share chunks out; allowed: none, rows, channels, samples"},
        {inference, "parallel=samples", "parallel: found samples",
         "only planar train_forward and backward share samples out; allowed: none, rows"},
        {rows_train, "parallel=samples", "parallel: found samples",
         "only planar train_forward and backward share samples out; allowed: none, rows, chunks"},
        {planar(Op::train_forward, any, 16, 256), "parallel=samples", "parallel: found samples",
         "all chunks of a channel are kept, so N and S must be fixed; allowed: none, rows, channels"},
        {planar(Op::backward, 4, 16, any), "parallel=samples", "parallel: found samples",
         "all chunks of a channel are kept, so N and S must be fixed; allowed: none, rows, channels"},
        {planar(Op::backward, 129, 16, 16384), "parallel=samples", "parallel: found samples",
         "a channel has 1032 chunks, of which 1024 are kept at most; allowed: none, rows, channels"},
        {planar(Op::backward, 32, 16, 16384), "parallel=samples task=5", "task: found 5",
         "by samples all chunks of a task are kept, 256 a channel; allowed: 1 to 4"},
        {train, "vector=4 parallel=samples threads=64", "parallel: found samples", "allowed on a GPU: channels, rows"},
        {rows_inference, "parallel=chunks", "parallel: found chunks",
         "only interleaved train_forward and backward share chunks out; allowed: none, rows"},
        {rows_train, "parallel=chunks prefetch=1", "prefetch: found 1",
         "only train_forward and backward fetch ahead, planar by channels and interleaved not by chunks; allowed: 0"},
        {rows_train, "vector=4 parallel=chunks threads=64 block=16", "parallel: found chunks",
         "allowed on a GPU: channels, rows"},
        {train, "block=16", "block: found 16",
         "only interleaved train_forward and backward have channel blocks; allowed: 0"},
        {rows_inference, "block=16", "block: found 16",
         "only interleaved train_forward and backward have channel blocks; allowed: 0"},
        {rows_train, "block=24", "block: found 24", "allowed: 0 or a multiple of 16"},
        {planar(Op::train_forward, 4, 18, 49), "vector=1 parallel=channels threads=256 block=4", "block: found 4",
         "allowed in the planar view: 0, 1, and divisors of the number of channels up to 64"},
        {planar(Op::train_forward, 4, any, 49), "vector=1 parallel=rows threads=256 block=2", "block: found 2",
         "allowed in the planar view: 0, 1, and divisors of the number of channels up to 64"},
        {train, "parallel=channels prefetch=9", "prefetch: found 9", "allowed: 0 to 8"},
        {planar(Op::train_forward, 4, 16, any), "prefetch=1", "prefetch: found 1",
         "the distance is only known for rows of a fixed size; allowed: 0"},
        {planar(Op::train_forward, 1, 1, (1 << 26) + 1), "prefetch=1", "prefetch: found 1",
         "the distance is only known for rows of a fixed size; allowed: 0"},
        {train, "parallel=rows prefetch=1", "prefetch: found 1",
         "only train_forward and backward fetch ahead, planar by channels and interleaved not by chunks; allowed: 0"},
        // Residuals and types.
        {with(train, Residual::add), "vector=4", "vector: found 4",
         "a mask is written in whole bytes; allowed: 8, 16, 32"},
        {with(train, Residual::add), "vector=8 unroll=3", "unroll: found 3",
         "with a mask vector * unroll is 8, 16, 32 or 64"},
        {with(train, Residual::add), "vector=32 unroll=4", "unroll: found 4",
         "with a mask vector * unroll is 8, 16, 32 or 64"},
        {planar(Op::backward, 4, 16, 256), "block=16", "block: found 16",
         "only interleaved train_forward and backward have channel blocks; allowed: 0"},
        {with(planar(Op::backward, 4, 16, 52), Residual::none, DataType::bf16), "store=stream", "store: found stream",
         "a row must be whole 16-byte pieces; allowed: cached"},
        {inference, "prefetch=1", "prefetch: found 1",
         "only train_forward and backward fetch ahead, planar by channels and interleaved not by chunks; allowed: 0"},
        {rows_inference, "prefetch=1", "prefetch: found 1",
         "only train_forward and backward fetch ahead, planar by channels and interleaved not by chunks; allowed: 0"},
        {interleaved(Op::train_forward, 64, any), "prefetch=1", "prefetch: found 1",
         "the distance is only known for rows of a fixed size; allowed: 0"},
        {interleaved(Op::train_forward, 64, (1 << 26) + 1), "prefetch=1", "prefetch: found 1",
         "the distance is only known for rows of a fixed size; allowed: 0"},
        {interleaved(Op::train_forward, 64, 32), "steps=9", "steps: found 9", "allowed: 0 to 8"},
        {planar(Op::train_forward, 4, 16, 256), "steps=1", "steps: found 1",
         "only interleaved train_forward and backward sum in steps of rows; allowed: 0"},
        {rows_inference, "steps=1", "steps: found 1",
         "only interleaved train_forward and backward sum in steps of rows; allowed: 0"},
        {interleaved(Op::backward, 64, 32), "prefetch=1 steps=2", "steps: found 2",
         "prefetch fetches the same for the same sums; allowed beside it: 0"},
        {inference, "ahead=65", "ahead: found 65", "allowed: 0 to 64"},
        {inference, "ahead=2 repeat=3", "repeat: found 3", "allowed: 1, 2, 4, 8"},
        {inference, "repeat=2", "repeat: found 2",
         "only what prefetch or ahead fetches is asked for again; allowed without: 1"},
        {planar(Op::train_forward, 4, any, 256), "parallel=channels ahead=1", "ahead: found 1",
         "how far a sample is ahead is only known for samples of a fixed size; allowed: 0"},
        {planar(Op::backward, 4, 16, any), "parallel=none ahead=1", "ahead: found 1",
         "how far a sample is ahead is only known for samples of a fixed size; allowed: 0"},
        {planar(Op::backward, 1, 1, (1 << 26) + 1), "parallel=channels ahead=1", "ahead: found 1",
         "how far a sample is ahead is only known for samples of a fixed size; allowed: 0"},
        {rows_train, "join=1 task=2", "join: found 1", "only rows of the planar view are joined; allowed: 0"},
        {train, "join=1 parallel=rows task=2", "join: found 1",
         "only a task that is a run of channels has rows to join (parallel=channels, none); allowed: 0"},
        {train, "join=1 parallel=samples task=2", "join: found 1",
         "only a task that is a run of channels has rows to join (parallel=channels, none); allowed: 0"},
        {planar(Op::train_forward, any, 16, 49), "join=1 task=16", "join: found 1",
         "N, C and S must be fixed, and their product below 2^31; allowed: 0"},
        {planar(Op::inference, 1 << 20, 64, 32), "join=1 task=2", "join: found 1",
         "N, C and S must be fixed, and their product below 2^31; allowed: 0"},
        {with(planar(Op::train_forward, 4, 16, 49), Residual::add), "join=1 task=16", "join: found 1",
         "each row's mask begins with a byte of its own; allowed: 0"},
        {with(planar(Op::backward, 4, 16, 7), Residual::add), "join=1 task=16", "join: found 1",
         "a row of a mask has less than a byte; allowed: 0"},
        {planar(Op::backward, 4, 16, 49), "join=1 task=1", "join: found 1",
         "task=1 is not several channels, or they do not divide the 16; allowed: 0"},
        {planar(Op::backward, 4, 16, 49), "join=1 task=3", "join: found 1",
         "task=3 is not several channels, or they do not divide the 16; allowed: 0"},
        {planar(Op::backward, 4, 16, 49), "join=1 task=16 unroll=2", "join: found 1",
         "a row of 784 elements is no whole turns of vector * unroll; allowed: 0"},
        {planar(Op::backward, 4, 16, 196), "join=1 task=8", "join: found 1",
         "a row would have 1568 elements, more than 1024; allowed: 0"},
        {planar(Op::inference, 4, 16, 49), "vector=4 threads=64 parallel=rows join=1", "vector: found 4",
         "a row must be whole vectors"},
        {planar(Op::inference, 4, 16, 48), "vector=4 threads=64 parallel=rows join=1", "threads: found 64",
         "a GPU's schedule has prefetch=0, steps=0, ahead=0, repeat=1, join=0 and store=cached"},
        {with(planar(Op::inference, 4, 16, 50), Residual::none, DataType::bf16),
         "vector=4 parallel=channels task=2 join=1 store=stream", "store: found stream",
         "a row must be whole 16-byte pieces; allowed: cached"},
        {planar(Op::inference, 4, 16, 49), "store=stream", "store: found stream",
         "a row must be whole 16-byte pieces; allowed: cached"},
        {planar(Op::inference, 4, 16, any), "store=stream", "store: found stream",
         "a row must be whole 16-byte pieces; allowed: cached"},
        {interleaved(Op::inference, 64, 22), "store=stream", "store: found stream",
         "a row must be whole 16-byte pieces; allowed: cached"},
        {with(planar(Op::inference, 4, 16, 48), Residual::none, DataType::bf16), "vector=16 unroll=2 store=stream",
         "unroll: found 2", "with store=stream a row of 16-bit elements must be whole turns of vector * unroll"},
        {with(rows_inference, Residual::none, DataType::f16), "vector=16 unroll=4 store=stream", "unroll: found 4",
         "with store=stream a row of 16-bit elements must be whole turns of vector * unroll"},
    };
    for (const Refusal& r : table) {
        EXPECT_EQ(refusal([&] { check_legal(parse_schedule(r.schedule, {}), r.spec); }),
                  std::string("schedule.") + r.key + " for " + kernel_name(r.spec) + "; " + r.why);
    }
}

TEST(LegalSpace, TakesWhatTheRefusalsAllow) {
    const auto legal = [](const KernelSpec& spec, const char* schedule) {
        return refusal([&] { check_legal(parse_schedule(schedule, {}), spec); });
    };
    EXPECT_EQ(legal(planar(Op::inference, 4, 16, 256), "vector=32 unroll=8 parallel=rows store=stream"), "");
    EXPECT_EQ(legal(planar(Op::inference, 4, 16, 49), "vector=4 unroll=16"), "");
    EXPECT_EQ(legal(planar(Op::train_forward, 4, 16, 49), "parallel=channels prefetch=8"), "");
    EXPECT_EQ(legal(planar(Op::train_forward, 4, 16, 49), "parallel=none prefetch=1"), "");
    EXPECT_EQ(legal(planar(Op::train_forward, any, 16, 1 << 26), "parallel=channels prefetch=1"), "");
    EXPECT_EQ(legal(interleaved(Op::train_forward, any, any), "parallel=rows block=1024"), "");
    EXPECT_EQ(legal(interleaved(Op::train_forward, any, 64), "prefetch=1 ahead=64"), "");
    EXPECT_EQ(legal(interleaved(Op::train_forward, any, any), "steps=8"), "");
    EXPECT_EQ(legal(interleaved(Op::backward, 1024, 64), "parallel=chunks steps=1 ahead=2"), "");
    EXPECT_EQ(legal(planar(Op::backward, 128, any, 16384), "parallel=samples task=1"), "");
    EXPECT_EQ(legal(planar(Op::train_forward, 32, 16, 16384), "parallel=samples task=4 prefetch=1 ahead=1"), "");
    EXPECT_EQ(legal(planar(Op::train_forward, any, any, any), "parallel=rows ahead=2"), "");
    EXPECT_EQ(legal(planar(Op::train_forward, any, 64, 256), "parallel=channels ahead=2"), "");
    EXPECT_EQ(legal(interleaved(Op::inference, any, 64), "vector=16 unroll=4 store=stream"), "");
    EXPECT_EQ(legal(planar(Op::inference, 4, 16, 196), "vector=16 unroll=4 store=stream"), "");
    EXPECT_EQ(legal(planar(Op::inference, 4, 16, 49), "vector=4 unroll=7 parallel=channels task=4 join=1 store=stream"),
              "");
    EXPECT_EQ(legal(planar(Op::inference, 4, 16, 64), "parallel=none task=16 join=1"), "");
    EXPECT_EQ(legal(with(planar(Op::backward, 4, 16, 8), Residual::add), "vector=8 parallel=channels task=2 join=1"),
              "");
    // More than there is: one task, one block.
    EXPECT_EQ(legal(planar(Op::inference, 4, 16, 256), "parallel=rows task=1000"), "");
    EXPECT_EQ(legal(interleaved(Op::train_forward, 64, 32), "block=1024"), "");
}

}  // namespace
