#include "kernels/run.h"

#include <cstring>
#include <optional>

#include "kernels/placed.h"

namespace kernels {

using namespace fusebn;

namespace {

class Layer : public BatchNorm1d {
public:
    Layer(const KernelTable& table, const Case& c, Activation activation, const Parameters& p, const How& how)
        : BatchNorm1d(static_cast<int>(c.channels), table, options(activation, how.device)) {
        EXPECT_TRUE(status().ok()) << status().message();
        BatchNormState s = state();
        s.gamma = p.gamma;
        s.beta = p.beta;
        s.running_mean = p.running_mean;
        s.running_var = p.running_var;
        EXPECT_TRUE(set_state(s).ok());
        train(c.op != Op::inference);
        if (how.frozen) {
            EXPECT_TRUE(freeze_statistics().ok());
        }
    }

private:
    static BatchNormOptions options(Activation activation, Device device) {
        BatchNormOptions o;
        o.device = device;
        o.activation = activation;
        o.slope = static_cast<double>(slope);
        return o;
    }
};

}  // namespace

Result run(const KernelTable& table, const Case& c, const Inputs& inputs, const How& how) {
    const InstructionSet isa_before = instruction_set();
    EXPECT_TRUE(set_instruction_set(how.isa).ok());
    EXPECT_TRUE(set_num_threads(how.threads).ok());

    Layer layer(table, c, c.activation, inputs.p, how);
    std::optional<Layer> other;
    if (c.has_two_branches()) other.emplace(table, c, Activation::none, inputs.p2, how);
    Placed x(c, how);
    std::optional<Placed> dy, addend, own_out, own_addend_out;
    x.fill(inputs.x);
    if (c.residual != Residual::none) addend.emplace(c, how).fill(inputs.addend);
    if (c.op == Op::backward) dy.emplace(c, how).fill(inputs.dy);
    const auto place = [&](Place where, std::optional<Placed>& own) -> Placed& {
        switch (where) {
            case Place::apart: break;
            case Place::x: return x;
            case Place::dy: return *dy;
            case Place::addend: return *addend;
        }
        return own.emplace(c, how);
    };
    const bool two_outputs = c.op == Op::backward && c.residual != Residual::none;
    Placed& out = place(how.out, own_out);
    Placed& addend_out = two_outputs ? place(how.addend_out, own_addend_out) : out;

    const auto forward = [&](const Tensor& y) {
        switch (c.residual) {
            case Residual::none: return layer.forward(x.tensor(), y);
            case Residual::add: return layer.forward_add(x.tensor(), addend->tensor(), y);
            case Residual::batch_norm: return layer.forward_sum(x.tensor(), *other, addend->tensor(), y);
        }
        return Status();
    };
    const auto backward = [&]() {
        std::optional<Tensor> dx, daddend;
        if (!how.without_tensors) dx = out.tensor(), daddend = addend_out.tensor();
        BackwardOptions options;
        switch (c.residual) {
            case Residual::none: return layer.backward(x.tensor(), dy->tensor(), dx);
            case Residual::add:
                if (!c.has_mask()) options.residual = addend->tensor();
                return layer.backward_add(x.tensor(), dy->tensor(), dx, daddend, options);
            case Residual::batch_norm:
                return layer.backward_sum(x.tensor(), *other, addend->tensor(), dy->tensor(), dx, daddend);
        }
        return Status();
    };
    Status status;
    if (c.op == Op::backward) {
        Placed y(c, how);
        status = forward(y.tensor());
        EXPECT_TRUE(status.ok()) << status.message();
        status = backward();
    } else {
        status = forward(out.tensor());
    }
    EXPECT_TRUE(status.ok()) << status.message();

    Result result;
    result.kernel = BatchNorm::last_kernel();
    if (!how.without_tensors) {
        result.tensors.push_back(out.gather());
        if (two_outputs) result.tensors.push_back(addend_out.gather());
    }
    result.rest_untouched = x.rest_untouched();
    for (const auto* placed : {&dy, &addend, &own_out, &own_addend_out}) {
        if (*placed && !(*placed)->rest_untouched()) result.rest_untouched = false;
    }
    // An input that no output lies on is as it was.
    const auto unchanged = [&](const std::optional<Placed>& input, const Elements& before) {
        return !input || &*input == &out || &*input == &addend_out || input->gather() == before;
    };
    if (!unchanged(dy, inputs.dy) || !unchanged(addend, inputs.addend)) result.rest_untouched = false;
    if (&x != &out && &x != &addend_out && !(x.gather() == inputs.x)) result.rest_untouched = false;
    result.mean = layer.saved_mean();
    result.inv_std = layer.saved_inv_std();
    result.running_mean = layer.state().running_mean;
    result.running_var = layer.state().running_var;
    result.dgamma = layer.grad_gamma();
    result.dbeta = layer.grad_beta();
    result.saved_bytes = layer.saved_bytes();
    if (other) {
        result.mean2 = other->saved_mean();
        result.inv_std2 = other->saved_inv_std();
        result.running_mean2 = other->state().running_mean;
        result.running_var2 = other->state().running_var;
        result.dgamma2 = other->grad_gamma();
        result.dbeta2 = other->grad_beta();
    }
    EXPECT_TRUE(set_instruction_set(isa_before).ok());
    return result;
}

namespace {

template <class T>
std::string compare(const char* what, const std::vector<T>& u, const std::vector<T>& v) {
    if (u.size() != v.size()) return std::string(what) + ": of different sizes";
    for (std::size_t i = 0; i < u.size(); ++i) {
        if (std::memcmp(&u[i], &v[i], sizeof(T)) == 0) continue;
        return std::string(what) + "[" + std::to_string(i) + "]: " + std::to_string(u[i]) + " and " +
               std::to_string(v[i]);
    }
    return "";
}

std::string compare(const char* what, const Elements& u, const Elements& v) {
    if (u.size() != v.size()) return std::string(what) + ": of different sizes";
    for (std::size_t i = 0; i < u.size(); ++i) {
        if (u.bits(i) == v.bits(i)) continue;
        return std::string(what) + "[" + std::to_string(i) + "]: " + std::to_string(u.value(i)) + " and " +
               std::to_string(v.value(i));
    }
    return "";
}

}  // namespace

bool ran_on(const Result& result, InstructionSet isa) {
    const std::string variant = " " + std::string(to_string(isa));
    return result.kernel.find(variant + " [") != std::string::npos ||
           result.kernel.find(variant + " for ") != std::string::npos;
}

std::string difference(const Result& a, const Result& b) {
    if (a.tensors.size() != b.tensors.size()) return "tensors: other ones";
    for (std::size_t i = 0; i < a.tensors.size(); ++i) {
        const std::string found = compare(i == 0 ? "y or dx" : "dresidual or dx2", a.tensors[i], b.tensors[i]);
        if (!found.empty()) return found;
    }
    for (const auto& found :
         {compare("mean", a.mean, b.mean), compare("inv_std", a.inv_std, b.inv_std),
          compare("running_mean", a.running_mean, b.running_mean), compare("running_var", a.running_var, b.running_var),
          compare("dgamma", a.dgamma, b.dgamma), compare("dbeta", a.dbeta, b.dbeta), compare("mean2", a.mean2, b.mean2),
          compare("inv_std2", a.inv_std2, b.inv_std2), compare("running_mean2", a.running_mean2, b.running_mean2),
          compare("running_var2", a.running_var2, b.running_var2), compare("dgamma2", a.dgamma2, b.dgamma2),
          compare("dbeta2", a.dbeta2, b.dbeta2)}) {
        if (!found.empty()) return found;
    }
    return "";
}

std::vector<InstructionSet> instruction_sets_here() {
    std::vector<InstructionSet> here;
    for (const auto& isa : instruction_set_names) {
        if (supports(isa.value)) here.push_back(isa.value);
    }
    return here;
}

}  // namespace kernels
