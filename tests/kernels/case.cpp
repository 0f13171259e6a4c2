#include "kernels/case.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "generators/numerics.h"
#include "oracle/bounds.h"

namespace kernels {

using namespace fusebn;

std::string name(const Case& c) {
    std::string text(to_string(c.op));
    for (std::string_view part : {to_string(c.dtype), to_string(c.view)}) text += "_" + std::string(part);
    for (std::int64_t extent : {c.outer, c.channels, c.inner}) text += "_" + std::to_string(extent);
    if (c.residual != Residual::none) text += "_" + std::string(to_string(c.residual));
    return text + "_" + std::string(to_string(c.activation));
}

std::vector<Case> cases(const KernelTable& table) {
    std::vector<Case> all;
    for (int i = 0; i < table.kernel_count; ++i) {
        const fusebn_kernel& k = table.kernels[i];
        if (k.extents[0] == FUSEBN_ANY || k.extents[1] == FUSEBN_ANY || k.extents[2] == FUSEBN_ANY) continue;
        all.push_back({static_cast<Op>(k.op), static_cast<View>(k.view), static_cast<DataType>(k.dtype),
                       static_cast<Activation>(k.activation), static_cast<Residual>(k.residual), k.extents[0],
                       k.extents[1], k.extents[2]});
    }
    return all;
}

bool has_kernels_for(const KernelTable& table, const Case& c) {
    const auto has = [&](Op op) {
        for (int i = 0; i < table.kernel_count; ++i) {
            const fusebn_kernel& k = table.kernels[i];
            const auto fits = [&](int axis, std::int64_t extent) {
                return k.extents[axis] == FUSEBN_ANY || k.extents[axis] == extent;
            };
            if (k.op == static_cast<int>(op) && k.view == static_cast<int>(c.view) &&
                k.dtype == static_cast<int>(c.dtype) && k.activation == static_cast<int>(c.activation) &&
                k.residual == static_cast<int>(c.residual) && fits(0, c.outer) && fits(1, c.channels) &&
                fits(2, c.inner)) {
                return true;
            }
        }
        return false;
    };
    return has(c.op) && (c.op != Op::backward || has(Op::train_forward));
}

const char* name(Data data) {
    switch (data) {
        case Data::ordinary: return "ordinary data";
        case Data::mean_1e2: return "means of 1e2 sigmas";
        case Data::mean_1e4: return "means of 1e4 sigmas";
        case Data::mean_1e6: return "means of 1e6 sigmas";
        case Data::constant: return "constant channels";
        case Data::uneven: return "chunks that begin unlike their rest";
        case Data::drifting: return "chunks at different levels";
    }
    return "";
}

std::vector<Data> data_of(DataType dtype) {
    if (dtype != DataType::f32) return {Data::ordinary, Data::mean_1e2, Data::constant, Data::uneven, Data::drifting};
    return {Data::ordinary, Data::mean_1e2, Data::mean_1e4, Data::mean_1e6,
            Data::constant, Data::uneven,   Data::drifting};
}

namespace {

// Whether an element belongs to the first step of its chunk.
bool begins_chunk(const Case& c, std::size_t at) {
    const auto i = static_cast<std::int64_t>(at);
    if (c.view == View::interleaved) return i / c.channels % oracle::rows_of_chunk(c.view, c.inner) < numerics::tree;
    using namespace numerics::planar;
    return i / (c.channels * c.inner) % oracle::rows_of_chunk(c.view, c.inner) == 0 &&
           i % c.inner % chunk_elements < step;
}

// Neighbours have different numbers.
std::int64_t chunk_of(const Case& c, std::size_t at) {
    const auto i = static_cast<std::int64_t>(at);
    if (c.view == View::interleaved) return i / c.channels / oracle::rows_of_chunk(c.view, c.inner);
    return i / (c.channels * c.inner) / oracle::rows_of_chunk(c.view, c.inner) +
           i % c.inner / numerics::planar::chunk_elements;
}

Elements random_x(const Case& c, Data data, std::mt19937& random) {
    std::normal_distribution<float> normal(0.f, 1.f);
    const auto value = [&](std::int64_t channel, std::size_t at) {
        const auto index = static_cast<float>(channel % 5);
        const float sign = channel % 2 != 0 ? -1.f : 1.f;
        switch (data) {
            case Data::ordinary: return normal(random) * (0.5f + 0.25f * index) + sign * 0.3f * index;
            case Data::mean_1e2: return sign * 1e2f + normal(random);
            case Data::mean_1e4: return sign * 1e4f + normal(random);
            case Data::mean_1e6: return sign * 1e6f + normal(random);
            case Data::constant: return sign * 1.2345f * (index + 1);
            case Data::uneven: return normal(random) + (begins_chunk(c, at) ? 0.f : sign * 40.f);
            case Data::drifting: return normal(random) + 100.f * static_cast<float>(chunk_of(c, at) % 3);
        }
        return 0.f;
    };
    Elements x(c.dtype, c.elements());
    for (std::size_t i = 0; i < x.size(); ++i) x.set(i, value(static_cast<std::int64_t>(c.channel_of(i)), i));
    return x;
}

Elements random_values(const Case& c, float spread, std::mt19937& random) {
    std::normal_distribution<float> normal(0.f, spread);
    Elements values(c.dtype, c.elements());
    for (std::size_t i = 0; i < values.size(); ++i) values.set(i, normal(random));
    return values;
}

// With betas that take relu6 and hardswish to both of their kinks.
Parameters random_parameters(const Case& c, std::mt19937& random) {
    std::normal_distribution<float> normal(0.f, 1.f);
    Parameters p;
    for (std::int64_t i = 0; i < c.channels; ++i) {
        p.gamma.push_back(normal(random));
        p.beta.push_back(2.f * normal(random) + (i % 3 == 1 ? 3.f : 0.f));
        p.running_mean.push_back(normal(random));
        p.running_var.push_back(std::abs(normal(random)) + 0.1f);
    }
    return p;
}

oracle::Parameters oracle_parameters(const Case& c, const Parameters& p) {
    oracle::Parameters view;
    view.gamma = p.gamma.data();
    view.beta = p.beta.data();
    view.running_mean = p.running_mean.data();
    view.running_var = p.running_var.data();
    view.activation = c.activation;
    view.slope = slope;
    return view;
}

}  // namespace

Inputs random_inputs(const Case& c, Data data, unsigned seed) {
    std::mt19937 random(seed);
    Inputs in;
    in.x = random_x(c, data, random);
    in.p = random_parameters(c, random);
    if (c.residual == Residual::add) in.addend = random_values(c, 2.f, random);
    if (c.has_two_branches()) {
        in.addend = random_x(c, data, random);
        in.p2 = random_parameters(c, random);
    }
    if (c.op == Op::backward) in.dy = random_values(c, 1.f, random);
    return in;
}

oracle::Tensor oracle_view(const Case& c, const Elements& values) {
    return c.view == View::planar ? oracle::planar(values.data(), c.dtype, c.outer, c.channels, c.inner)
                                  : oracle::interleaved(values.data(), c.dtype, c.outer, c.channels);
}

oracle::Call oracle_call(const Case& c, const Inputs& inputs, bool batch_statistics) {
    oracle::Call call;
    call.x = oracle_view(c, inputs.x);
    call.p = oracle_parameters(c, inputs.p);
    call.batch_statistics = batch_statistics;
    call.residual = c.residual;
    if (c.residual != Residual::none) call.addend = oracle_view(c, inputs.addend);
    if (c.has_two_branches()) call.p2 = oracle_parameters(c, inputs.p2);
    return call;
}

}  // namespace kernels
