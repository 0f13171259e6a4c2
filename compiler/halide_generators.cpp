// y = act( gamma * (x - mean) / sqrt(var + eps) + beta ), and its gradient
//
// The algorithms as ordinary Halide generators, for a Halide user's own add_halide_library:
//
//   add_executable(bn_generators)
//   target_link_libraries(bn_generators PRIVATE Halide::Generator fusebn_halide_generators)
//   add_halide_library(my_bn FROM bn_generators GENERATOR bn_train_forward FEATURES strict_float
//                      PARAMS view=planar channels=64 inner=3136 activation=relu)
//
//   bn_inference       x, gamma, beta, mean, var, eps, slope -> y
//   bn_train_forward   x, gamma, beta, running_mean, running_var, eps, momentum, ddof, slope
//                      -> y, mean, inv_std, new_running_mean, new_running_var
//   bn_backward        x, dy, gamma, beta, mean, inv_std, batch_statistics, sums, slope -> dx, dgamma, dbeta
//
// in the order and with the meaning of fusebn/kernel_abi.h, as buffers whose first dimension is contiguous:
//
//   x, y, dy, dx        planar (s, c, n), interleaved (c, r)    f32
//   mean, inv_std       (c), f64 as train_forward's outputs and backward's inputs
//   all other vectors   (c), f32
//   eps, momentum       f64; slope f32; the others i32
//
// Streaming stores and prefetches are made by the LLVM stage behind the fusebn command, and that tensors have no gaps
// between channels is for the runtime to see, so here a schedule's `store`, `prefetch`, `steps`, `ahead`, `repeat` and
// `join` change nothing. The file stands in this room because it joins the algorithms to their schedules, and
// generators/ knows nothing of schedules/.

#include <Halide.h>

#include <map>
#include <string>
#include <vector>

#include "generators/batch_norm.h"
#include "schedules/apply.h"

namespace fusebn {
namespace {

using Halide::Expr;

// A chunk may be cut short by the end of x. Halide takes it for a whole one where it checks, at a kernel's start, that
// x holds all that is read, and would refuse most shapes. The extents of all buffers are checked for equality beside
// that, so nothing is lost. The error's call may lie within lets of what it shares with the condition.
class DropAccessChecks : public Halide::Internal::IRMutator {
    using IRMutator::visit;
    Halide::Internal::Stmt visit(const Halide::Internal::AssertStmt* op) override {
        Expr message = op->message;
        while (const auto* let = message.as<Halide::Internal::Let>()) message = let->body;
        const auto* error = message.as<Halide::Internal::Call>();
        const bool access = error != nullptr && error->name == "halide_error_access_out_of_bounds";
        return access ? Halide::Internal::Evaluate::make(0) : IRMutator::visit(op);
    }
};

template <Op op>
class BatchNormGenerator : public Halide::Generator<BatchNormGenerator<op>> {
    using Base = Halide::Generator<BatchNormGenerator<op>>;
    template <class T>
    using Param = Halide::GeneratorParam<T>;
    using Buffer = Halide::Buffer<>;
    template <class T>
    using In = typename Base::template Input<T>;
    using Func = Halide::Func;
    template <class T>
    using Out = typename Base::template Output<T>;

public:
    Param<View> view{"view", View::planar, {{"planar", View::planar}, {"interleaved", View::interleaved}}};
    Param<Activation> activation{"activation", Activation::none, activations()};
    // -1: known at run time only. inner is planar's.
    Param<int> outer{"outer", -1, -1, max_extent};
    Param<int> channels{"channels", -1, -1, max_extent};
    Param<int> inner{"inner", -1, -1, max_extent};
    // Over the default schedule, the text form of schedules/schedule.h with ':' for '=', which Halide's command line
    // keeps for itself: "vector:8 unroll:2".
    Param<std::string> schedule_text{"schedule", ""};

    // The number of x's dimensions is the view's, so nothing can be declared as a member.
    void configure() {
        const int dimensions = view == View::planar ? 3 : 2;
        constexpr bool train = op == Op::train_forward, back = op == Op::backward;
        tensors_.push_back(this->template add_input<Buffer>("x", Halide::Float(32), dimensions));
        if (back) tensors_.push_back(this->template add_input<Buffer>("dy", Halide::Float(32), dimensions));
        const auto vector = [&](const char* name, int bits) {
            vectors_.push_back(this->template add_input<Buffer>(name, Halide::Float(bits), 1));
        };
        vector("gamma", 32);
        vector("beta", 32);
        vector(train ? "running_mean" : "mean", back ? 64 : 32);
        vector(train ? "running_var" : back ? "inv_std" : "var", back ? 64 : 32);
        if (!back) eps_ = this->template add_input<double>("eps");
        if (train) {
            momentum_ = this->template add_input<double>("momentum");
            ddof_ = this->template add_input<int>("ddof");
        }
        if (back) {
            batch_statistics_ = this->template add_input<int>("batch_statistics");
            sums_ = this->template add_input<int>("sums");
        }
        slope_ = this->template add_input<float>("slope");
        tensor_ = this->template add_output<Buffer>(back ? "dx" : "y", Halide::Float(32), dimensions);
        // A buffer each: mean, inv_std, new_running_mean, new_running_var; dgamma, dbeta.
        using Types = std::vector<Halide::Type>;
        const Halide::Type single = Halide::Float(32), twice = Halide::Float(64);
        if (train) channels_ = this->template add_output<Func>("statistics", Types{twice, twice, single, single}, 1);
        if (back) channels_ = this->template add_output<Func>("gradients", Types{single, single}, 1);
    }

    void generate() {
        // Halide may otherwise reorder the sums whose order is the algorithm's.
        _halide_user_assert(this->get_target().has_feature(Halide::Target::StrictFloat))
            << "batch norm needs the target feature strict_float: add_halide_library(... FEATURES strict_float)";

        const bool planar = view == View::planar;
        KernelSpec spec;
        spec.op = op;
        spec.view = view;
        spec.activation = activation;
        spec.outer = extent(outer);
        spec.channels = extent(channels);
        spec.inner = planar ? extent(inner) : 1;
        BatchNormInputs in;
        in.branch.x = *tensors_[0];
        in.branch.gamma = *vectors_[0];
        in.branch.beta = *vectors_[1];
        (op == Op::backward ? in.branch.saved_mean : in.branch.mean) = *vectors_[2];
        (op == Op::backward ? in.branch.inv_std : in.branch.var) = *vectors_[3];
        if (op == Op::backward) {
            in.dy = *tensors_[1];
            in.branch.batch_statistics = *batch_statistics_;
            in.sums = *sums_;
        } else {
            in.branch.eps = *eps_;
        }
        if (op == Op::train_forward) {
            in.branch.momentum = *momentum_;
            in.branch.ddof = *ddof_;
        }
        in.slope = *slope_;
        in.inner = planar ? Expr(tensors_[0]->dim(0).extent()) : Expr(1);
        in.channels = tensors_[0]->dim(planar ? 1 : 0).extent();
        in.outer = tensors_[0]->dim(planar ? 2 : 1).extent();
        in.stays_within = has_chunks_side_by_side(chosen(spec));  // as lower.cpp has it
        funcs_ = batch_norm(spec, in);

        const std::vector<Expr> tensor =
            planar ? std::vector<Expr>{funcs_.shape.inner, funcs_.shape.channels, funcs_.shape.outer}
                   : std::vector<Expr>{funcs_.shape.channels, funcs_.shape.outer};
        const std::vector<Expr> vector = {funcs_.shape.channels};
        for (auto* x : tensors_) constrain(*x, tensor);
        for (auto* v : vectors_) constrain(*v, vector);
        *tensor_ = funcs_.tensors;
        constrain(*tensor_, tensor);
        if (channels_) {
            *channels_ = funcs_.channel_results;
            std::vector<Halide::OutputImageParam> buffers = funcs_.channel_results.output_buffers();
            constrain(buffers[0], vector);
            // Halide takes the others' extents from the first.
            for (std::size_t i = 1; i < buffers.size(); ++i) constrain(buffers[i], {});
        }
    }

    void schedule() {
        apply_cpu(funcs_, chosen(funcs_.spec));
        this->get_pipeline().add_custom_lowering_pass(new DropAccessChecks);
    }

private:
    Schedule chosen(const KernelSpec& spec) const {
        std::string text = schedule_text;
        for (char& c : text) c = c == ':' ? '=' : c;
        const Schedule s = spec_schedule(text, spec, default_schedule(spec));
        return s.join ? apart(s, spec) : s;
    }

    BatchNormFuncs funcs_;
    std::vector<In<Buffer>*> tensors_, vectors_;
    In<double>*eps_ = nullptr, *momentum_ = nullptr;
    In<int>*ddof_ = nullptr, *batch_statistics_ = nullptr, *sums_ = nullptr;
    In<float>* slope_ = nullptr;
    Out<Buffer>* tensor_ = nullptr;
    Out<Func>* channels_ = nullptr;

    static std::map<std::string, Activation> activations() {
        std::map<std::string, Activation> all;
        for (const auto& a : activation_names) all.emplace(a.name, a.value);
        return all;
    }

    static std::int64_t extent(int given) { return given < 0 ? any_extent : given; }

    // Every buffer starts at 0; what is fixed becomes a constant, and a check of Halide's at the kernel's start.
    template <class AnyBuffer>
    static void constrain(AnyBuffer& b, const std::vector<Expr>& extents) {
        b.dim(0).set_stride(1);
        for (std::size_t i = 0; i < extents.size(); ++i) b.dim(static_cast<int>(i)).set_bounds(0, extents[i]);
    }
};

using Inference = BatchNormGenerator<Op::inference>;
using TrainForward = BatchNormGenerator<Op::train_forward>;
using Backward = BatchNormGenerator<Op::backward>;

}  // namespace
}  // namespace fusebn

HALIDE_REGISTER_GENERATOR(fusebn::Inference, bn_inference)
HALIDE_REGISTER_GENERATOR(fusebn::TrainForward, bn_train_forward)
HALIDE_REGISTER_GENERATOR(fusebn::Backward, bn_backward)
