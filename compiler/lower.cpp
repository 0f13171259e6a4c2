#include "compiler/lower.h"

#include <Halide.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "generators/batch_norm.h"
#include "generators/numerics.h"
#include "schedules/apply.h"

namespace fusebn {

using namespace Halide;

namespace {

// The runtime has checked every argument, so the checks that Halide makes at a kernel's start go. Those of its
// allocations are made by a later stage and stay.
class DropArgumentChecks : public Internal::IRMutator {
    using Internal::IRMutator::visit;
    Internal::Stmt visit(const Internal::AssertStmt*) override { return Internal::Evaluate::make(0); }
};

Target target_of(InstructionSet isa, bool large) {
    Target t(Target::Linux, Target::X86, 64,
             {Target::StrictFloat, Target::NoRuntime, Target::NoBoundsQuery, Target::UserContext, Target::SSE41});
    if (isa >= InstructionSet::x86_64_avx2) {
        for (auto f : {Target::AVX, Target::AVX2, Target::FMA, Target::F16C}) t.set_feature(f);
    }
    if (isa >= InstructionSet::x86_64_avx512) {
        for (auto f : {Target::AVX512, Target::AVX512_Skylake}) t.set_feature(f);
    }
    if (large) t.set_feature(Target::LargeBuffers);
    return t;
}

// The kernel's formal parameters, in the order of kernel_abi.h.
struct Parameters {
    ImageParam x, gamma{Float(32), 1, "gamma"}, beta{Float(32), 1, "beta"};
    ImageParam mean{Float(32), 1, "mean_in"}, var{Float(32), 1, "var_in"};
    Param<double> eps{"eps"}, momentum{"momentum"};
    Param<int> ddof{"ddof"};

    explicit Parameters(const KernelSpec& spec) : x(Float(32), spec.view == View::planar ? 3 : 2, "x") {}

    BatchNormInputs inputs(const KernelSpec& spec) {
        BatchNormInputs in;
        in.x = x;
        in.gamma = gamma;
        in.beta = beta;
        in.mean = in.running_mean = mean;
        in.var = in.running_var = var;
        in.eps = eps;
        in.momentum = momentum;
        in.ddof = ddof;
        const bool planar = spec.view == View::planar;
        in.inner = planar ? Expr(x.dim(0).extent()) : Expr(1);
        in.channels = x.dim(planar ? 1 : 0).extent();
        in.outer = x.dim(planar ? 2 : 1).extent();
        return in;
    }

    std::vector<Argument> arguments(Op op) const {
        if (op == Op::inference) return {x, gamma, beta, mean, var, eps};
        return {x, gamma, beta, mean, var, eps, momentum, ddof};
    }
};

// Every buffer starts at 0 and is dense along its first dimension; fixed extents are constants.
void constrain(OutputImageParam p, const std::vector<Expr>& extents) {
    p.dim(0).set_stride(1);
    for (size_t i = 0; i < extents.size(); ++i) p.dim(static_cast<int>(i)).set_bounds(0, extents[i]);
}

struct Kernel {
    Parameters parameters;
    BatchNormFuncs funcs;
    Pipeline pipeline;
    Target target;
    DropArgumentChecks drop;

    Kernel(const KernelSpec& spec, const Schedule& schedule, InstructionSet isa, bool large)
        : parameters(spec), target(target_of(isa, large)) {
        funcs = batch_norm(spec, parameters.inputs(spec));
        const Expr C = funcs.channels;
        const std::vector<Expr> tensor = spec.view == View::planar ? std::vector<Expr>{funcs.inner, C, funcs.outer}
                                                                   : std::vector<Expr>{C, funcs.outer};
        constrain(parameters.x, tensor);
        constrain(funcs.y.output_buffer(), tensor);
        for (ImageParam* p : {&parameters.gamma, &parameters.beta, &parameters.mean, &parameters.var}) {
            constrain(*p, {C});
        }
        for (Func& o : funcs.channel_outputs) constrain(o.output_buffer(), {C});
        apply_cpu(funcs, schedule);
        pipeline = Pipeline(funcs.outputs());
        pipeline.add_custom_lowering_pass(&drop, nullptr);
    }

    Module module(Op op, const std::string& name) {
        return pipeline.compile_to_module(parameters.arguments(op), name, target, LinkageType::ExternalPlusArgv);
    }
};

constexpr std::int64_t page_bytes = 4096;

class TemporaryFile {
public:
    TemporaryFile() {
        const char* dir = std::getenv("TMPDIR");
        path_ = std::string(dir && *dir ? dir : "/tmp") + "/fusebn-XXXXXX";
        const int fd = mkstemp(path_.data());
        if (fd < 0) throw std::runtime_error("cannot create a temporary file like " + path_);
        close(fd);
    }
    ~TemporaryFile() { unlink(path_.c_str()); }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    const std::string& path() const { return path_; }
    std::string read() const {
        std::ifstream in(path_, std::ios::binary);
        std::ostringstream text;
        text << in.rdbuf();
        return text.str();
    }

private:
    std::string path_;
};

// A warning of Halide's means that it emits something else than what was asked for ("guaranteed to fail an assertion"),
// so it ends the compilation as an error does.
class Strict : public CompileTimeErrorReporter {
    void warning(const char* message) override { throw std::runtime_error(message); }
    void error(const char* message) override { throw std::runtime_error(message); }
};

template <class F>
auto with_reason(const KernelSpec& spec, F&& f) -> decltype(f()) {
    static Strict strict;
    set_custom_compile_time_error_reporter(&strict);
    try {
        return f();
    } catch (const ScheduleError&) {
        throw;
    } catch (const std::runtime_error& e) {
        throw std::runtime_error("Halide cannot compile " + kernel_name(spec) + ": " + e.what());
    }
}

}  // namespace

Lowered lower(const KernelSpec& spec, const Schedule& schedule, InstructionSet isa, bool large) {
    return with_reason(spec, [&]() -> Lowered {
        Kernel kernel(spec, schedule, isa, large);
        const std::string name = kernel_name(spec);
        const Module module = kernel.module(spec.op, name);
        const TemporaryFile file;
        module.compile({{OutputFileType::bitcode, file.path()}});
        Lowered lowered{file.read(), name + "_argv", kernel.parameters.x.name(), kernel.funcs.y.name()};
        if (schedule.store == Schedule::Store::stream) lowered.stream_alignment = stream_alignment(spec);
        const std::int64_t element = element_bytes(spec.dtype);
        if (spec.view == View::planar) {
            lowered.fetch_in_apply = schedule.prefetch * schedule.task * spec.inner * element;
        } else {
            lowered.fetch_in_sum = schedule.prefetch * numerics::interleaved::chunk_rows * spec.channels * element;
        }
        if (schedule.ahead > 0) lowered.fetch_in_apply = schedule.ahead * page_bytes;
        return lowered;
    });
}

std::string lowered_statement(const KernelSpec& spec, const Schedule& schedule, InstructionSet isa, bool large) {
    return with_reason(spec, [&] {
        Kernel kernel(spec, schedule, isa, large);
        std::ostringstream text;
        text << kernel.module(spec.op, kernel_name(spec));
        return text.str();
    });
}

}  // namespace fusebn
