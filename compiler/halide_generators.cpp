// y = act( gamma * (x - mean) / sqrt(var + eps) + beta )
//
// The algorithms as ordinary Halide generators, for a Halide user's own add_halide_library:
//
//   add_executable(bn_generators)
//   target_link_libraries(bn_generators PRIVATE Halide::Generator fusebn_halide_generators)
//   add_halide_library(my_bn FROM bn_generators GENERATOR bn_train_forward FEATURES strict_float
//                      PARAMS view=planar channels=64 inner=3136 activation=relu)
//
//   bn_inference       x, gamma, beta, mean, var, eps -> y
//   bn_train_forward   x, gamma, beta, running_mean, running_var, eps, momentum, ddof
//                      -> y, mean, inv_std, new_running_mean, new_running_var
//
// in the order of fusebn/kernel_abi.h, as buffers whose first dimension is contiguous:
//
//   x, y                planar (s, c, n), interleaved (c, r)    f32
//   gamma and the rest  (c)                                     f32
//   eps, momentum       f64
//   ddof                i32: the running variance takes M2 / (count - ddof)
//
// Streaming stores and prefetches are made by the LLVM stage behind the fusebn command, so here a schedule's `store`
// and `prefetch` change nothing. The file stands in this room because it joins the algorithms to their schedules, and
// generators/ knows nothing of schedules/.

#include <Halide.h>

#include <string>
#include <vector>

#include "generators/batch_norm.h"
#include "schedules/apply.h"

namespace fusebn {
namespace {

using Halide::Expr;

// A chunk may be cut short by the end of x. Halide takes it for a whole one where it checks, at a kernel's start, that
// x holds all that is read, and would refuse most shapes. The extents of all buffers are checked for equality beside
// that, so nothing is lost.
class DropAccessChecks : public Halide::Internal::IRMutator {
    using IRMutator::visit;
    Halide::Internal::Stmt visit(const Halide::Internal::AssertStmt* op) override {
        const auto* error = op->message.as<Halide::Internal::Call>();
        const bool access = error != nullptr && error->name == "halide_error_access_out_of_bounds";
        return access ? Halide::Internal::Evaluate::make(0) : IRMutator::visit(op);
    }
};

template <Op op>
class BatchNormGenerator : public Halide::Generator<BatchNormGenerator<op>> {
    using Base = Halide::Generator<BatchNormGenerator<op>>;
    template <class T>
    using Param = Halide::GeneratorParam<T>;
    using Vector = Halide::Buffer<float>;
    template <class T>
    using In = typename Base::template Input<T>;
    template <class T>
    using Out = typename Base::template Output<T>;

public:
    Param<View> view{"view", View::planar, {{"planar", View::planar}, {"interleaved", View::interleaved}}};
    Param<Activation> activation{
        "activation", Activation::none, {{"none", Activation::none}, {"relu", Activation::relu}}};
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
        x_ = this->template add_input<Vector>("x", dimensions);
        const bool train = op == Op::train_forward;
        for (const char* name : {"gamma", "beta", train ? "running_mean" : "mean", train ? "running_var" : "var"}) {
            vectors_.push_back(this->template add_input<Vector>(name, 1));
        }
        eps_ = this->template add_input<double>("eps");
        y_ = this->template add_output<Vector>("y", dimensions);
        if (!train) return;
        momentum_ = this->template add_input<double>("momentum");
        ddof_ = this->template add_input<int>("ddof");
        for (const char* name : {"mean", "inv_std", "new_running_mean", "new_running_var"}) {
            channel_outputs_.push_back(this->template add_output<Vector>(name, 1));
        }
    }

    void generate() {
        // Halide may otherwise reorder the sums whose order is the algorithm's.
        _halide_user_assert(this->get_target().has_feature(Halide::Target::StrictFloat))
            << "batch norm needs the target feature strict_float: add_halide_library(... FEATURES strict_float)";

        const bool planar = view == View::planar;
        const KernelSpec spec{
            op, view, DataType::f32, activation, extent(outer), extent(channels), planar ? extent(inner) : 1};
        BatchNormInputs in;
        in.x = *x_;
        in.gamma = *vectors_[0];
        in.beta = *vectors_[1];
        in.mean = in.running_mean = *vectors_[2];
        in.var = in.running_var = *vectors_[3];
        in.eps = *eps_;
        if (op == Op::train_forward) {
            in.momentum = *momentum_;
            in.ddof = *ddof_;
        }
        in.inner = planar ? Expr(x_->dim(0).extent()) : Expr(1);
        in.channels = x_->dim(planar ? 1 : 0).extent();
        in.outer = x_->dim(planar ? 2 : 1).extent();
        funcs_ = batch_norm(spec, in);

        const std::vector<Expr> tensor = planar ? std::vector<Expr>{funcs_.inner, funcs_.channels, funcs_.outer}
                                                : std::vector<Expr>{funcs_.channels, funcs_.outer};
        *y_ = funcs_.y;
        constrain(*x_, tensor);
        constrain(*y_, tensor);
        for (auto* v : vectors_) constrain(*v, {funcs_.channels});
        for (std::size_t i = 0; i < channel_outputs_.size(); ++i) {
            *channel_outputs_[i] = funcs_.channel_outputs[i];
            constrain(*channel_outputs_[i], {funcs_.channels});
        }
    }

    void schedule() {
        std::string text = schedule_text;
        for (char& c : text) c = c == ':' ? '=' : c;
        apply_cpu(funcs_, spec_schedule(text, funcs_.spec, default_schedule(funcs_.spec)));
        this->get_pipeline().add_custom_lowering_pass(new DropAccessChecks);
    }

private:
    BatchNormFuncs funcs_;
    In<Vector>* x_ = nullptr;
    std::vector<In<Vector>*> vectors_;
    In<double>*eps_ = nullptr, *momentum_ = nullptr;
    In<int>* ddof_ = nullptr;
    Out<Vector>* y_ = nullptr;
    std::vector<Out<Vector>*> channel_outputs_;

    static std::int64_t extent(int given) { return given < 0 ? any_extent : given; }

    // Every buffer starts at 0; what is fixed becomes a constant, and a check of Halide's at the kernel's start.
    template <class Buffer>
    static void constrain(Buffer& b, const std::vector<Expr>& extents) {
        b.dim(0).set_stride(1);
        for (std::size_t i = 0; i < extents.size(); ++i) b.dim(static_cast<int>(i)).set_bounds(0, extents[i]);
    }
};

using Inference = BatchNormGenerator<Op::inference>;
using TrainForward = BatchNormGenerator<Op::train_forward>;

}  // namespace
}  // namespace fusebn

HALIDE_REGISTER_GENERATOR(fusebn::Inference, bn_inference)
HALIDE_REGISTER_GENERATOR(fusebn::TrainForward, bn_train_forward)
