#include "compiler/lower.h"

#include <Halide.h>

#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>

#include "compiler/fetch_steps.h"
#include "compiler/files.h"
#include "compiler/lower_launches.h"
#include "compiler/lower_mutators.h"
#include "compiler/lower_parameters.h"
#include "compiler/neighbours.h"
#include "generators/batch_norm.h"
#include "generators/elements.h"
#include "generators/numerics.h"
#include "schedules/apply.h"

namespace fusebn {

using namespace Halide;

namespace {

Target target_of(InstructionSet isa, bool large) {
    if (is_device(isa)) {
        Target t = target_of(InstructionSet::x86_64, large);
        if (isa == InstructionSet::opencl) return t.with_feature(Target::OpenCL).with_feature(Target::CLDoubles);
        return t.with_feature(Target::CUDA).with_feature(Target::CUDACapability80);
    }
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

// Every buffer starts at 0 and is dense along its first dimension; fixed extents are constants. An extent that is not
// defined is the caller's choice.
void constrain(OutputImageParam p, const std::vector<Expr>& extents) {
    p.dim(0).set_stride(1);
    for (size_t i = 0; i < extents.size(); ++i) {
        if (extents[i].defined()) {
            p.dim(static_cast<int>(i)).set_bounds(0, extents[i]);
        } else {
            p.dim(static_cast<int>(i)).set_min(0);
        }
    }
}

// A mask's rows start with a word of bits (kernel_abi.h), which are bytes here.
void start_words(OutputImageParam mask) {
    mask.set_host_alignment(FUSEBN_MASK_ALIGNMENT);
    for (int i = 1; i < mask.dimensions(); ++i) {
        mask.dim(i).set_stride(mask.dim(i).stride() / FUSEBN_MASK_ALIGNMENT * FUSEBN_MASK_ALIGNMENT);
    }
}

struct Kernel {
    KernelSpec spec;
    Parameters parameters;
    BatchNormFuncs funcs;
    Pipeline pipeline;
    Target target;
    std::vector<std::unique_ptr<Internal::IRMutator>> mutators;

    Kernel(const KernelSpec& spec_, const Schedule& schedule, InstructionSet isa, bool large)
        : Kernel(spec_, isa, large,
                 is_device(isa) ? spec_.view == View::interleaved || schedule.parallel == Schedule::Parallel::channels
                                : has_chunks_side_by_side(schedule)) {
        if (is_device(isa)) {
            align(schedule.vector);
            apply_gpu(funcs, schedule);
        } else {
            if (schedule.join) close_gaps();
            apply_cpu(funcs, schedule);
            if (schedule.steps > 0) add(fetch_steps(summed(), schedule.steps));
            if (schedule.join) add(neighbours_together());
        }
    }

    Kernel(const KernelSpec& spec_, const Autoscheduler& autoscheduler, InstructionSet isa, bool large)
        : Kernel(spec_, isa, large, false) {
        estimate();
        load_plugin(autoscheduler.plugin);
        pipeline.apply_autoscheduler(target,
                                     {autoscheduler.name, {{"parallelism", std::to_string(autoscheduler.threads)}}});
    }

    // Not scheduled yet.
    Kernel(const KernelSpec& spec_, InstructionSet isa, bool large, bool stays_within)
        : spec(spec_), parameters(spec), target(target_of(isa, large)) {
        BatchNormInputs inputs = parameters.inputs(spec);
        inputs.stays_within = stays_within;
        funcs = batch_norm(spec, inputs);
        const Expr C = funcs.shape.channels;
        std::vector<Expr> tensor = spec.view == View::planar
                                       ? std::vector<Expr>{funcs.shape.inner, C, funcs.shape.outer}
                                       : std::vector<Expr>{C, funcs.shape.outer};
        for (ImageParam& p : parameters.tensors(spec)) constrain(p, tensor);
        start_words(parameters.mask);
        if (spec.op == Op::backward) tensor.back() = Expr();  // 0 where no dx is wanted
        // Halide takes the extents of a Tuple's other buffers from the first.
        for (OutputImageParam p : funcs.tensors.output_buffers()) {
            constrain(p, tensor);
            tensor.clear();
        }
        for (const Branch* b : {&parameters.branch, &parameters.branch2}) {
            for (ImageParam& p : b->vectors()) constrain(p, {C});
        }
        if (funcs.channel_results.defined()) {
            std::vector<Expr> channels = {C};
            for (OutputImageParam p : funcs.channel_results.output_buffers()) {
                constrain(p, channels);
                channels.clear();
            }
        }
        pipeline = Pipeline(funcs.outputs());
        const bool converts_f16 = target.has_feature(Target::F16C);
        for (auto& mutator : mutators_of(isa, converts_f16, funcs.tensors.name())) add(std::move(mutator));
    }

    void add(std::unique_ptr<Internal::IRMutator> mutator) {
        mutators.push_back(std::move(mutator));
        pipeline.add_custom_lowering_pass(mutators.back().get(), nullptr);
    }

    // Tensors that are read for sums; the bits of a mask are too few to be fetched.
    std::vector<std::string> summed() const {
        std::vector<std::string> names;
        for (const ImageParam& p : parameters.tensors(spec)) {
            const bool unsummed = spec.op == Op::train_forward && p.name() == parameters.residual.name();
            if (p.type() != UInt(8) && !unsummed) names.push_back(p.name());
        }
        return names;
    }

    // What autoschedulers ask for: every extent, as it will be.
    void estimate() {
        const auto extents = [&](int dimensions) {
            const auto number = [](std::int64_t e) { return static_cast<int>(e); };
            if (dimensions == 1) return std::vector<int>{number(spec.channels)};
            if (dimensions == 2) return std::vector<int>{number(spec.channels), number(spec.outer)};
            return std::vector<int>{number(spec.inner), number(spec.channels), number(spec.outer)};
        };
        const auto set = [&](auto& p) {
            const std::vector<int> e = extents(p.dimensions());
            for (int i = 0; i < p.dimensions(); ++i) p.dim(i).set_estimate(0, e[static_cast<size_t>(i)]);
        };
        for (ImageParam& p : parameters.tensors(spec)) set(p);
        for (Branch* b : {&parameters.branch, &parameters.branch2}) {
            for (ImageParam& p : b->vectors()) set(p);
            b->eps.set_estimate(1e-5);
            b->momentum.set_estimate(0.1);
            b->ddof.set_estimate(1);
            b->batch_statistics.set_estimate(1);
        }
        parameters.sums.set_estimate(1);
        parameters.slope.set_estimate(0.01f);
        for (Func& f : funcs.outputs()) {
            for (OutputImageParam& p : f.output_buffers()) set(p);
        }
    }

    // Those that it writes and reads.
    std::vector<OutputImageParam> all_tensors() const {
        std::vector<OutputImageParam> all = funcs.tensors.output_buffers();
        for (const ImageParam& p : parameters.tensors(spec)) all.push_back(p);
        return all;
    }

    // Rows of tensors lie at multiples of a vector.
    void align(int vector) {
        for (OutputImageParam& p : all_tensors()) {
            p.set_host_alignment(vector * p.type().bytes());
            for (int i = 1; i < parameters.dimensions; ++i) {
                p.dim(i).set_stride(p.dim(i).stride() / vector * vector);
            }
        }
    }

    // Between channels, so that their rows are one.
    void close_gaps() {
        for (OutputImageParam& p : all_tensors()) {
            if (p.type() != UInt(8)) p.dim(1).set_stride(funcs.shape.inner);
        }
    }

    Module module(const std::string& name) {
        return pipeline.compile_to_module(parameters.arguments(spec), name, target, LinkageType::ExternalPlusArgv);
    }

    Lowered lowered() {
        const std::string name = kernel_name(spec);
        const Module made = module(name);
        const TemporaryFile file;
        made.compile({{OutputFileType::bitcode, file.path()}});
        Lowered result;
        result.bitcode = read_file(file.path());
        result.entry = name + "_argv";
        describe(result);
        if (target.has_gpu_feature()) result.launches = launches_of(made, asked_for());
        return result;
    }

    // Shared memory depends on whether backward's tensors are asked for; where they are it is the most.
    std::map<std::string, Expr> asked_for() const {
        if (spec.op != Op::backward || spec.outer == any_extent) return {};
        const std::string first = funcs.tensors.name() + (funcs.tensors.outputs() == 1 ? "" : ".0");
        return {{first + ".extent." + std::to_string(parameters.dimensions - 1), static_cast<int>(spec.outer)}};
    }

    // What the LLVM stage is to know the tensors by.
    void describe(Lowered& lowered) const {
        for (const ImageParam& p : parameters.tensors(spec)) {
            (p.type() == UInt(8) ? lowered.masks : lowered.inputs).push_back(p.name());
        }
        if (spec.op == Op::train_forward) lowered.unsummed = {parameters.residual.name()};
        const std::string& name = funcs.tensors.name();
        const auto types = funcs.tensors.types();
        for (size_t i = 0; i < types.size(); ++i) {
            (types[i] == UInt(8) ? lowered.masks : lowered.outputs)
                .push_back(types.size() == 1 ? name : name + "." + std::to_string(i));
        }
    }
};

constexpr std::int64_t page_bytes = 4096;

// A warning of Halide's means that it emits something else than what was asked for ("guaranteed to fail an assertion"),
// so it ends the compilation as an error does. But for the one that x86-64 without F16C converts f16 in several steps.
class Strict : public CompileTimeErrorReporter {
    void warning(const char* message) override {
        if (std::string_view(message).find("float16 type operation is emulated") == std::string_view::npos) {
            throw std::runtime_error(message);
        }
    }
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
    if (isa == InstructionSet::opencl && spec.dtype == DataType::f16) {
        throw std::runtime_error(kernel_name(spec) + ": opencl has no f16; allowed: f32, bf16");
    }
    return with_reason(spec, [&]() -> Lowered {
        Lowered lowered = Kernel(spec, schedule, isa, large).lowered();
        if (schedule.store == Schedule::Store::stream) lowered.stream_alignment = stream_alignment(spec, schedule);
        if (schedule.join) {
            lowered.apart = std::make_shared<const Lowered>(lower(spec, apart(schedule, spec), isa, large));
        }
        const std::int64_t element = element_bytes(spec.dtype);
        const bool by_channels = spec.view == View::planar && schedule.parallel != Schedule::Parallel::rows;
        if (spec.op != Op::inference && by_channels) {
            const std::int64_t sample = spec.channels * spec.inner * element;
            // Once: to ask again gains nothing there (docs/performance.md).
            lowered.fetch_in_sum = {schedule.ahead * sample};
            lowered.fetch_in_apply = {schedule.prefetch * schedule.task * spec.inner * element, schedule.repeat};
            lowered.fetch_unsummed = lowered.fetch_in_apply;
            // In few samples there is hardly a next one.
            constexpr std::int64_t few = 4;
            const bool has_next = spec.channels != any_extent && (spec.outer == any_extent || spec.outer >= few);
            const bool fetches = schedule.prefetch > 0 || schedule.ahead > 0;
            if (has_next && fetches) lowered.fetch_unsummed.bytes = std::max(schedule.ahead, 1) * sample;
        } else {
            const std::int64_t chunk = numerics::interleaved::chunk_rows * spec.channels * element;
            lowered.fetch_in_sum = {schedule.prefetch * chunk, schedule.repeat};
            lowered.fetch_in_apply = lowered.fetch_unsummed = {schedule.ahead * page_bytes, schedule.repeat};
        }
        // Where loads may come from memory: planar sums, as prefetches may be dropped (the apply loop then reads what
        // they have read), and interleaved loops that fetch nothing ahead. Elsewhere the instruction more costs some
        // hundredths (docs/performance.md). Only AVX-512 has loads that wait for a mask.
        if (schedule.store == Schedule::Store::stream && isa == InstructionSet::x86_64_avx512) {
            lowered.early_in_sum = spec.view == View::planar || (schedule.prefetch == 0 && schedule.steps == 0);
            lowered.early_in_apply = spec.view == View::interleaved && schedule.ahead == 0;
        }
        return lowered;
    });
}

Lowered lower_autoscheduled(const KernelSpec& spec, const Autoscheduler& autoscheduler, InstructionSet isa,
                            bool large) {
    return with_reason(spec, [&]() -> Lowered { return Kernel(spec, autoscheduler, isa, large).lowered(); });
}

std::string lowered_statement(const KernelSpec& spec, const Schedule& schedule, InstructionSet isa, bool large) {
    return with_reason(spec, [&] {
        Kernel kernel(spec, schedule, isa, large);
        std::ostringstream text;
        text << kernel.module(kernel_name(spec));
        return text.str();
    });
}

}  // namespace fusebn
