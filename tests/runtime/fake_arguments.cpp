#include "fake_arguments.h"

namespace fusebn::test {
namespace {

// Reads and notes the arguments one after the other.
class Reader {
public:
    explicit Reader(void** argv, DataType dtype) : next_(argv + 1), dtype_(dtype) { fake_run.count = 0; }

    View3 tensor(const char* name) {
        const fusebn_buffer& b = buffer(name);
        const bool planar = b.dimensions == 3;
        const fusebn_dim &c = b.dim[planar ? 1 : 0], &n = b.dim[planar ? 2 : 1];
        return {place(b), dtype_, n.extent, c.extent, planar ? b.dim[0].extent : 1, n.stride, c.stride};
    }
    float* floats(const char* name) { return reinterpret_cast<float*>(place(buffer(name))); }
    double* doubles(const char* name) { return reinterpret_cast<double*>(place(buffer(name))); }
    template <class T>
    T scalar(const char* name) {
        FakeArgument& argument = note(name);
        argument.data = *next_;
        const T value = *static_cast<const T*>(*next_++);
        argument.value = static_cast<double>(value);
        return value;
    }

private:
    static std::uint8_t* place(const fusebn_buffer& b) {
        return b.device != 0 ? reinterpret_cast<std::uint8_t*>(static_cast<std::uintptr_t>(b.device)) : b.host;
    }
    FakeArgument& note(const char* name) {
        FakeArgument& argument = fake_run.arguments[fake_run.count++];
        argument = FakeArgument();
        argument.name = name;
        return argument;
    }
    const fusebn_buffer& buffer(const char* name) {
        const auto& b = *static_cast<const fusebn_buffer*>(*next_++);
        FakeArgument& argument = note(name);
        argument.data = place(b);
        argument.on_device = b.device != 0;
        argument.type_code = b.type_code;
        argument.type_bits = b.type_bits;
        argument.dimensions = b.dimensions;
        for (int i = 0; i < b.dimensions; ++i) {
            argument.extent[i] = b.dim[i].extent;
            argument.stride[i] = b.dim[i].stride;
        }
        return b;
    }

    void** next_;
    DataType dtype_;
};

}  // namespace

Arguments read_arguments(const Form& form, void** argv) {
    Arguments a;
    a.form = form;
    a.context = *static_cast<const fusebn_context**>(argv[0]);
    Reader in(argv, form.dtype);
    Branch &one = a.branch[0], &two = a.branch[1];
    const bool add = form.residual == Residual::add, sum = form.residual == Residual::batch_norm;
    if (form.op == Op::backward) {
        one.x = in.tensor("x");
        a.dy = in.tensor("dy");
        one.gamma = in.floats("gamma");
        one.beta = in.floats("beta");
        one.mean = in.doubles("mean");
        one.inv_std = in.doubles("inv_std");
        one.batch_statistics = in.scalar<std::int32_t>("batch_statistics");
        a.sums = in.scalar<std::int32_t>("sums");
        a.slope = in.scalar<float>("slope");
        if (add && a.has_mask()) a.mask = in.tensor("mask");
        if (add && !a.has_mask()) a.residual = in.tensor("residual");
        if (sum) {
            two.x = in.tensor("x2");
            two.gamma = in.floats("gamma2");
            two.beta = in.floats("beta2");
            two.mean = in.doubles("mean2");
            two.inv_std = in.doubles("inv_std2");
            two.batch_statistics = in.scalar<std::int32_t>("batch_statistics2");
        }
        one.dx = in.tensor("dx");
        if (add) a.dresidual = in.tensor("dresidual");
        if (sum) two.dx = in.tensor("dx2");
        one.new_running_mean = in.floats("dgamma");
        one.new_running_var = in.floats("dbeta");
        if (sum) two.new_running_mean = in.floats("dgamma2");
        if (sum) two.new_running_var = in.floats("dbeta2");
        return a;
    }
    const bool train = form.op == Op::train_forward;
    one.x = in.tensor("x");
    one.gamma = in.floats("gamma");
    one.beta = in.floats("beta");
    one.running_mean = in.floats(train ? "running_mean" : "mean");
    one.running_var = in.floats(train ? "running_var" : "var");
    one.eps = in.scalar<double>("eps");
    if (train) one.momentum = in.scalar<double>("momentum");
    if (train) one.ddof = in.scalar<std::int32_t>("ddof");
    a.slope = in.scalar<float>("slope");
    if (add) a.residual = in.tensor("residual");
    if (sum) {
        two.x = in.tensor("x2");
        two.gamma = in.floats("gamma2");
        two.beta = in.floats("beta2");
        two.running_mean = in.floats(train ? "running_mean2" : "mean2");
        two.running_var = in.floats(train ? "running_var2" : "var2");
        two.eps = in.scalar<double>("eps2");
        if (train) two.momentum = in.scalar<double>("momentum2");
        if (train) two.ddof = in.scalar<std::int32_t>("ddof2");
    }
    a.y = in.tensor("y");
    if (!train) return a;
    if (a.has_mask()) a.mask = in.tensor("mask");
    one.mean = in.doubles("mean");
    one.inv_std = in.doubles("inv_std");
    one.new_running_mean = in.floats("new_running_mean");
    one.new_running_var = in.floats("new_running_var");
    if (sum) {
        two.mean = in.doubles("mean2");
        two.inv_std = in.doubles("inv_std2");
        two.new_running_mean = in.floats("new_running_mean2");
        two.new_running_var = in.floats("new_running_var2");
    }
    return a;
}

}  // namespace fusebn::test
