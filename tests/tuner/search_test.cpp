// The search, on costs that are made up: what it proposes, that it finds, and that it ends.
#include "tuner/search.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <utility>

#include "tuner/space.h"

using namespace fusebn;

namespace {

KernelSpec planar(Op op) { return {op, View::planar, DataType::f32, Activation::relu, Residual::none, 32, 256, 3136}; }
KernelSpec interleaved(Op op) {
    return {op, View::interleaved, DataType::bf16, Activation::relu, Residual::add, 25088, 256, 1};
}

std::vector<KernelSpec> kernels() {
    std::vector<KernelSpec> all;
    for (Op op : {Op::inference, Op::train_forward, Op::backward}) {
        all.push_back(planar(op));
        all.push_back(interleaved(op));
        all.push_back({op, View::planar, DataType::f16, Activation::silu, Residual::batch_norm, 1, 3, 49});
        all.push_back({op, View::interleaved, DataType::f32, Activation::none, Residual::none, 2, 1, 1});
    }
    return all;
}

Search search_of(const KernelSpec& k) {
    const Schedule base = default_schedule(k);
    return Search(base, schedule_space(k, base), [k](const Schedule& s) { return predicted_cost(k, s, {}, 2); });
}

TEST(Space, HasTheDefaultOnceAndLegalSchedulesAlone) {
    for (const KernelSpec& k : kernels()) {
        const Schedule base = default_schedule(k);
        std::set<std::string> seen;
        for (const Schedule& s : schedule_space(k, base)) {
            EXPECT_TRUE(is_legal(s, k)) << kernel_name(k) << " " << to_text(s);
            EXPECT_TRUE(seen.insert(to_text(s)).second) << kernel_name(k) << " twice: " << to_text(s);
        }
        EXPECT_TRUE(seen.count(to_text(base))) << kernel_name(k);
    }
}

TEST(Space, TheModelKnowsWhatMustMove) {
    const KernelSpec k = planar(Op::train_forward);  // 103 MB in, as much out
    const auto cost = [&](const std::string& keys) {
        return predicted_cost(k, spec_schedule(keys, k, default_schedule(k)), {}, 2);
    };
    EXPECT_LT(cost("store=stream"), cost("store=cached"));               // a line is not read to be written
    EXPECT_LT(cost("parallel=channels task=1"), cost("parallel=rows"));  // the second reading is from the cache
    EXPECT_LT(cost("parallel=rows task=1"), cost("parallel=none"));
    EXPECT_LT(cost("task=1"), cost("task=32"));  // whose slabs fit no cache
}

TEST(Space, TheModelKnowsWhatThreadsShareOut) {
    const KernelSpec k{Op::train_forward,
                       View::interleaved,
                       DataType::f32,
                       Activation::relu,
                       Residual::none,
                       1024,
                       512,
                       1};  // one group of chunks
    const auto cost = [&](const std::string& keys) {
        return predicted_cost(k, spec_schedule(keys, k, default_schedule(k)), {}, 2);
    };
    EXPECT_LT(cost("parallel=chunks block=0"), cost("parallel=rows block=0"));
    EXPECT_LT(cost("parallel=rows block=256"), cost("parallel=rows block=0"));
}

TEST(Space, TheModelKnowsWhatAProcessorDoesWithPrefetches) {
    KernelSpec k = planar(Op::train_forward);
    k.channels = 64;
    k.inner = 12544;
    const CacheModel dropped, carried_out = model_for("GenuineIntel", {});
    const auto cost = [&](const std::string& keys, const CacheModel& caches) {
        return predicted_cost(k, spec_schedule(keys, k, default_schedule(k)), caches, 2);
    };
    EXPECT_LT(cost("prefetch=1 repeat=4", dropped), cost("prefetch=1 repeat=1", dropped));
    EXPECT_LT(cost("prefetch=1 repeat=1", carried_out), cost("prefetch=1 repeat=4", carried_out));
    EXPECT_GT(cost("prefetch=0", dropped), cost("prefetch=1 repeat=1", dropped));
    EXPECT_LT(cost("prefetch=0", carried_out), cost("prefetch=1 repeat=1", carried_out)) << "slabs of 1.6 MB";
    EXPECT_LT(cost("prefetch=0 ahead=1", carried_out), cost("prefetch=0", carried_out)) << "samples, from memory";
}

// 12.3 MiB, where the L3 cache is fast and where it is slow to write to.
TEST(Space, TheModelKnowsWhereAProcessorStreamsSooner) {
    KernelSpec k = planar(Op::inference);
    k.channels = 64;
    k.inner = 784;
    const auto gain = [&](const CacheModel& caches) {
        const auto cost = [&](const char* keys) {
            return predicted_cost(k, spec_schedule(keys, k, default_schedule(k)), caches, 2);
        };
        return cost("store=cached") / cost("store=stream");
    };
    EXPECT_LT(gain({}), 1);
    EXPECT_GT(gain(model_for("GenuineIntel family 6 model 207", {})), 1);
}

// By samples a thread has half of a channel's slabs in its L2 cache; where all of them fit, two loops a channel cost.
TEST(Space, TheModelSharesChannelsOutWhereTheirHalvesFit) {
    const auto gain = [](std::int64_t side) {
        KernelSpec k = planar(Op::backward);
        k.channels = 64;
        k.inner = side * side;
        CacheModel caches;
        caches.l2 = 2 << 20;
        const auto cost = [&](const std::string& keys) {
            return predicted_cost(k, spec_schedule(keys + " prefetch=0 repeat=1", k, default_schedule(k)), caches, 2);
        };
        return cost("parallel=channels") / cost("parallel=samples");
    };
    EXPECT_GT(gain(112), 1.02) << "slabs of 3.2 MB";
    EXPECT_LT(gain(56), 1) << "of 0.8 MB";
    EXPECT_LT(gain(224), 1) << "of 12.8 MB";
}

// Rows that are no whole lines, in two results and in one; and what narrow vectors cost silu.
TEST(Space, TheModelJoinsTheRowsOfTwoResults) {
    KernelSpec k = planar(Op::backward);
    k.channels = 512;
    k.inner = 49;
    const auto cost = [&](const std::string& keys) {
        return predicted_cost(k, spec_schedule(keys, k, default_schedule(k)), {}, 2);
    };
    const char *joined = "parallel=channels task=16 join=1", *apart = "parallel=channels task=16 join=0";
    const double one = cost(apart) / cost(joined);
    k.residual = Residual::add;
    const double two = cost(apart) / cost(joined);
    EXPECT_GT(two, 1.2);
    EXPECT_LT(one, 1.05);
    bool joins = false;
    for (const Schedule& s : schedule_space(k, default_schedule(k))) joins |= s.join && s.task == 8;
    EXPECT_TRUE(joins);
    const double relu = cost("vector=8") / cost("vector=16");
    k.activation = Activation::silu;
    k.residual = Residual::none;
    EXPECT_GT(cost("vector=4 unroll=1 join=0") / cost("vector=16 unroll=1 join=0"), relu * 1.5);
}

// What is fetched for the next task may push out what this one reads, so schedules without are not tried last.
TEST(Space, TheModelDoubtsPrefetchesThatFillTheCache) {
    const auto without = [](std::int64_t side, Op op) {
        KernelSpec k = planar(op);
        k.channels = 512;
        k.inner = side * side;
        const Schedule base = default_schedule(k);
        const auto cost = [&](const char* keys) { return predicted_cost(k, spec_schedule(keys, k, base), {}, 2); };
        return cost("prefetch=0 repeat=1") / cost("prefetch=1 repeat=4");
    };
    EXPECT_GT(without(28, Op::train_forward), 1.1);
    EXPECT_GT(without(56, Op::train_forward), 1.1);
    EXPECT_GT(without(28, Op::backward), 1.1);
    EXPECT_LT(without(56, Op::backward), 1.1) << "two tasks' slabs of 0.8 MB";
}

TEST(Space, FetchesSamplesAheadInPlanarSums) {
    const KernelSpec k = planar(Op::backward);
    const Schedule base = default_schedule(k);
    std::set<int> by_channels, by_rows;
    for (const Schedule& s : schedule_space(k, base)) {
        (s.parallel == Schedule::Parallel::rows ? by_rows : by_channels).insert(s.ahead);
    }
    EXPECT_EQ(by_channels, (std::set<int>{0, 1, 2}));
    EXPECT_EQ(by_rows, (std::set<int>{0, 2, 4}));
}

TEST(Space, FetchesChunksOrStepsAheadInInterleavedSums) {
    const auto fetches = [](const KernelSpec& k) {
        std::set<std::pair<int, int>> all;
        for (const Schedule& s : schedule_space(k, default_schedule(k))) all.insert({s.prefetch, s.steps});
        return all;
    };
    using Pairs = std::set<std::pair<int, int>>;
    EXPECT_EQ(fetches(interleaved(Op::backward)), (Pairs{{0, 0}, {1, 0}, {2, 0}, {0, 1}, {0, 2}, {0, 4}}));
    EXPECT_EQ(fetches(planar(Op::backward)), (Pairs{{0, 0}, {1, 0}, {2, 0}}));
    EXPECT_EQ(fetches(interleaved(Op::inference)), (Pairs{{0, 0}}));
    KernelSpec few = interleaved(Op::backward);
    few.outer = 7;
    EXPECT_EQ(fetches(few), (Pairs{{0, 0}, {1, 0}, {2, 0}})) << "no step at all";
    const KernelSpec k = interleaved(Op::backward);
    const auto cost = [&](const char* keys, const char* processor) {
        return predicted_cost(k, spec_schedule(keys, k, default_schedule(k)), model_for(processor, {}), 2);
    };
    EXPECT_LT(cost("steps=1", "AuthenticAMD family 26"), cost("prefetch=1", "AuthenticAMD family 26"));
    EXPECT_EQ(cost("steps=1", ""), cost("prefetch=1 repeat=4", ""));
}

TEST(Search, ProposesNothingTwice) {
    Search search = search_of(planar(Op::backward));
    std::set<std::string> seen = {to_text(search.base())};
    while (!search.over()) {
        const std::vector<Schedule> next = search.next(7);
        ASSERT_FALSE(next.empty());
        for (const Schedule& s : next) {
            EXPECT_TRUE(seen.insert(to_text(s)).second) << to_text(s);
            search.measured(s, 1.02 * (1 + static_cast<double>(seen.size())));  // always better: it never loses heart
        }
        search.end_generation();
        if (seen.size() > 400) return;
    }
    EXPECT_EQ(seen.size(), search.space_size());
}

TEST(Search, EndsWhereNothingIsFaster) {
    for (const KernelSpec& k : kernels()) {
        Search search = search_of(k);
        while (!search.over()) {
            for (const Schedule& s : search.next(7)) search.measured(s, 0.9);
            search.end_generation();
        }
        EXPECT_TRUE(search.best() == search.base());
        EXPECT_LE(search.generation(), 5);
        EXPECT_TRUE(search.next(7).empty());
    }
}

// Speeds in which every key matters, unlike what the model thinks.
double speed(const Schedule& s) {
    return (s.vector == 32 ? 1.1 : 1) * (s.unroll == 2 ? 1.1 : 1) *
           (s.task == 8   ? 1.3
            : s.task == 4 ? 1.15
                          : 1) *
           (s.prefetch == 2 ? 1.15 : 1) * (s.parallel == Schedule::Parallel::none ? 0.6 : 1);
}

TEST(Search, ClimbsToWhatIsFasterThoughTheModelSaysOtherwise) {
    const KernelSpec k = planar(Op::train_forward);
    Search search = search_of(k);
    const double unit = speed(search.base());
    double best = 0;
    for (const Schedule& s : schedule_space(k, search.base())) best = std::max(best, speed(s) / unit);
    while (!search.over()) {
        for (const Schedule& s : search.next(7)) search.measured(s, speed(s) / unit);
        search.end_generation();
    }
    EXPECT_GT(search.best_ratio(), 0.9 * best);
    EXPECT_LT(search.tried(), 250u) << "of " << search.space_size();
}

// Whatever the model thinks of it, unless it thinks very little.
TEST(Search, TriesEveryValueOfThePrefetchesEarly) {
    for (const KernelSpec& k : {planar(Op::train_forward), interleaved(Op::backward)}) {
        Search search = search_of(k);
        std::set<std::string> values;
        for (int generation = 0; generation < 2; ++generation) {
            for (const Schedule& s : search.next(7)) {
                search.measured(s, 0.9);
                values.insert("prefetch=" + std::to_string(s.prefetch));
                values.insert("steps=" + std::to_string(s.steps));
                values.insert("ahead=" + std::to_string(s.ahead));
                values.insert("repeat=" + std::to_string(s.repeat));
            }
            search.end_generation();
        }
        const char* own = k.view == View::planar ? "ahead=1" : "ahead=4";
        for (const char* value : {"prefetch=0", "prefetch=1", "prefetch=2", "ahead=0", "ahead=2", own, "repeat=1",
                                  "repeat=4", "repeat=8"}) {
            EXPECT_TRUE(values.count(value)) << kernel_name(k) << " " << value;
        }
        const bool rows = k.view == View::interleaved;
        EXPECT_EQ(values.count("steps=1") + values.count("steps=2"), rows ? 2u : 0u) << kernel_name(k);
    }
}

TEST(Search, GoesOnFromResultsAsItWouldHave) {
    const KernelSpec k = interleaved(Op::backward);
    Search first = search_of(k), second = search_of(k);
    std::vector<Schedule> measured;
    for (int generation = 0; generation < 2; ++generation) {
        for (const Schedule& s : first.next(7)) {
            first.measured(s, speed(s));
            measured.push_back(s);
        }
        first.end_generation();
    }
    for (std::size_t i = 0; i < measured.size(); ++i) {
        if (i == 7) second.end_generation();
        second.measured(measured[i], speed(measured[i]));
    }
    second.end_generation();
    ASSERT_EQ(first.next(7).size(), second.next(7).size());
    for (std::size_t i = 0; i < first.next(7).size(); ++i) EXPECT_TRUE(first.next(7)[i] == second.next(7)[i]);
}

TEST(Search, ALaterMeasurementCorrectsAnEarlierOne) {
    Search search = search_of(planar(Op::inference));
    const std::vector<Schedule> next = search.next(2);
    search.measured(next[0], 1.5);
    search.measured(next[1], 1.2);
    EXPECT_TRUE(search.best() == next[0]);
    search.measured(next[0], 0.9);  // it was luck
    EXPECT_TRUE(search.best() == next[1]);
    EXPECT_EQ(search.best_ratio(), 1.2);
    search.failed(next[1]);
    EXPECT_TRUE(search.best() == search.base());
}

}  // namespace
