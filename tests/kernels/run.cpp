#include "kernels/run.h"

#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>

namespace kernels {

using namespace fusebn;

std::string name(const Case& c) {
    return std::string(to_string(c.op)) + "_" + std::string(to_string(c.view)) + "_" + std::to_string(c.outer) + "_" +
           std::to_string(c.channels) + "_" + std::to_string(c.inner) + "_" + std::string(to_string(c.activation));
}

std::vector<Case> cases(const KernelTable& table) {
    std::vector<Case> all;
    for (int i = 0; i < table.kernel_count; ++i) {
        const fusebn_kernel& k = table.kernels[i];
        if (k.extents[0] == FUSEBN_ANY || k.extents[1] == FUSEBN_ANY || k.extents[2] == FUSEBN_ANY) continue;
        all.push_back({static_cast<Op>(k.op), static_cast<View>(k.view), static_cast<Activation>(k.activation),
                       k.extents[0], k.extents[1], k.extents[2]});
    }
    return all;
}

std::vector<float> random_x(const Case& c, Data data, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.f, 1.f);
    std::vector<float> x(c.elements());
    std::size_t i = 0;
    for (std::int64_t o = 0; o < c.outer; ++o) {
        for (std::int64_t ch = 0; ch < c.channels; ++ch) {
            const auto sign = ch % 2 ? -1.f : 1.f;
            for (std::int64_t s = 0; s < c.inner; ++s, ++i) {
                switch (data) {
                    case Data::ordinary:
                        x[i] = normal(random) * (0.5f + 0.25f * static_cast<float>(ch % 5)) +
                               sign * 0.3f * static_cast<float>(ch % 7);
                        break;
                    case Data::mean_1e4: x[i] = sign * 1e4f + normal(random); break;
                    case Data::mean_1e6: x[i] = sign * 1e6f + normal(random); break;
                    case Data::constant: x[i] = sign * 1.2345f * static_cast<float>(ch + 1); break;
                }
            }
        }
    }
    return x;
}

oracle::Parameters Parameters::view(Activation activation) const {
    oracle::Parameters p;
    p.gamma = gamma.data();
    p.beta = beta.data();
    p.running_mean = running_mean.data();
    p.running_var = running_var.data();
    p.activation = activation;
    return p;
}

Parameters random_parameters(const Case& c) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal(0.f, 1.f);
    Parameters p;
    for (std::int64_t i = 0; i < c.channels; ++i) {
        p.gamma.push_back(normal(random));
        p.beta.push_back(normal(random));
        p.running_mean.push_back(normal(random));
        p.running_var.push_back(std::abs(normal(random)) + 0.1f);
    }
    return p;
}

namespace {

// Memory on a 64-byte line, filled with a NaN that no kernel makes.
class Lines {
public:
    explicit Lines(std::size_t elements)
        : size_(elements),
          data_(static_cast<float*>(std::aligned_alloc(64, (elements * sizeof(float) + 63) / 64 * 64))) {
        for (std::size_t i = 0; i < size_; ++i) std::memcpy(&data_.get()[i], &pattern, sizeof pattern);
    }
    float* at(std::size_t i) { return data_.get() + i; }
    bool untouched(std::size_t i) const { return std::memcmp(data_.get() + i, &pattern, sizeof pattern) == 0; }
    std::size_t size() const { return size_; }

private:
    static constexpr std::uint32_t pattern = 0x7fc0beef;
    struct Free {
        void operator()(float* p) const { std::free(p); }
    };
    std::size_t size_;
    std::unique_ptr<float, Free> data_;
};

}  // namespace

Result run(const KernelTable& table, const Case& c, const std::vector<float>& x, const Parameters& p, const How& how) {
    Result result;
    const InstructionSet isa_before = instruction_set();
    EXPECT_TRUE(set_instruction_set(how.isa).ok());
    EXPECT_TRUE(set_num_threads(how.threads).ok());

    const bool planar = c.view == View::planar;
    const std::int64_t channel_stride = planar ? c.inner + how.channel_gap : 1;
    const std::int64_t outer_stride = (planar ? c.channels * channel_stride : c.channels) + how.outer_gap;
    constexpr std::size_t guard = 64;
    const std::size_t span = static_cast<std::size_t>(c.outer * outer_stride);
    const auto place = [&](std::int64_t o, std::int64_t ch, std::int64_t s) {
        return guard + static_cast<std::size_t>(o * outer_stride + ch * channel_stride + s) +
               static_cast<std::size_t>(how.y_offset);
    };
    Lines in(span + 3 * guard), out(span + 3 * guard);
    Lines& y = how.in_place ? in : out;
    std::vector<bool> written(y.size(), false);
    std::size_t i = 0;
    for (std::int64_t o = 0; o < c.outer; ++o) {
        for (std::int64_t ch = 0; ch < c.channels; ++ch) {
            for (std::int64_t s = 0; s < c.inner; ++s, ++i) {
                *in.at(place(o, ch, s)) = x[i];
                written[place(o, ch, s)] = true;
            }
        }
    }

    BatchNormOptions options;
    options.activation = c.activation;
    BatchNorm1d layer(static_cast<int>(c.channels), table, options);
    EXPECT_TRUE(layer.status().ok()) << layer.status().message();
    BatchNormState state = layer.state();
    state.gamma = p.gamma;
    state.beta = p.beta;
    state.running_mean = p.running_mean;
    state.running_var = p.running_var;
    EXPECT_TRUE(layer.set_state(state).ok());
    layer.train(c.op == Op::train_forward);
    const Layout layout = planar ? Layout::NCL : Layout::NC;
    const Extents extents = planar ? Extents{c.outer, c.channels, c.inner} : Extents{c.outer, c.channels};
    const Extents strides = planar ? Extents{outer_stride, channel_stride, 1} : Extents{outer_stride, 1};
    const Status status =
        layer.forward(tensor(static_cast<const float*>(in.at(place(0, 0, 0))), layout, extents, strides),
                      tensor(y.at(place(0, 0, 0)), layout, extents, strides));
    EXPECT_TRUE(status.ok()) << status.message();

    result.kernel = BatchNorm::last_kernel();
    for (std::size_t at = 0; at < y.size(); ++at) {
        if (written[at]) {
            result.y.push_back(*y.at(at));
        } else if (!y.untouched(at)) {
            result.rest_untouched = false;
        }
    }
    result.mean = layer.saved_mean();
    result.inv_std = layer.saved_inv_std();
    result.running_mean = layer.state().running_mean;
    result.running_var = layer.state().running_var;
    EXPECT_TRUE(set_instruction_set(isa_before).ok());
    return result;
}

std::string difference(const Result& a, const Result& b) {
    const auto compare = [](const char* what, const std::vector<float>& u, const std::vector<float>& v) -> std::string {
        if (u.size() != v.size()) return std::string(what) + ": of different sizes";
        for (std::size_t i = 0; i < u.size(); ++i) {
            if (std::memcmp(&u[i], &v[i], sizeof(float)) == 0) continue;
            return std::string(what) + "[" + std::to_string(i) + "]: " + std::to_string(u[i]) + " and " +
                   std::to_string(v[i]);
        }
        return "";
    };
    for (const auto& found :
         {compare("y", a.y, b.y), compare("mean", a.mean, b.mean), compare("inv_std", a.inv_std, b.inv_std),
          compare("running_mean", a.running_mean, b.running_mean),
          compare("running_var", a.running_var, b.running_var)}) {
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

oracle::Tensor oracle_view(const Case& c, const std::vector<float>& x) {
    return c.view == View::planar ? oracle::planar(x.data(), c.outer, c.channels, c.inner)
                                  : oracle::interleaved(x.data(), c.outer, c.channels);
}

}  // namespace kernels
