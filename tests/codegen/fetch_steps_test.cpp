// Which lines interleaved sums fetch, and when: the statements of a made-up loop, evaluated turn by turn.
#include "compiler/fetch_steps.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "generators/numerics.h"

using namespace fusebn;
using namespace Halide;
using namespace Halide::Internal;

namespace {

constexpr int line_bytes = 64;

// for turn: sum[..] = x[step * 8 * stride + turn * lanes + ramp] + ... of eight rows. So wide that loads of a tensor of
// `channels` are whole vectors.
struct Sums {
    int channels = 64, lanes = 16;
    Type type = Float(32);
    int first = 0;  // the loop's least turn
    bool known = true;

    static constexpr int step = 3;  // the one that is summed
    Expr turns() const { return known ? Expr(channels / lanes) : Variable::make(Int(32), "turns"); }
    Stmt loop(int rows = numerics::tree) const { return of("x", rows); }
    Stmt of(const char* tensor, int rows = numerics::tree) const {
        const Expr turn = Variable::make(Int(32), "turn"), stride = Variable::make(Int(32), "stride");
        Expr sum;
        for (int i = 0; i < rows; ++i) {
            const Expr begin = (step * numerics::tree + i) * stride + (turn - first) * lanes;
            const Expr x = Load::make(type.with_lanes(lanes), tensor, Ramp::make(begin, 1, lanes), {}, {},
                                      const_true(lanes), ModulusRemainder());
            sum = sum.defined() ? sum + x : x;
        }
        const Stmt store =
            Store::make("sum", sum, Ramp::make(turn * lanes, 1, lanes), {}, const_true(lanes), ModulusRemainder());
        return For::make("turn", first, turns(), ForType::Serial, Partition::Auto, DeviceAPI::None, store);
    }
};

// The elements that are fetched, in their order, where rows are so far apart.
std::vector<int> fetched(const Stmt& s, int turns, int first, int stride) {
    class Fetches : public IRVisitor {
    public:
        std::vector<Expr> at;
        const For* lines = nullptr;  // the innermost loop

    private:
        using IRVisitor::visit;
        void visit(const For* op) override {
            if (op->name != "turn") lines = op;
            IRVisitor::visit(op);
        }
        void visit(const Call* op) override {
            if (op->is_intrinsic(Call::prefetch)) at.push_back(op->args[1]);
            IRVisitor::visit(op);
        }
    } fetches;
    s.accept(&fetches);
    std::vector<int> all;
    const auto share = fetches.lines ? as_const_int(fetches.lines->extent) : std::nullopt;
    if (!share || fetches.at.empty()) {
        ADD_FAILURE() << "nothing is fetched";
        return all;
    }
    for (int turn = first; turn < first + turns; ++turn) {
        for (int line = 0; line < static_cast<int>(*share); ++line) {
            for (Expr e : fetches.at) {
                e = substitute("turn", turn, substitute(fetches.lines->name, line, e));
                const auto at = as_const_int(simplify(substitute("stride", stride, e)));
                EXPECT_TRUE(at.has_value()) << "not a number";
                all.push_back(static_cast<int>(at.value_or(-1)));
            }
        }
    }
    return all;
}

TEST(FetchSteps, FetchesEveryLineOfALaterStepOnceInTheOrderOfMemory) {
    for (const Sums& sums :
         {Sums{}, Sums{256, 16}, Sums{256, 32}, Sums{64, 16, UInt(16)}, Sums{48, 8}, Sums{64, 16, Float(32), 5}}) {
        for (const int steps : {1, 4}) {
            for (const int gap : {0, 100}) {
                const int stride = sums.channels + gap, line = line_bytes / sums.type.bytes();
                const Stmt s = fetch_steps({"x"}, steps)->mutate(sums.loop());
                const std::vector<int> at = fetched(s, sums.channels / sums.lanes, sums.first, stride);
                std::vector<int> lines;
                for (int row = 0; row < numerics::tree; ++row) {
                    for (int c = 0; c < sums.channels; c += line) {
                        lines.push_back(((Sums::step + steps) * numerics::tree + row) * stride + c);
                    }
                }
                EXPECT_EQ(at, lines) << sums.channels << " channels, vectors of " << sums.lanes << ", " << steps;
            }
        }
    }
}

// A row's end is in a line of its own, and the turns share what there is: none is left out.
TEST(FetchSteps, LeavesNoLineOutWhereTheTurnsDoNotDivideThem) {
    const Sums sums{112, 16};  // seven lines to a row, seven turns; and of 16 bits three and a half
    for (const Type& type : {Float(32), UInt(16)}) {
        Sums its = sums;
        its.type = type;
        const int line = line_bytes / type.bytes();
        const std::vector<int> at = fetched(fetch_steps({"x"}, 1)->mutate(its.loop()), 7, 0, 112);
        const std::set<int> found(at.begin(), at.end());
        for (int row = 0; row < numerics::tree; ++row) {
            for (int c = 0; c < 112; c += line) {
                EXPECT_TRUE(found.count(((Sums::step + 1) * numerics::tree + row) * 112 + c)) << row << " " << c;
            }
        }
        EXPECT_TRUE(std::is_sorted(at.begin(), at.end()));
    }
}

TEST(FetchSteps, FetchesWhatItReadsAStepLaterWhereARowsLengthIsNotKnown) {
    Sums sums;
    sums.known = false;
    const std::vector<int> at = fetched(fetch_steps({"x"}, 2)->mutate(sums.loop()), 2, 0, 1000);
    ASSERT_EQ(at.size(), 16u);
    for (int i = 0; i < 16; ++i) {
        EXPECT_EQ(at[static_cast<size_t>(i)], ((Sums::step + 2) * numerics::tree + i % 8) * 1000 + i / 8 * 16);
    }
}

// In turn, line by line: not all of one tensor first.
TEST(FetchSteps, TakesSeveralTensorsInTurn) {
    Sums sums;
    const Stmt x = sums.loop();
    const auto* loop = x.as<For>();
    ASSERT_NE(loop, nullptr);
    const Stmt both = For::make(loop->name, loop->min, loop->extent, loop->for_type, loop->partition_policy,
                                loop->device_api, Block::make(loop->body, sums.of("dy").as<For>()->body));
    const std::vector<int> at = fetched(fetch_steps({"x", "dy"}, 1)->mutate(both), 4, 0, 64);
    ASSERT_EQ(at.size(), 2u * 32);
    for (size_t i = 0; i < at.size(); i += 2) EXPECT_EQ(at[i], at[i + 1]);
    EXPECT_TRUE(std::is_sorted(at.begin(), at.end()));
}

// Rows that are left over, other buffers, loops around the one that reads.
TEST(FetchSteps, LeavesOtherLoopsAlone) {
    const Sums sums;
    const auto unchanged = [](const Stmt& s, const char* name) { return fetch_steps({name}, 1)->mutate(s).same_as(s); };
    EXPECT_TRUE(unchanged(sums.loop(7), "x"));
    EXPECT_TRUE(unchanged(sums.loop(), "dy"));
    const Stmt around = For::make("k", 0, 4, ForType::Serial, Partition::Auto, DeviceAPI::None, sums.loop());
    const Stmt changed = fetch_steps({"x"}, 1)->mutate(around);
    const auto* k = changed.as<For>();
    ASSERT_NE(k, nullptr);
    EXPECT_NE(k->body.as<For>(), nullptr) << "the fetches are in the inner loop";
    EXPECT_FALSE(changed.same_as(around));
}

}  // namespace
