#include "fake_kernels.h"

#include <array>
#include <cmath>
#include <deque>
#include <utility>

#include "fake_arguments.h"

namespace fusebn::test {

namespace {

void take_statistics(const Branch& b, std::int64_t c) {
    double mean = 0, m2 = 0;
    const double count = static_cast<double>(b.x.n * b.x.s);
    for (std::int64_t i = 0; i < b.x.n; ++i) {
        for (std::int64_t k = 0; k < b.x.s; ++k) mean += b.x.at(i, c, k) / count;
    }
    for (std::int64_t i = 0; i < b.x.n; ++i) {
        for (std::int64_t k = 0; k < b.x.s; ++k) m2 += (b.x.at(i, c, k) - mean) * (b.x.at(i, c, k) - mean);
    }
    b.mean[c] = mean;
    b.inv_std[c] = 1 / std::sqrt(m2 / count + b.eps);
    b.new_running_mean[c] = static_cast<float>((1 - b.momentum) * b.running_mean[c] + b.momentum * mean);
    b.new_running_var[c] = static_cast<float>((1 - b.momentum) * b.running_var[c] + b.momentum * m2 / (count - b.ddof));
}

bool passes(Activation activation, double v) { return v > 0 && (activation != Activation::relu6 || v < 6); }

double slope_at(Activation activation, double v, double slope) {
    switch (activation) {
        case Activation::none: return 1;
        case Activation::relu: return v > 0 ? 1 : 0;
        case Activation::relu6: return v > 0 && v < 6 ? 1 : 0;
        case Activation::leaky_relu: return v > 0 ? 1 : slope;
        case Activation::silu: return (1 + v * (1 - 1 / (1 + std::exp(-v)))) / (1 + std::exp(-v));
        case Activation::hardswish: return v <= -3 ? 0 : v >= 3 ? 1 : (2 * v + 3) / 6;
    }
    return 0;
}

int forward_channel(const Arguments& a, std::int64_t c) {
    double mean[2], scale[2];
    for (int i = 0; i < a.branches(); ++i) {
        const Branch& b = a.branch[i];
        if (a.form.op == Op::train_forward) take_statistics(b, c);
        mean[i] = b.mean != nullptr ? b.mean[c] : b.running_mean[c];
        scale[i] = b.gamma[c] * (b.mean != nullptr ? b.inv_std[c] : 1 / std::sqrt(b.running_var[c] + b.eps));
    }
    for (std::int64_t i = 0; i < a.y.n; ++i) {
        for (std::int64_t k = 0; k < a.y.s; ++k) {
            double v = 0;
            for (int j = 0; j < a.branches(); ++j) {
                v += (a.branch[j].x.at(i, c, k) - mean[j]) * scale[j] + a.branch[j].beta[c];
            }
            if (a.form.residual == Residual::add) v += a.residual.at(i, c, k);
            a.y.set(i, c, k, activate(a.form.activation, v, a.slope));
            if (a.mask.data != nullptr) a.mask.set_bit(i, c, k, passes(a.form.activation, v));
        }
    }
    return 0;
}

// dy times the activation's derivative; xhat of each branch.
double gradient_at(const Arguments& a, std::int64_t i, std::int64_t c, std::int64_t k, double* xhat) {
    double v = 0;
    for (int j = 0; j < a.branches(); ++j) {
        const Branch& b = a.branch[j];
        xhat[j] = (b.x.at(i, c, k) - b.mean[c]) * b.inv_std[c];
        v += b.gamma[c] * xhat[j] + b.beta[c];
    }
    const bool masked = a.mask.data != nullptr;
    if (a.residual.data != nullptr) v += a.residual.at(i, c, k);
    const double passed = a.form.activation == Activation::leaky_relu ? a.slope : 0;
    return a.dy.at(i, c, k) * (masked ? (a.mask.bit(i, c, k) ? 1 : passed) : slope_at(a.form.activation, v, a.slope));
}

int backward_channel(const Arguments& a, std::int64_t c) {
    double sum = 0, dot[2] = {}, xhat[2] = {};
    const View3& x = a.branch[0].x;
    if (a.sums != 0) {
        for (std::int64_t i = 0; i < x.n; ++i) {
            for (std::int64_t k = 0; k < x.s; ++k) {
                const double g = gradient_at(a, i, c, k, xhat);
                sum += g;
                for (int j = 0; j < a.branches(); ++j) dot[j] += g * xhat[j];
            }
        }
    }
    const double count = static_cast<double>(x.n * x.s);
    for (int j = 0; j < a.branches(); ++j) {
        a.branch[j].new_running_mean[c] = static_cast<float>(dot[j]);
        a.branch[j].new_running_var[c] = static_cast<float>(sum);
    }
    if (a.branch[0].dx.n == 0) return 0;
    for (std::int64_t i = 0; i < x.n; ++i) {
        for (std::int64_t k = 0; k < x.s; ++k) {
            const double g = gradient_at(a, i, c, k, xhat);
            for (int j = 0; j < a.branches(); ++j) {
                const Branch& b = a.branch[j];
                const double centred = b.batch_statistics != 0 ? g - sum / count - xhat[j] * dot[j] / count : g;
                b.dx.set(i, c, k, b.gamma[c] * b.inv_std[c] * centred);
            }
            if (a.dresidual.n != 0) a.dresidual.set(i, c, k, g);
        }
    }
    return 0;
}

int run_channel(void*, std::int32_t c, std::uint8_t* closure) {
    const Arguments& a = *reinterpret_cast<const Arguments*>(closure);
    return a.form.op == Op::backward ? backward_channel(a, c) : forward_channel(a, c);
}

// What launches of fake_apply were given, for as long as the test runs: a graph may come back to it.
std::deque<Arguments> launched;

int run_on_device(const Form& form, Arguments a) {
    const fusebn_context& context = *a.context;
    a.mask.of_bytes = true;
    const std::int32_t c = static_cast<std::int32_t>(a.branch[0].x.c);
    fusebn_dim dim{0, c, 1, 0};
    fusebn_buffer work{}, more{};
    work.type_code = 2;
    work.type_bits = 64;
    work.type_lanes = 1;
    work.dimensions = 1;
    work.dim = &dim;
    more = work;
    if (const int code = context.allocate(&context, &work)) return code;
    if (const int code = context.allocate(&context, &more)) return code;
    const std::uint64_t given = work.device;
    if (context.allocate(&context, &work) != 0 || work.device != given || more.device == given) return 6;

    std::int32_t grid[] = {1, 1, 1}, block[] = {64, 1, 1};
    const std::uint64_t begin_sizes[] = {8, 4, 0};
    void* begin_arguments[] = {&work, &dim.extent, nullptr};
    const std::int8_t begin_buffers[] = {1, 0, 0};
    const fusebn_device_code& code = fake_device_code();
    if (const int error = context.launch(&context, &code, fake_begin_name, grid, block, 0, begin_sizes, begin_arguments,
                                         begin_buffers)) {
        return error;
    }
    if (form.kind == Kind::stops) return 5;
    std::int32_t no_grid[] = {4, 0, 1};
    if (const int error = context.launch(&context, &code, fake_begin_name, no_grid, block, 0, begin_sizes,
                                         begin_arguments, begin_buffers)) {
        return error;
    }
    std::uint64_t key = launched.size();
    launched.push_back(a);
    const std::uint64_t sizes[] = {8, 8, 0};
    void* arguments[] = {&key, &work, nullptr};
    const std::int8_t buffers[] = {0, 1, 0};
    ++fake_run.runs;
    fake_run.unaligned_entry = form.unaligned;
    return context.launch(&context, &code, fake_apply_name, grid, block, 64 * 1024, sizes, arguments, buffers);
}

int run(const Form& form, void** argv) {
    if (form.kind == Kind::no_op) return 0;
    Arguments a = read_arguments(form, argv);
    if (a.context->launch != nullptr) return run_on_device(form, a);
    if (form.kind == Kind::out_of_memory || form.kind == Kind::stops) {
        for (int j = 0; j < a.branches(); ++j) {
            if (form.op == Op::train_forward) a.branch[j].mean[0] = a.branch[j].inv_std[0] = 77;
            if (form.op != Op::inference) a.branch[j].new_running_mean[0] = a.branch[j].new_running_var[0] = 77;
        }
        if (form.kind == Kind::out_of_memory) return FUSEBN_KERNEL_OUT_OF_MEMORY;
        if (form.op == Op::train_forward && a.has_mask()) a.mask.set_bit(0, 0, 0, !a.mask.bit(0, 0, 0));
        return 5;
    }
    ++fake_run.runs;
    fake_run.unaligned_entry = form.unaligned;
    return a.context->parallel_for(a.context, run_channel, 0, static_cast<std::int32_t>(a.branch[0].x.c),
                                   reinterpret_cast<std::uint8_t*>(&a));
}

// One function for every form, made from its number.
constexpr std::size_t form_count = 3 * 6 * 3 * 3 * 2 * 4;
constexpr Form form_of(std::size_t number) {
    const auto next = [&number](std::size_t count) {
        const std::size_t digit = number % count;
        number /= count;
        return static_cast<int>(digit);
    };
    Form form{};
    form.op = static_cast<Op>(next(3));
    form.activation = static_cast<Activation>(next(6));
    form.residual = static_cast<Residual>(next(3));
    form.dtype = static_cast<DataType>(next(3));
    form.unaligned = next(2) != 0;
    form.kind = static_cast<Kind>(next(4));
    return form;
}

template <std::size_t number>
int entry(void** argv) {
    static constexpr Form form = form_of(number);
    return run(form, argv);
}

template <std::size_t... numbers>
constexpr std::array<fusebn_entry, form_count> entries(std::index_sequence<numbers...>) {
    return {entry<numbers>...};
}

}  // namespace

const char* const fake_begin_name = "fake_begin";
const char* const fake_apply_name = "fake_apply";

fusebn_device_code& fake_device_code() {
    static fusebn_device_code code{"fake ptx", 8, 0, nullptr};
    return code;
}

void fake_begin(double* work, std::int32_t channels) {
    for (std::int32_t c = 0; c < channels; ++c) work[c] = c;
}

int fake_apply(std::uint64_t key, const double* work) {
    const Arguments& a = launched[key];
    for (std::int32_t c = 0; c < a.branch[0].x.c; ++c) {
        if (work[c] != c) return 1;
        a.form.op == Op::backward ? backward_channel(a, c) : forward_channel(a, c);
    }
    return 0;
}

fusebn_entry fake_entry(const FakeRow& row, Kind kind, bool unaligned) {
    static const auto table = entries(std::make_index_sequence<form_count>());
    for (std::size_t i = 0; i < form_count; ++i) {
        const Form form = form_of(i);
        if (form.op == row.op && form.activation == row.activation && form.residual == row.residual &&
            form.dtype == row.dtype && form.unaligned == unaligned && form.kind == kind) {
            return table[i];
        }
    }
    return nullptr;
}

}  // namespace fusebn::test
