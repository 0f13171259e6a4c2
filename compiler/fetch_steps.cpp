#include "compiler/fetch_steps.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>

#include "generators/numerics.h"

namespace fusebn {

using namespace Halide;
using namespace Halide::Internal;

namespace {

constexpr int line_bytes = 64;

int ceil_div(int a, int b) { return (a + b - 1) / b; }

// What a loop's body reads of each of the inputs, in vectors along a row.
class Readings : public IRVisitor {
public:
    struct Reading {
        std::vector<Expr> begins;  // where each vector begins, by what is known outside of the body
        Type element;
        int lanes = 0;
    };

    Readings(const std::vector<std::string>& inputs, const Stmt& body) : inputs_(inputs) { body.accept(this); }

    bool innermost() const { return innermost_; }

    std::map<std::string, Reading> of() const {
        std::map<std::string, Reading> all;
        for (const Load* load : loads_) {
            const auto* ramp = load->index.as<Ramp>();
            Expr begin = ramp->base;
            for (auto l = lets_.rbegin(); l != lets_.rend(); ++l) begin = substitute(l->first, l->second, begin);
            begin = simplify(begin);
            Reading& reading = all[load->name];
            reading.element = load->type.element_of();
            reading.lanes = ramp->lanes;
            const bool known = std::any_of(reading.begins.begin(), reading.begins.end(),
                                           [&](const Expr& other) { return equal(other, begin); });
            if (!known) reading.begins.push_back(begin);
        }
        return all;
    }

private:
    using IRVisitor::visit;
    void visit(const For*) override { innermost_ = false; }
    template <class T>
    void let(const T* op) {
        lets_.emplace_back(op->name, op->value);
        IRVisitor::visit(op);
    }
    void visit(const LetStmt* op) override { let(op); }
    void visit(const Let* op) override { let(op); }
    void visit(const Load* op) override {
        IRVisitor::visit(op);
        const bool input = std::find(inputs_.begin(), inputs_.end(), op->name) != inputs_.end();
        if (input && op->index.as<Ramp>()) loads_.push_back(op);
    }

    const std::vector<std::string>& inputs_;
    std::vector<const Load*> loads_;
    std::vector<std::pair<std::string, Expr>> lets_;
    bool innermost_ = true;
};

class FetchSteps : public IRMutator {
public:
    FetchSteps(std::vector<std::string> inputs, int steps) : inputs_(std::move(inputs)), steps_(steps) {}

private:
    using IRMutator::visit;
    Stmt visit(const For* op) override {
        const Readings readings(inputs_, op->body);
        if (!readings.innermost()) return IRMutator::visit(op);
        // A loop, and the tensors in turn: where each line has an instruction of its own, the processor's prefetchers,
        // which tell streams by instructions, follow less well.
        const std::string i = unique_name("line");
        std::vector<Stmt> fetches;
        int share = 0;
        for (const auto& [name, reading] : readings.of()) {
            if (is_step(reading.begins)) share = fetch(fetches, *op, Variable::make(Int(32), i), name, reading);
        }
        if (fetches.empty()) return op;
        const Stmt lines =
            For::make(i, 0, share, ForType::Serial, Partition::Never, DeviceAPI::None, Block::make(fetches));
        return For::make(op->name, op->min, op->extent, op->for_type, op->partition_policy, op->device_api,
                         Block::make(lines, op->body));
    }

    // A step's rows, one as far from the next as any.
    static bool is_step(const std::vector<Expr>& begins) {
        if (begins.size() != numerics::tree) return false;
        const Expr row = begins[1] - begins[0];
        for (int i = 2; i < numerics::tree; ++i) {
            if (!is_const_zero(simplify(begins[static_cast<size_t>(i)] - begins[0] - row * i))) return false;
        }
        return true;
    }

    // Of the loop's turn, line `i` of as many as are returned, the same number for all tensors: they are of one type.
    int fetch(std::vector<Stmt>& into, const For& loop, const Expr& i, const std::string& name,
              const Readings::Reading& reading) const {
        // 64 bits: steps further on there may be no tensor, and no 32 bits.
        const auto wide = [](const Expr& e) { return cast<std::int64_t>(e); };
        const Expr begin = reading.begins[0], row = wide(simplify(reading.begins[1] - begin));
        const auto next = [&](const Expr& of) { return wide(of) + row * (numerics::tree * steps_); };
        const int line = line_bytes / reading.element.bytes(), vector = ceil_div(reading.lanes, line);
        const Expr turn = Variable::make(Int(32), loop.name);
        const Expr moves = simplify(substitute(loop.name, turn + 1, begin) - begin);
        const bool by_vectors = is_const(moves, reading.lanes);
        const auto turns = as_const_int(loop.extent);
        // Where its share lies is not known: what it reads itself, `steps` later.
        Expr at = next(begin) + row * wide(i / vector) + wide(i % vector) * line;
        int share = numerics::tree * vector;
        if (by_vectors && turns && *turns > 0) {
            const int count = static_cast<int>(*turns), lines = ceil_div(count * reading.lanes, line);  // of a row
            share = ceil_div(numerics::tree * lines, count);
            const Expr place = (turn - loop.min) * share + i;
            at = next(substitute(loop.name, loop.min, begin)) + row * wide(place / lines) + wide(place % lines) * line;
        }
        const Expr address = Variable::make(Handle(), name);
        into.push_back(Evaluate::make(
            Call::make(reading.element, Call::prefetch, {address, simplify(at), Expr(1), Expr(1)}, Call::Intrinsic)));
        return share;
    }

    std::vector<std::string> inputs_;
    int steps_;
};

}  // namespace

std::unique_ptr<IRMutator> fetch_steps(std::vector<std::string> inputs, int steps) {
    return std::make_unique<FetchSteps>(std::move(inputs), steps);
}

}  // namespace fusebn
