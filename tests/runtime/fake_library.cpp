#include "fake_library.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "fake_kernels.h"

namespace fusebn::test {

thread_local FakeRun fake_run;

bool FakeRun::has(const std::string& name) const {
    return std::any_of(arguments, arguments + count, [&](const FakeArgument& a) { return a.name == name; });
}

const FakeArgument& FakeRun::operator[](const std::string& name) const {
    static const FakeArgument none;
    for (int i = 0; i < count; ++i) {
        if (arguments[i].name == name) return arguments[i];
    }
    ADD_FAILURE() << "the kernel was given no " << name << ", but " << names();
    return none;
}

std::string FakeRun::names() const {
    std::string text;
    for (int i = 0; i < count; ++i) text += (i > 0 ? " " : "") + std::string(arguments[i].name);
    return text;
}

FakeLibrary& FakeLibrary::add(const FakeRow& row, std::vector<std::int32_t> extents,
                              std::vector<FakeVariant> variants) {
    std::vector<fusebn_variant> forms;
    for (const FakeVariant& v : variants) {
        forms.push_back({static_cast<std::int32_t>(v.isa), v.y_alignment, "plain loops", fake_entry(row, v.kind, false),
                         v.has_unaligned ? fake_entry(row, v.kind, true) : nullptr, v.processor, v.dense});
    }
    const auto text = [](std::int32_t extent) { return extent == FUSEBN_ANY ? "any" : std::to_string(extent); };
    const auto word = [](auto value) { return std::string(to_string(value)); };
    const bool planar = row.view == View::planar;
    std::string name = "bn_" + word(row.op) + "_" + word(row.dtype) + "_" + word(row.view);
    name += (planar ? "_n" : "_r") + text(extents[0]) + "_c" + text(extents[1]);
    if (planar) name += "_s" + text(extents[2]);
    if (row.residual != Residual::none) name += "_" + word(row.residual);
    name += "_" + word(row.activation) + (row.large ? "_large" : "");
    names_.push_back(name);
    variants_.push_back(forms);
    rows_.push_back({names_.back().c_str(),
                     static_cast<std::int32_t>(row.op),
                     static_cast<std::int32_t>(row.view),
                     static_cast<std::int32_t>(row.dtype),
                     static_cast<std::int32_t>(row.activation),
                     static_cast<std::int32_t>(row.residual),
                     {extents[0], extents[1], extents[2]},
                     row.large ? 1 : 0,
                     static_cast<std::int32_t>(forms.size()),
                     variants_.back().data()});
    return *this;
}

FakeLibrary& FakeLibrary::add_generic(Activation activation, std::vector<FakeVariant> variants, DataType dtype) {
    for (const auto& op : op_names) {
        for (const auto& residual : residual_names) {
            FakeRow row{op.value, View::planar, activation, residual.value, dtype};
            add(row, {FUSEBN_ANY, FUSEBN_ANY, FUSEBN_ANY}, variants);
            row.view = View::interleaved;
            add(row, {FUSEBN_ANY, FUSEBN_ANY, 1}, variants);
        }
    }
    return *this;
}

const KernelTable& FakeLibrary::table() {
    table_ = {FUSEBN_ABI_VERSION, static_cast<std::int32_t>(rows_.size()), "fake_bn", "by hand", rows_.data()};
    return table_;
}

FakeLibrary generic_library(Activation activation, std::vector<FakeVariant> variants, DataType dtype) {
    FakeLibrary library;
    library.add_generic(activation, std::move(variants), dtype);
    return library;
}

double activate(Activation activation, double v, double slope) {
    switch (activation) {
        case Activation::none: return v;
        case Activation::relu: return v > 0 ? v : 0;
        case Activation::relu6: return std::min(std::max(v, 0.0), 6.0);
        case Activation::leaky_relu: return v > 0 ? v : slope * v;
        case Activation::silu: return v / (1 + std::exp(-v));
        case Activation::hardswish: return v * std::min(std::max(v + 3, 0.0), 6.0) / 6;
    }
    return 0;
}

std::size_t size_of(const Extents& extents) {
    std::size_t size = 1;
    for (int i = 0; i < extents.rank(); ++i) size *= static_cast<std::size_t>(extents[i]);
    return size;
}

std::size_t channel_of(std::size_t i, Layout layout, const Extents& extents) {
    std::size_t inner = 1;
    for (int axis = channel_axis(layout) + 1; axis < extents.rank(); ++axis) {
        inner *= static_cast<std::size_t>(extents[axis]);
    }
    return i / inner % static_cast<std::size_t>(extents[channel_axis(layout)]);
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
