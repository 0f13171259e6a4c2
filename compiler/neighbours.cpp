#include "compiler/neighbours.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace fusebn {

using namespace Halide;

namespace {

// A sum of integers: each term's factor, and what is left.
struct Sum {
    std::vector<std::pair<Expr, std::int64_t>> terms;
    std::int64_t constant = 0;

    void add(const Expr& e, std::int64_t factor) {
        const auto* product = e.as<Internal::Mul>();
        if (const auto* sum = e.as<Internal::Add>()) {
            add(sum->a, factor);
            add(sum->b, factor);
        } else if (const auto* difference = e.as<Internal::Sub>()) {
            add(difference->a, factor);
            add(difference->b, -factor);
        } else if (const auto value = Internal::as_const_int(e)) {
            constant += factor * *value;
        } else if (product && Internal::as_const_int(product->b)) {
            add(product->a, factor * *Internal::as_const_int(product->b));
        } else {
            add_term(e, factor);
        }
    }
    // a / b * b + a % b is a, and so is what differs from it by a multiple of b within the remainder.
    void put_together_what_was_divided() {
        for (std::size_t i = 0; i < terms.size(); ++i) {
            const auto* rest = terms[i].first.as<Internal::Mod>();
            const auto divisor = rest ? Internal::as_const_int(rest->b) : std::nullopt;
            if (!divisor) continue;
            for (std::size_t j = 0; j < terms.size(); ++j) {
                const auto* part = terms[j].first.as<Internal::Div>();
                if (!part || Internal::as_const_int(part->b) != divisor) continue;
                if (terms[j].second != terms[i].second * *divisor || !is_multiple(part->a, rest->a, *divisor)) continue;
                const Expr whole = part->a;
                const std::int64_t factor = terms[i].second;
                terms.erase(terms.begin() + static_cast<std::ptrdiff_t>(std::max(i, j)));
                terms.erase(terms.begin() + static_cast<std::ptrdiff_t>(std::min(i, j)));
                add(whole, factor);
                return put_together_what_was_divided();
            }
        }
    }

private:
    void add_term(const Expr& e, std::int64_t factor) {
        const auto same =
            std::find_if(terms.begin(), terms.end(), [&](const auto& term) { return Internal::equal(term.first, e); });
        if (same == terms.end()) {
            terms.emplace_back(e, factor);
        } else if ((same->second += factor) == 0) {
            terms.erase(same);
        }
    }
    static bool is_multiple(const Expr& a, const Expr& b, std::int64_t of) {
        Sum difference;
        difference.add(a, 1);
        difference.add(b, -1);
        return difference.constant % of == 0 && std::all_of(difference.terms.begin(), difference.terms.end(),
                                                            [&](const auto& term) { return term.second % of == 0; });
    }
};

// Joined rows (schedules/schedule.h) are elements of s and c in turn, and Halide names each by both, which it finds in
// vectors by division: it would gather and scatter. Of one lane for all of a vector's, what is divided and multiplied
// again falls away, and what is left tells whether the lanes are neighbours.
class NeighboursTogether : public Internal::IRMutator {
    const Expr lane_ = Internal::Variable::make(Int(32), Internal::unique_name("lane"));
    std::map<std::string, Expr> of_lane_;  // of vectors' names

    // The same of a lane; not defined where that is not known.
    Expr of_lane(const Expr& e) const {
        if (e.type().is_scalar()) return e;
        if (const auto* ramp = e.as<Internal::Ramp>()) {
            if (!ramp->base.type().is_scalar() || ramp->base.type() != Int(32)) return Expr();
            return Internal::Add::make(ramp->base, Internal::Mul::make(lane_, ramp->stride));
        }
        if (const auto* same = e.as<Internal::Broadcast>()) return of_lane(same->value);
        if (const auto* variable = e.as<Internal::Variable>()) {
            const auto known = of_lane_.find(variable->name);
            return known == of_lane_.end() ? Expr() : known->second;
        }
        const auto both = [&](const auto* op, const auto& make) {
            const Expr a = of_lane(op->a), b = of_lane(op->b);
            return a.defined() && b.defined() ? make(a, b) : Expr();
        };
        if (const auto* op = e.as<Internal::Add>()) return both(op, Internal::Add::make);
        if (const auto* op = e.as<Internal::Sub>()) return both(op, Internal::Sub::make);
        if (const auto* op = e.as<Internal::Mul>()) return both(op, Internal::Mul::make);
        if (const auto* op = e.as<Internal::Div>()) return both(op, Internal::Div::make);
        if (const auto* op = e.as<Internal::Mod>()) return both(op, Internal::Mod::make);
        if (const auto* op = Internal::Call::as_intrinsic(e, {Internal::Call::widen_right_mul})) {
            const Expr a = of_lane(op->args[0]), b = of_lane(op->args[1]);
            return a.defined() && b.defined() ? Internal::Mul::make(a, cast(a.type(), b)) : Expr();
        }
        return Expr();
    }
    // Of a vector index: the first lane's, where the others follow it; else not defined.
    Expr first_of_neighbours(const Expr& index) const {
        if (index.type().is_scalar() || index.type().element_of() != Int(32) || index.as<Internal::Ramp>()) {
            return Expr();
        }
        const Expr of_any = of_lane(index);
        if (!of_any.defined()) return Expr();
        Sum sum;
        sum.add(of_any, 1);
        sum.put_together_what_was_divided();
        Expr first = static_cast<int>(sum.constant);
        std::int64_t steps = 0;
        for (const auto& [term, factor] : sum.terms) {
            if (Internal::equal(term, lane_)) {
                steps = factor;
            } else if (Internal::expr_uses_var(term, lane_.as<Internal::Variable>()->name)) {
                return Expr();
            } else {
                first = first + term * static_cast<int>(factor);
            }
        }
        return steps == 1 ? Internal::simplify(first) : Expr();
    }

    using Internal::IRMutator::visit;
    template <class Let>
    void keep(const Let* op) {
        if (op->value.type().is_vector()) of_lane_[op->name] = of_lane(op->value);
    }
    Expr visit(const Internal::Let* op) override {
        keep(op);
        return IRMutator::visit(op);
    }
    Internal::Stmt visit(const Internal::LetStmt* op) override {
        keep(op);
        return IRMutator::visit(op);
    }
    Expr visit(const Internal::Load* op) override {
        const Expr first = first_of_neighbours(op->index);
        if (!first.defined()) return IRMutator::visit(op);
        return Internal::Load::make(op->type, op->name, Internal::Ramp::make(first, 1, op->type.lanes()), op->image,
                                    op->param, mutate(op->predicate), op->alignment);
    }
    Internal::Stmt visit(const Internal::Store* op) override {
        const Expr first = first_of_neighbours(op->index);
        if (!first.defined()) return IRMutator::visit(op);
        return Internal::Store::make(op->name, mutate(op->value),
                                     Internal::Ramp::make(first, 1, op->value.type().lanes()), op->param,
                                     mutate(op->predicate), op->alignment);
    }
};

}  // namespace

std::unique_ptr<Internal::IRMutator> neighbours_together() { return std::make_unique<NeighboursTogether>(); }

}  // namespace fusebn
