#include "compiler/lower_launches.h"

#include <algorithm>

namespace fusebn {

using namespace Halide;

namespace {

class Launches : public Internal::IRVisitor {
public:
    explicit Launches(const std::map<std::string, Expr>& known) : known_(known) {}
    std::vector<Launch> found;

private:
    using Internal::IRVisitor::visit;

    int value(const Expr& e) const {
        const auto constant = Internal::as_const_int(Internal::simplify(Internal::substitute(known_, e)));
        return constant ? static_cast<int>(*constant) : DeviceFunction::any;
    }
    static int product(int a, int b) {
        return a == DeviceFunction::any || b == DeviceFunction::any ? DeviceFunction::any : a * b;
    }

    void visit(const Internal::LetStmt* op) override {
        op->value.accept(this);
        if (!known_.count(op->name) && op->value.type() == Int(32)) {
            const int v = value(op->value);
            if (v != DeviceFunction::any) known_[op->name] = v;
        }
        op->body.accept(this);
    }
    // halide_cuda_run(state, name, 3 extents of the grid, 3 of a block, bytes of shared memory, ...)
    void visit(const Internal::Call* op) override {
        IRVisitor::visit(op);
        if (op->name != "halide_cuda_run" && op->name != "halide_opencl_run") return;
        const auto* name = op->args[1].as<Internal::StringImm>();
        if (!name) return;
        Launch launch{name->value, 1, value(op->args[8])};
        for (size_t i = 5; i < 8; ++i) launch.threads = product(launch.threads, value(op->args[i]));
        found.push_back(launch);
    }

    std::map<std::string, Expr> known_;
};

}  // namespace

std::vector<Launch> launches_of(const Module& module, const std::map<std::string, Expr>& known) {
    Launches launches(known);
    for (const Internal::LoweredFunc& f : module.functions()) f.body.accept(&launches);
    return launches.found;
}

}  // namespace fusebn
