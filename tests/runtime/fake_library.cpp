#include "fake_library.h"

#include <gtest/gtest.h>

#include <cmath>

namespace fusebn::test {

thread_local FakeRun fake_run;

namespace {

float* values(void* argument) { return reinterpret_cast<float*>(static_cast<fusebn_buffer*>(argument)->host); }

// x or y: n samples (or rows) of c channels of s elements.
struct View3 {
    float* data;
    std::int64_t n, c, s, n_stride, c_stride;

    explicit View3(void* argument) {
        const auto& buffer = *static_cast<fusebn_buffer*>(argument);
        const bool planar = buffer.dimensions == 3;
        data = reinterpret_cast<float*>(buffer.host);
        s = planar ? buffer.dim[0].extent : 1;
        c = buffer.dim[planar ? 1 : 0].extent;
        c_stride = buffer.dim[planar ? 1 : 0].stride;
        n = buffer.dim[planar ? 2 : 1].extent;
        n_stride = buffer.dim[planar ? 2 : 1].stride;
    }
    float& at(std::int64_t i, std::int64_t j, std::int64_t k) const { return data[i * n_stride + j * c_stride + k]; }
};

void record(void* y, bool unaligned, double momentum, std::int32_t ddof) {
    const auto& buffer = *static_cast<fusebn_buffer*>(y);
    ++fake_run.runs;
    fake_run.unaligned_entry = unaligned;
    fake_run.momentum = momentum;
    fake_run.ddof = ddof;
    fake_run.extents.clear();
    fake_run.strides.clear();
    for (int i = 0; i < buffer.dimensions; ++i) {
        fake_run.extents.push_back(buffer.dim[i].extent);
        fake_run.strides.push_back(buffer.dim[i].stride);
    }
}

void apply(const View3& x, const View3& y, std::int64_t c, double mean, double var, double eps, double gamma,
           double beta, bool relu) {
    for (std::int64_t i = 0; i < x.n; ++i) {
        for (std::int64_t k = 0; k < x.s; ++k) {
            const double value = gamma * (x.at(i, c, k) - mean) / std::sqrt(var + eps) + beta;
            y.at(i, c, k) = static_cast<float>(relu && value < 0 ? 0 : value);
        }
    }
}

template <bool relu>
int infer_channel(void*, std::int32_t c, std::uint8_t* closure) {
    void** argv = reinterpret_cast<void**>(closure);
    apply(View3(argv[1]), View3(argv[7]), c, values(argv[4])[c], values(argv[5])[c], *static_cast<double*>(argv[6]),
          values(argv[2])[c], values(argv[3])[c], relu);
    return 0;
}

template <bool relu>
int train_channel(void*, std::int32_t c, std::uint8_t* closure) {
    void** argv = reinterpret_cast<void**>(closure);
    const View3 x(argv[1]);
    const double eps = *static_cast<double*>(argv[6]), momentum = *static_cast<double*>(argv[7]);
    double mean = 0, m2 = 0;
    const double count = static_cast<double>(x.n * x.s);
    for (std::int64_t i = 0; i < x.n; ++i) {
        for (std::int64_t k = 0; k < x.s; ++k) mean += x.at(i, c, k) / count;
    }
    for (std::int64_t i = 0; i < x.n; ++i) {
        for (std::int64_t k = 0; k < x.s; ++k) m2 += (x.at(i, c, k) - mean) * (x.at(i, c, k) - mean);
    }
    const double var = m2 / count;
    apply(x, View3(argv[9]), c, mean, var, eps, values(argv[2])[c], values(argv[3])[c], relu);
    values(argv[10])[c] = static_cast<float>(mean);
    values(argv[11])[c] = static_cast<float>(1 / std::sqrt(var + eps));
    const double ddof = *static_cast<std::int32_t*>(argv[8]);
    values(argv[12])[c] = static_cast<float>((1 - momentum) * values(argv[4])[c] + momentum * mean);
    values(argv[13])[c] = static_cast<float>((1 - momentum) * values(argv[5])[c] + momentum * m2 / (count - ddof));
    return 0;
}

int over_channels(fusebn_task task, void** argv) {
    const fusebn_context* context = *static_cast<const fusebn_context**>(argv[0]);
    return context->parallel_for(context, task, 0, static_cast<std::int32_t>(View3(argv[1]).c),
                                 reinterpret_cast<std::uint8_t*>(argv));
}

template <bool relu, bool unaligned, Kind kind>
int inference(void** argv) {
    if (kind == Kind::no_op) return 0;
    if (kind == Kind::out_of_memory) return FUSEBN_KERNEL_OUT_OF_MEMORY;
    record(argv[7], unaligned, -1, -1);
    return over_channels(infer_channel<relu>, argv);
}

template <bool relu, bool unaligned, Kind kind>
int train_forward(void** argv) {
    if (kind == Kind::no_op) return 0;
    if (kind == Kind::out_of_memory) {
        values(argv[10])[0] = values(argv[11])[0] = values(argv[12])[0] = values(argv[13])[0] = 77;
        return FUSEBN_KERNEL_OUT_OF_MEMORY;
    }
    record(argv[9], unaligned, *static_cast<double*>(argv[7]), *static_cast<std::int32_t*>(argv[8]));
    return over_channels(train_channel<relu>, argv);
}

template <bool relu, bool unaligned>
fusebn_entry entry_of(Op op, Kind kind) {
    const bool train = op == Op::train_forward;
    switch (kind) {
        case Kind::working:
            return train ? train_forward<relu, unaligned, Kind::working> : inference<relu, unaligned, Kind::working>;
        case Kind::no_op:
            return train ? train_forward<relu, unaligned, Kind::no_op> : inference<relu, unaligned, Kind::no_op>;
        case Kind::out_of_memory:
            return train ? train_forward<relu, unaligned, Kind::out_of_memory>
                         : inference<relu, unaligned, Kind::out_of_memory>;
    }
    return nullptr;
}

std::size_t channel_of(std::size_t i, Layout layout, const Extents& extents) {
    std::size_t inner = 1;
    for (int axis = channel_axis(layout) + 1; axis < extents.rank(); ++axis) {
        inner *= static_cast<std::size_t>(extents[axis]);
    }
    return i / inner % static_cast<std::size_t>(extents[channel_axis(layout)]);
}

}  // namespace

FakeLibrary& FakeLibrary::add(Op op, View view, std::vector<std::int32_t> extents, std::vector<FakeVariant> variants,
                              Activation activation, bool large) {
    const bool relu = activation == Activation::relu;
    std::vector<fusebn_variant> forms;
    for (const FakeVariant& v : variants) {
        const fusebn_entry entry = relu ? entry_of<true, false>(op, v.kind) : entry_of<false, false>(op, v.kind);
        const fusebn_entry unaligned = relu ? entry_of<true, true>(op, v.kind) : entry_of<false, true>(op, v.kind);
        forms.push_back({static_cast<std::int32_t>(v.isa), v.y_alignment, "plain loops", entry,
                         v.has_unaligned ? unaligned : nullptr});
    }
    const auto text = [](std::int32_t extent) { return extent == FUSEBN_ANY ? "any" : std::to_string(extent); };
    std::string name = "bn_" + std::string(to_string(op)) + "_f32_" + std::string(to_string(view));
    name += (view == View::planar ? "_n" : "_r") + text(extents[0]) + "_c" + text(extents[1]);
    if (view == View::planar) name += "_s" + text(extents[2]);
    name += "_" + std::string(to_string(activation)) + (large ? "_large" : "");
    names_.push_back(name);
    variants_.push_back(forms);
    rows_.push_back({names_.back().c_str(),
                     static_cast<std::int32_t>(op),
                     static_cast<std::int32_t>(view),
                     FUSEBN_DTYPE_F32,
                     static_cast<std::int32_t>(activation),
                     {extents[0], extents[1], extents[2]},
                     large ? 1 : 0,
                     static_cast<std::int32_t>(forms.size()),
                     variants_.back().data()});
    return *this;
}

FakeLibrary& FakeLibrary::add_generic(Activation activation, std::vector<FakeVariant> variants) {
    for (const Op op : {Op::inference, Op::train_forward}) {
        add(op, View::planar, {FUSEBN_ANY, FUSEBN_ANY, FUSEBN_ANY}, variants, activation);
        add(op, View::interleaved, {FUSEBN_ANY, FUSEBN_ANY, 1}, variants, activation);
    }
    return *this;
}

const KernelTable& FakeLibrary::table() {
    table_ = {FUSEBN_ABI_VERSION, static_cast<std::int32_t>(rows_.size()), "fake_bn", "by hand", rows_.data()};
    return table_;
}

FakeLibrary generic_library(Activation activation, std::vector<FakeVariant> variants) {
    FakeLibrary library;
    library.add_generic(activation, std::move(variants));
    return library;
}

std::vector<float> noise(std::size_t size, float mean, std::uint32_t seed) {
    std::vector<float> out(size);
    std::uint32_t state = seed * 2654435761u + 1;
    for (float& value : out) {
        state = state * 1664525u + 1013904223u;
        value = mean + static_cast<float>(state >> 8) / static_cast<float>(1 << 23) - 1.0f;
    }
    return out;
}

Statistics statistics(const std::vector<float>& x, Layout layout, const Extents& extents) {
    const auto channels = static_cast<std::size_t>(extents[channel_axis(layout)]);
    Statistics s{std::vector<double>(channels), std::vector<double>(channels),
                 static_cast<double>(x.size()) / static_cast<double>(channels)};
    for (std::size_t i = 0; i < x.size(); ++i) s.mean[channel_of(i, layout, extents)] += x[i] / s.count;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const std::size_t c = channel_of(i, layout, extents);
        s.var[c] += (x[i] - s.mean[c]) * (x[i] - s.mean[c]) / s.count;
    }
    return s;
}

std::vector<float> normalised(const std::vector<float>& x, Layout layout, const Extents& extents, const Statistics& s,
                              const std::vector<float>& gamma, const std::vector<float>& beta, double eps, bool relu) {
    std::vector<float> y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
        const std::size_t c = channel_of(i, layout, extents);
        const double value = (x[i] - s.mean[c]) / std::sqrt(s.var[c] + eps) * (gamma.empty() ? 1 : gamma[c]) +
                             (beta.empty() ? 0 : beta[c]);
        y[i] = static_cast<float>(relu && value < 0 ? 0 : value);
    }
    return y;
}

void expect_near(const std::vector<float>& actual, const std::vector<float>& expected, double tolerance) {
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) ASSERT_NEAR(actual[i], expected[i], tolerance) << "element " << i;
}

}  // namespace fusebn::test
