// Which vector indices are found to be of neighbours: made-up loads and stores.
#include "compiler/neighbours.h"

#include <gtest/gtest.h>

#include <string>

using namespace fusebn;
using namespace Halide;
using namespace Halide::Internal;

namespace {

constexpr int lanes = 16;
const Expr row = Variable::make(Int(32), "row"), base = Variable::make(Int(32), "base");

Expr wide(const Expr& e) { return Broadcast::make(e, lanes); }
Expr from(const Expr& first, int stride = 1) { return Ramp::make(first, stride, lanes); }

// The first lane's place where the index has become a ramp; else "scattered".
std::string first_of(const Expr& index, const std::string& let = "", const Expr& value = Expr()) {
    const auto load = Load::make(Float(32, lanes), "x", index, {}, {}, const_true(lanes), ModulusRemainder());
    Stmt s = Store::make("y", load, index, {}, const_true(lanes), ModulusRemainder());
    if (!let.empty()) s = LetStmt::make(let, value, s);
    s = neighbours_together()->mutate(s);
    if (const auto* in = s.as<LetStmt>()) s = in->body;
    const auto* store = s.as<Store>();
    const auto* ramp = store->index.as<Ramp>();
    const auto* read = store->value.as<Load>();
    EXPECT_EQ(ramp != nullptr, read->index.as<Ramp>() != nullptr);
    if (!ramp) return "scattered";
    EXPECT_TRUE(is_const_one(ramp->stride));
    EXPECT_TRUE(equal(ramp->base, read->index.as<Ramp>()->base));
    std::ostringstream text;
    text << simplify(substitute("row", 1000, substitute("base", 7, ramp->base)));
    return text.str();
}

Expr parts(const Expr& of, int size) { return of / wide(size); }
Expr rest(const Expr& of, int size) { return of % wide(size); }

TEST(Neighbours, AreWhatIsDividedAndPutTogetherAgain) {
    const Expr all = from(row * lanes);
    EXPECT_EQ(first_of(parts(all, 49) * wide(49) + rest(all, 49)), "16000");
    EXPECT_EQ(first_of(rest(all, 49) + (parts(all, 49) + wide(base)) * wide(49)), std::to_string(16000 + 7 * 49));
    EXPECT_EQ(first_of((parts(all, 49) * wide(49) + wide(base * 49)) + rest(all, 49)), std::to_string(16000 + 7 * 49));
    EXPECT_EQ(first_of(wide(base) + from(row) - wide(3)), "1004");
}

TEST(Neighbours, AreFoundThroughNamesAndWideningProducts) {
    const Expr all = from(row * lanes), named = Variable::make(Int(32, lanes), "c");
    const Expr times =
        Call::make(Int(32, lanes), Call::widen_right_mul, {named, wide(cast<std::int16_t>(49))}, Call::PureIntrinsic);
    EXPECT_EQ(first_of(times + rest(all, 49), "c", parts(all, 49) + wide(base)), std::to_string(16000 + 7 * 49));
    EXPECT_EQ(first_of(named * wide(49) + rest(all, 49), "other", parts(all, 49)), "scattered");
}

// Halide takes multiples of the divisor out of a remainder.
TEST(Neighbours, AreFoundWhereARemainderLacksMultiplesOfTheDivisor) {
    const Expr all = from(row * 64), less = from(row * 15 + 98);
    EXPECT_EQ(first_of(parts(all, 49) * wide(49) + rest(less, 49)), "64000");
    EXPECT_EQ(first_of(parts(all, 49) * wide(49) + rest(from(row * 16), 49)), "scattered");
    EXPECT_EQ(first_of(parts(all, 49) * wide(49) + rest(from(row * 15 + 1), 49)), "scattered");
}

TEST(Neighbours, AreNoOthers) {
    const Expr all = from(row * lanes);
    for (const Expr& index :
         {rest(all, 49), parts(all, 49) * wide(48) + rest(all, 49), parts(all, 49) * wide(49) + rest(all, 48),
          parts(all, 49) * wide(98) + rest(all, 49), parts(all, 49) * wide(49) + rest(all, 49) * wide(2),
          parts(all, 49) * wide(49) - rest(all, 49), wide(row) + wide(base), from(row) + from(base),
          from(row, 2) + wide(1), parts(from(row, 2), 49) * wide(49) + rest(from(row, 2), 49), wide(row) - from(base),
          max(all, wide(5))}) {
        EXPECT_EQ(first_of(index), "scattered") << index;
    }
}

}  // namespace
