// How what the LLVM stage makes of a kernel meets the memory, instruction by instruction: stores past the caches,
// fences, prefetches and loads under masks.

#include <algorithm>
#include <cctype>
#include <set>
#include <utility>
#include <vector>

#include "codegen/on_every.h"

using namespace fusebn;
using namespace codegen;

namespace {

bool streams(const Schedule& s) { return s.store == Schedule::Store::stream; }

// Each function is emitted with its loop over the tensors, whose body is `unroll` vectors of each.
int bytes_a_turn(const KernelSpec& spec, const Schedule& s) { return s.vector * s.unroll * element_bytes(spec.dtype); }

// Of a row, in bytes: what no turn takes whole.
int left_of_row(const KernelSpec& spec, const Schedule& s) {
    return static_cast<int>(row_of(spec, s) % (s.vector * s.unroll)) * element_bytes(spec.dtype);
}

// Of something that a loop has `in_one` times. LLVM emits backward's loop once for batch statistics and once for
// constants, of each branch.
void expect_in_every_loop(int found, int in_one, const KernelSpec& spec) {
    if (spec.op != Op::backward) {
        EXPECT_EQ(found, in_one);
        return;
    }
    const int forms = spec.residual == Residual::batch_norm ? 4 : 2;
    EXPECT_TRUE(found == in_one || found == forms * in_one) << found << " for " << in_one;
}

// train_forward stores the mask beside y, through the cache.
bool writes_mask(const KernelSpec& spec) {
    return spec.op == Op::train_forward && saves_mask(spec.activation, spec.residual);
}

using StreamingStores = OnEvery;

TEST_P(StreamingStores, AreWhereTheScheduleSaysAndNowhereElse) {
    row([](const KernelSpec&, const Schedule& schedule, const Kernel& kernel) {
        EXPECT_EQ(kernel.count(is_streaming_store) > 0, streams(schedule));
        EXPECT_EQ(count(kernel.reached_from("entry"), is_streaming_store) > 0, streams(schedule));
    });
}

TEST_P(StreamingStores, AreNotInTheUnalignedForm) {
    row([](const KernelSpec&, const Schedule& schedule, const Kernel& kernel) {
        const std::vector<Function> unaligned = kernel.reached_from("entry_unaligned");
        EXPECT_EQ(!unaligned.empty(), streams(schedule) || schedule.join);
        EXPECT_EQ(count(unaligned, is_streaming_store), 0);
    });
}

// Of the stores that a function makes outside its frame, those to tensors stream and those of statistics do not. The
// unaligned form says how many there are of both.
TEST_P(StreamingStores, AreEveryVectorStoreToTensorsAndNoOther) {
    row([](const KernelSpec& spec, const Schedule& schedule, const Kernel& kernel) {
        int streamed_bytes = 0;
        for (const Function& f : kernel.functions) {
            for (const Instruction& i : f.body) {
                if (is_streaming_store(i)) streamed_bytes += register_bytes(i);
            }
        }
        const int turn = bytes_a_turn(spec, schedule), left = left_of_row(spec, schedule);
        expect_in_every_loop(streamed_bytes, streams(schedule) ? traffic(spec).written * (turn + left) : 0, spec);
        // What is left of a row is one masked store there, and a vector may be several pieces here.
        if (!streams(schedule) || left > 0 || schedule.join) return;
        const std::vector<Function> aligned = kernel.reached_from("entry");
        const std::vector<Function> unaligned = kernel.reached_from("entry_unaligned");
        EXPECT_EQ(count(aligned, is_streaming_store) + count(aligned, is_ordinary_vector_store),
                  count(unaligned, is_ordinary_vector_store));
    });
}

// In a task over rows nothing else is stored: the check that needs no second form to compare with.
TEST_P(StreamingStores, AreAllThatATaskOverRowsStores) {
    row([](const KernelSpec& spec, const Schedule& schedule, const Kernel& kernel) {
        if (!streams(schedule) || schedule.parallel != Schedule::Parallel::rows || writes_mask(spec)) return;
        for (const Function& f : kernel.functions) {
            if (f.count(is_streaming_store) > 0) {
                EXPECT_EQ(f.count(is_ordinary_vector_store), 0) << f.name;
            }
        }
    });
}

using JoinedRows = OnEvery;

// Element by element would be right too.
TEST_P(JoinedRows, AreReadAndWrittenInVectors) {
    row([](const KernelSpec&, const Schedule& schedule, const Kernel& kernel) {
        if (!schedule.join) return;
        const auto gathers = [](const Instruction& i) {
            const bool inserts =
                i.name.find("insertps") != std::string::npos || i.name.find("pinsr") != std::string::npos;
            return i.name.find("gather") != std::string::npos || (inserts && i.operands.find('(') != std::string::npos);
        };
        // A vector that is gathered has one for each of its lanes; LLVM puts a few numbers of a channel together so.
        constexpr int few = 4;
        EXPECT_LT(count(kernel.reached_from("entry"), gathers), few);
    });
}

using Fences = OnEvery;

// Between a function's last streaming store and its return lies a fence on every path: here, in the returning block.
TEST_P(Fences, StandBeforeEveryReturnOfAFunctionThatStreams) {
    row([](const KernelSpec&, const Schedule&, const Kernel& kernel) {
        for (const Function& f : kernel.functions) {
            if (f.count(is_streaming_store) == 0) continue;
            bool fenced = false;
            int returns = 0;
            for (const Instruction& i : f.body) {
                if (i.label || is_streaming_store(i)) fenced = false;
                if (i.name == "sfence") fenced = true;
                // A jump to another function is a return that has no fence of its own.
                if (i.name == "jmp") {
                    EXPECT_EQ(i.operands.rfind(".L", 0), 0u) << f.name << ": " << i.operands;
                }
                if (i.name.rfind("ret", 0) != 0) continue;
                ++returns;
                EXPECT_TRUE(fenced) << f.name;
            }
            EXPECT_GT(returns, 0) << f.name;
        }
    });
}

TEST_P(Fences, AreNotWhereNothingStreams) {
    row([](const KernelSpec&, const Schedule&, const Kernel& kernel) {
        for (const Function& f : kernel.functions) {
            const auto fence = [](const Instruction& i) { return i.name.find("fence") != std::string::npos; };
            if (f.count(is_streaming_store) == 0) {
                EXPECT_EQ(f.count(fence), 0) << f.name;
            }
        }
    });
}

using Prefetches = OnEvery;

TEST_P(Prefetches, AreWhereTheScheduleFetchesAheadAndNowhereElse) {
    row([](const KernelSpec&, const Schedule& schedule, const Kernel& kernel) {
        for (const char* entry : {"entry", "entry_unaligned"}) {
            const std::vector<Function> functions = kernel.reached_from(entry);
            if (functions.empty()) {
                continue;
            }
            const auto into_l1 = [](const Instruction& i) { return i.name == "prefetcht0"; };
            const auto into_l2 = [](const Instruction& i) { return i.name == "prefetcht1"; };
            EXPECT_EQ(count(functions, into_l2) > 0, schedule.prefetch > 0 || schedule.ahead > 0) << entry;
            EXPECT_EQ(count(functions, into_l1) > 0, schedule.steps > 0) << entry;
            EXPECT_EQ(count(functions, into_l1) + count(functions, into_l2), count(functions, is_prefetch)) << entry;
        }
    });
}

// More fetches of a line than were asked for would take the place of loads.
TEST_P(Prefetches, AreAsManyALineOfTheApplyLoopAsAskedFor) {
    row([](const KernelSpec& spec, const Schedule& schedule, const Kernel& kernel) {
        // The rows where sums that fetch are made in the same function.
        const bool planar_sums = spec.view == View::planar && spec.op != Op::inference;
        if (schedule.parallel != Schedule::Parallel::rows && schedule.ahead > 0 &&
            (schedule.prefetch > 0 || planar_sums)) {
            return;
        }
        for (const Function& f : kernel.functions) {
            if (f.count(is_streaming_store) == 0 ||
                (schedule.ahead == 0 && schedule.parallel == Schedule::Parallel::rows)) {
                continue;
            }
            constexpr int line = 64;
            const bool fetches = schedule.ahead > 0 || schedule.prefetch > 0;
            SCOPED_TRACE(f.name);
            expect_in_every_loop(
                f.count(is_prefetch),
                fetches ? schedule.repeat * traffic(spec).read * bytes_a_turn(spec, schedule) / line : 0, spec);
        }
    });
}

std::vector<Function> blocks_of(const Function& f) {
    std::vector<Function> blocks(1);
    for (const Instruction& i : f.body) {
        if (i.label) blocks.emplace_back();
        blocks.back().body.push_back(i);
    }
    return blocks;
}

// A memory operand, "16448(%rbp,%rcx,4)", as its displacement and the rest.
std::pair<std::int64_t, std::string> address(const std::string& operands) {
    const size_t registers = operands.find("(%");
    if (registers == std::string::npos) return {0, ""};
    size_t from = registers;
    while (from > 0 && (std::isdigit(operands[from - 1]) || operands[from - 1] == '-')) --from;
    const std::string number = operands.substr(from, registers - from);
    return {number.empty() ? 0 : std::stoll(number),
            operands.substr(registers, operands.find(')', registers) - registers)};
}

// How far ahead of what it reads a kernel fetches: of those in `wanted`, what occurs beside stores past the cache, and
// elsewhere.
std::pair<std::set<std::int64_t>, std::set<std::int64_t>> distances(const Kernel& kernel,
                                                                    const std::set<std::int64_t>& wanted) {
    std::set<std::int64_t> in_apply, in_sums;
    for (const Function& f : kernel.functions) {
        if (f.count(is_streaming_store) == 0) continue;  // the form whose apply loop stores through the cache
        for (const Function& block : blocks_of(f)) {
            for (const Instruction& fetch : block.body) {
                if (!is_prefetch(fetch)) continue;
                const auto [to, registers] = address(fetch.operands);
                for (const Instruction& i : block.body) {
                    if (is_prefetch(i)) continue;
                    const auto [at, same] = address(i.operands);
                    if (same == registers && wanted.count(to - at)) {
                        (block.count(is_streaming_store) > 0 ? in_apply : in_sums).insert(to - at);
                    }
                }
            }
        }
    }
    return {in_apply, in_sums};
}

// The next channel in the apply loop, and a sample further on in the sums and of a residual, which no sum reads.
TEST_P(Prefetches, OfPlanarTasksAreOfTheNextTaskAndOfTheNextSample) {
    const KernelSpec train = planar(Op::train_forward, 4, 16, 256), backward = planar(Op::backward, 4, 16, 256);
    KernelSpec added = train;
    added.residual = Residual::add;
    constexpr std::int64_t channel = 256 * 4, sample = 16 * channel;
    using Distances = std::set<std::int64_t>;
    const std::string keys = "vector=16 unroll=1 parallel=channels task=1 store=stream ";
    const auto expect = [&](const KernelSpec& spec, const char* more, const Distances& apply, const Distances& sums) {
        const Row its{spec, keys + more};
        SCOPED_TRACE(describe(its, GetParam()));
        const auto [in_apply, in_sums] = distances(assembled(its), {channel, sample, 2 * sample});
        EXPECT_EQ(in_apply, apply);
        EXPECT_EQ(in_sums, sums);
    };
    expect(train, "prefetch=1", {channel}, {});
    expect(train, "prefetch=1 ahead=1", {channel}, {sample});
    expect(train, "prefetch=0 ahead=2", {}, {2 * sample});
    expect(added, "prefetch=1", {channel, sample}, {});
    expect(added, "prefetch=0 ahead=1", {sample}, {sample});
    KernelSpec alone = added;
    alone.outer = 1;
    expect(alone, "prefetch=1", {channel}, {});
    expect(backward, "prefetch=0 ahead=1", {}, {sample});
}

// One instruction a tensor, in each of the loops over a row's vectors: of the pivots and of the moments.
TEST_P(Prefetches, OfStepsAreInEveryLoopOfSums) {
    const std::string keys = "vector=16 unroll=1 parallel=rows task=16 store=stream steps=2";
    const auto fetches = [&](const KernelSpec& spec) {
        const auto into_l1 = [](const Instruction& i) { return i.name == "prefetcht0"; };
        return count(assembled({spec, keys}).reached_from("entry"), into_l1);
    };
    KernelSpec train = interleaved(Op::train_forward, 512, 64), backward = interleaved(Op::backward, 512, 128);
    EXPECT_EQ(fetches(train), 2);
    train.residual = Residual::add;
    EXPECT_EQ(fetches(train), 2) << "no sum reads the residual";
    train.residual = Residual::batch_norm;
    EXPECT_EQ(fetches(train), 2 * 2);
    EXPECT_EQ(fetches(backward), 2);
    backward.dtype = DataType::bf16;
    EXPECT_EQ(fetches(backward), 2);
}

using MaskedLoads = OnEvery;

// A load that waits for its mask waits for x first: gradients from memory are loaded before it is known, but where
// they are fetched ahead.
TEST_P(MaskedLoads, AreWhereTheyAreNotWaitedForAndNowhereElse) {
    int with = 0, without = 0;
    row([&](const KernelSpec& spec, const Schedule& schedule, const Kernel& kernel) {
        const bool selects = spec.op == Op::backward && spec.activation == Activation::relu && streams(schedule);
        if (!selects || spec.dtype != DataType::f32) return;
        const bool planar = spec.view == View::planar;
        const bool in_sums = !planar && (schedule.prefetch > 0 || schedule.steps > 0),
                   in_apply = planar || schedule.ahead > 0;
        for (const Function& f : kernel.functions) {
            for (const Function& block : blocks_of(f)) {
                const bool apply = block.count(is_streaming_store) + block.count(is_ordinary_vector_store) > 0;
                const int found = block.count(is_masked_load);
                if (!(apply ? in_apply : in_sums)) {
                    EXPECT_EQ(found, 0) << f.name;
                    ++without;
                }
                with += found;
            }
        }
    });
    EXPECT_EQ(with > 0, GetParam() == InstructionSet::x86_64_avx512) << "no other has any";
    EXPECT_GT(without, 0);
}

INSTANTIATE_TEST_SUITE_P(On, StreamingStores, testing::ValuesIn(instruction_sets()), OnEvery::test_name);
INSTANTIATE_TEST_SUITE_P(On, JoinedRows, testing::ValuesIn(instruction_sets()), OnEvery::test_name);
INSTANTIATE_TEST_SUITE_P(On, Fences, testing::ValuesIn(instruction_sets()), OnEvery::test_name);
INSTANTIATE_TEST_SUITE_P(On, Prefetches, testing::ValuesIn(instruction_sets()), OnEvery::test_name);
INSTANTIATE_TEST_SUITE_P(On, MaskedLoads, testing::ValuesIn(instruction_sets()), OnEvery::test_name);

}  // namespace
