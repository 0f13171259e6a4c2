#include "fusebn/fold.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "text.h"

namespace fusebn {
namespace {

using detail::sentence;

struct Array {
    const char* name;
    const float* values;
    std::int64_t count;

    std::uintptr_t begin() const { return reinterpret_cast<std::uintptr_t>(values); }
    std::uintptr_t end() const { return begin() + static_cast<std::uintptr_t>(count) * sizeof(float); }
};

bool overlap(const Array& a, const Array& b) { return a.begin() < b.end() && b.begin() < a.end(); }

Status refuse_overlap(const Array& output, const Array& other) {
    return Status(ErrorCode::overlap, sentence(output.name, ": it shares memory with ", other.name,
                                               "; expected a place of its own, or exactly that of what it is made of"));
}

Status check_places(const Array& weight, const Array& bias, const Array& folded_weight, const Array& folded_bias) {
    if (weight.values != folded_weight.values && overlap(weight, folded_weight)) {
        return refuse_overlap(folded_weight, weight);
    }
    if (overlap(weight, folded_bias)) return refuse_overlap(folded_bias, weight);
    if (overlap(folded_weight, folded_bias)) return refuse_overlap(folded_bias, folded_weight);
    if (bias.values == nullptr) return Status();
    if (bias.values != folded_bias.values && overlap(bias, folded_bias)) return refuse_overlap(folded_bias, bias);
    if (overlap(bias, folded_weight)) return refuse_overlap(folded_weight, bias);
    return Status();
}

}  // namespace

Status fold_batch_norm(const BatchNorm& layer, const float* weight, const float* bias, std::int64_t inputs,
                       float* folded_weight, float* folded_bias, ChannelAxis axis) {
    if (!layer.status().ok()) return layer.status();
    const BatchNormOptions& options = layer.options();
    if (!options.track_running_stats) {
        return Status(ErrorCode::invalid_argument,
                      "layer: it tracks no running statistics, so it is another function for every batch; expected one "
                      "with track_running_stats");
    }
    const std::int64_t features = layer.features();
    constexpr std::int64_t most = std::numeric_limits<std::ptrdiff_t>::max() / static_cast<int>(sizeof(float));
    if (inputs < 1 || inputs > most / features) {
        return Status(
            ErrorCode::invalid_argument,
            sentence("inputs: it is ", inputs, "; expected the number of weights per channel, 1 to ", most / features));
    }
    if (axis != ChannelAxis::first && axis != ChannelAxis::last) {
        return Status(ErrorCode::invalid_argument,
                      sentence("axis: ", static_cast<int>(axis), " is unknown; expected ChannelAxis::first or last"));
    }
    const Array arrays[] = {{"weight", weight, features * inputs},
                            {"folded_weight", folded_weight, features * inputs},
                            {"folded_bias", folded_bias, features}};
    for (const Array& array : arrays) {
        if (array.values != nullptr) continue;
        return Status(ErrorCode::null_pointer,
                      sentence(array.name, ": it is null; expected the address of ", array.count, " values"));
    }
    const Array given_bias{"bias", bias, features};
    for (const Array* const array : {&arrays[0], &given_bias, &arrays[1], &arrays[2]}) {
        if (array->begin() % alignof(float) == 0) continue;
        return Status(ErrorCode::misaligned, sentence(array->name, ": its address is no multiple of ", alignof(float),
                                                      ", the size of an element of type f32"));
    }
    if (Status s = check_places(arrays[0], given_bias, arrays[1], arrays[2]); !s.ok()) return s;

    BatchNormState copy;
    const bool on_device = options.device != Device::cpu();
    if (on_device) {
        if (Status s = layer.read_state(copy); !s.ok()) return s;
    }
    const BatchNormState& state = on_device ? copy : layer.state();
    // In blocks of channels, whose scales stay on the stack: nothing is allocated, so nothing can fail from here on.
    constexpr std::int64_t block = 256;
    for (std::int64_t begin = 0; begin < features; begin += block) {
        const std::int64_t end = std::min(begin + block, features);
        double scale[block];
        for (std::int64_t c = begin; c < end; ++c) {
            const auto i = static_cast<std::size_t>(c);
            const double gamma = options.affine ? state.gamma[i] : 1.0, beta = options.affine ? state.beta[i] : 0.0;
            scale[c - begin] = gamma / std::sqrt(static_cast<double>(state.running_var[i]) + options.eps);
            const double given = bias != nullptr ? bias[c] : 0.0;
            const double mean = state.running_mean[i];
            folded_bias[c] = static_cast<float>(beta + (given - mean) * scale[c - begin]);
        }
        const auto fold = [&](std::int64_t c, std::int64_t at) {
            folded_weight[at] = static_cast<float>(scale[c - begin] * weight[at]);
        };
        if (axis == ChannelAxis::first) {
            for (std::int64_t c = begin; c < end; ++c) {
                for (std::int64_t i = 0; i < inputs; ++i) fold(c, c * inputs + i);
            }
        } else {
            for (std::int64_t i = 0; i < inputs; ++i) {
                for (std::int64_t c = begin; c < end; ++c) fold(c, i * features + c);
            }
        }
    }
    return Status();
}

}  // namespace fusebn
