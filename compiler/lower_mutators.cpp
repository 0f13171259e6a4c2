#include "compiler/lower_mutators.h"

#include <utility>

namespace fusebn {

using namespace Halide;

namespace {

// The runtime has checked every argument, so the checks that Halide makes at a kernel's start go. Those of its
// allocations are made by a later stage and stay.
class DropArgumentChecks : public Internal::IRMutator {
    using Internal::IRMutator::visit;
    Internal::Stmt visit(const Internal::AssertStmt*) override { return Internal::Evaluate::make(0); }
};

// Halide stores a tuple's elements one after the other, each after the reading of its own operands. An output may lie
// exactly in place of an input, so all elements are made before one is stored.
class StoreTogether : public Internal::IRMutator {
public:
    // Of the Func of that name.
    explicit StoreTogether(std::string tuple) : tuple_(std::move(tuple) + ".") {}

private:
    // Values, in the order in which they are made, and then what is stored. Their names are unique.
    struct Straight {
        std::vector<std::pair<std::string, Expr>> values;
        std::vector<Internal::Stmt> stores;
    };
    // Whether there is nothing but values and stores of the tuple.
    bool take_apart(const Internal::Stmt& s, Straight& into) const {
        if (const auto* block = s.as<Internal::Block>()) {
            return take_apart(block->first, into) && take_apart(block->rest, into);
        }
        if (const auto* let = s.as<Internal::LetStmt>()) {
            into.values.emplace_back(let->name, let->value);
            return take_apart(let->body, into);
        }
        const auto* store = s.as<Internal::Store>();
        if (!store || store->name.rfind(tuple_, 0) != 0) return false;
        into.values.emplace_back(Internal::unique_name("element"), store->value);
        const Expr made = Internal::Variable::make(store->value.type(), into.values.back().first);
        into.stores.push_back(
            Internal::Store::make(store->name, made, store->index, store->param, store->predicate, store->alignment));
        return true;
    }
    Internal::Stmt together(const Internal::Stmt& s) const {
        Straight straight;
        if (!take_apart(s, straight) || straight.stores.size() < 2) return Internal::Stmt();
        Internal::Stmt all = Internal::Block::make(straight.stores);
        for (auto value = straight.values.rbegin(); value != straight.values.rend(); ++value) {
            all = Internal::LetStmt::make(value->first, value->second, all);
        }
        return all;
    }
    using Internal::IRMutator::visit;
    Internal::Stmt visit(const Internal::Block* op) override {
        const Internal::Stmt all = together(op);
        return all.defined() ? all : IRMutator::visit(op);
    }
    Internal::Stmt visit(const Internal::LetStmt* op) override {
        const Internal::Stmt all = together(op);
        return all.defined() ? all : IRMutator::visit(op);
    }

    std::string tuple_;
};

// Halide reads and writes no more than 64 bits at once of a vector of 16-bit elements on a GPU; eight of them that lie
// on 16 bytes become one number.
class WholeVectors : public Internal::IRMutator {
    using Internal::IRMutator::visit;
    static bool eight(const Expr& index, const Expr& predicate, const Internal::ModulusRemainder& alignment,
                      Type type) {
        const auto* ramp = index.as<Internal::Ramp>();
        return type == UInt(16, 8) && ramp && Internal::is_const_one(ramp->stride) &&
               Internal::is_const_one(predicate) && alignment.modulus % 8 == 0 && alignment.remainder % 8 == 0;
    }
    static Expr base(const Expr& index) { return Internal::simplify(index.as<Internal::Ramp>()->base / 8); }
    Expr visit(const Internal::Load* op) override {
        if (!eight(op->index, op->predicate, op->alignment, op->type)) return IRMutator::visit(op);
        return reinterpret(op->type, Internal::Load::make(UInt(128), op->name, base(op->index), op->image, op->param,
                                                          Internal::const_true(), op->alignment / 8));
    }
    Internal::Stmt visit(const Internal::Store* op) override {
        if (!eight(op->index, op->predicate, op->alignment, op->value.type())) return IRMutator::visit(op);
        return Internal::Store::make(op->name, reinterpret(UInt(128), mutate(op->value)), base(op->index), op->param,
                                     Internal::const_true(), op->alignment / 8);
    }
};

// Halide 21 cannot turn vectors of strict comparisons into OpenCL's masks. Plain ones, after the last simplification,
// are the same.
class PlainComparisons : public Internal::IRMutator {
    using Internal::IRMutator::visit;
    Expr visit(const Internal::Call* op) override {
        if (op->is_intrinsic(Internal::Call::strict_lt)) return mutate(op->args[0]) < mutate(op->args[1]);
        if (op->is_intrinsic(Internal::Call::strict_le)) return mutate(op->args[0]) <= mutate(op->args[1]);
        if (op->is_intrinsic(Internal::Call::strict_eq)) return mutate(op->args[0]) == mutate(op->args[1]);
        return IRMutator::visit(op);
    }
};

// generators/elements.cpp has a case for NaNs, of which Halide's emulated conversion to f16 makes infinities. The
// processor's own gives the same bits as that case, which is half of the instructions of inference's loop.
class ConvertNansToo : public Internal::IRMutator {
    using Internal::IRMutator::visit;
    static bool is_f16(const Expr& bits) {
        const auto* same_bits = bits.as<Internal::Reinterpret>();
        return same_bits && same_bits->type.element_of() == UInt(16) &&
               same_bits->value.type().element_of() == Float(16);
    }
    static bool is_number(const Expr& condition) {
        const auto* equal = Internal::Call::as_intrinsic(condition, {Internal::Call::strict_eq});
        return equal && Internal::equal(equal->args[0], equal->args[1]);
    }
    Expr visit(const Internal::Select* op) override {
        return is_f16(op->true_value) && is_number(op->condition) ? mutate(op->true_value) : IRMutator::visit(op);
    }
};

}  // namespace

std::vector<std::unique_ptr<Internal::IRMutator>> mutators_of(InstructionSet isa, bool converts_f16,
                                                              const std::string& tensors) {
    std::vector<std::unique_ptr<Internal::IRMutator>> all;
    all.push_back(std::make_unique<DropArgumentChecks>());
    all.push_back(std::make_unique<StoreTogether>(tensors));
    if (converts_f16) all.push_back(std::make_unique<ConvertNansToo>());
    if (is_cuda(isa)) all.push_back(std::make_unique<WholeVectors>());
    if (isa == InstructionSet::opencl) all.push_back(std::make_unique<PlainComparisons>());
    return all;
}

}  // namespace fusebn
