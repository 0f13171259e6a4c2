// oneDNN 2: https://oneapi-src.github.io/oneDNN/v2/dev_guide_batch_normalization.html
#include "onednn_contender.h"

#include <omp.h>

#include <cstdint>
#include <cstring>
#include <dnnl.hpp>
#include <memory>
#include <unordered_map>

namespace fusebn::bench {
namespace {

using dnnl::memory;

const dnnl::engine& engine() {
    static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
    return cpu;
}

// What one primitive needs, alive as long as it may run.
struct Primitive {
    dnnl::stream stream{engine()};
    dnnl::batch_normalization_forward primitive;
    std::unordered_map<int, memory> arguments;
    memory dst;

    void run() {
        primitive.execute(stream, arguments);
        stream.wait();
    }
};

memory::desc describe(const LayerCase& c, memory::format_tag tag) {
    return {{c.N, c.C, c.H, c.W}, memory::data_type::f32, tag};  // oneDNN's extents are always in the order NCHW
}

memory::format_tag blocked_tag() {
    switch (dnnl::get_effective_cpu_isa()) {
        case dnnl::cpu_isa::sse41:
        case dnnl::cpu_isa::avx:
        case dnnl::cpu_isa::avx2:
        case dnnl::cpu_isa::avx2_vnni: return memory::format_tag::nChw8c;
        default: return memory::format_tag::nChw16c;
    }
}

// Every page written to once.
memory touched(const memory::desc& desc) {
    memory m(desc, engine());
    if (desc.get_size() > 0) std::memset(m.get_data_handle(), 0, desc.get_size());
    return m;
}

std::shared_ptr<Primitive> make(const LayerCase& c, const memory& src, const memory& dst, const BatchNormState& state,
                                double eps) {
    using dnnl::normalization_flags;
    const bool training = c.op() == Op::train_forward;
    normalization_flags flags = normalization_flags::use_scale | normalization_flags::use_shift;
    if (!training) flags |= normalization_flags::use_global_stats;
    if (c.activation() == Activation::relu) flags |= normalization_flags::fuse_norm_relu;
    const dnnl::batch_normalization_forward::desc desc(
        training ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference, src.get_desc(),
        static_cast<float>(eps), flags);
    const dnnl::batch_normalization_forward::primitive_desc pd(desc, engine());

    auto p = std::make_shared<Primitive>();
    p->primitive = dnnl::batch_normalization_forward(pd);
    p->dst = dst;
    const memory::desc channels({c.C}, memory::data_type::f32, memory::format_tag::a);
    const auto values = [&](const std::vector<float>& v) {
        return memory(channels, engine(), const_cast<float*>(v.data()));  // inputs only
    };
    p->arguments = {{DNNL_ARG_SRC, src},
                    {DNNL_ARG_DST, dst},
                    {DNNL_ARG_SCALE, values(state.gamma)},
                    {DNNL_ARG_SHIFT, values(state.beta)},
                    {DNNL_ARG_MEAN, training ? touched(channels) : values(state.running_mean)},
                    {DNNL_ARG_VARIANCE, training ? touched(channels) : values(state.running_var)}};
    // The mask that its backward pass wants of a fused ReLU.
    if (pd.workspace_desc().get_size() > 0) p->arguments[DNNL_ARG_WORKSPACE] = touched(pd.workspace_desc());
    return p;
}

}  // namespace

std::vector<Peer> onednn_peers(const LayerCase& c, const float* x, float* y, const BatchNormState& state, double eps,
                               int threads) {
    omp_set_num_threads(threads);
    const memory::desc plain =
        describe(c, c.layout == Layout::NCHW ? memory::format_tag::nchw : memory::format_tag::nhwc);
    const memory plain_x(plain, engine(), const_cast<float*>(x)), plain_y(plain, engine(), y);
    const auto plain_bn = make(c, plain_x, plain_y, state, eps);

    const memory::desc blocked = describe(c, blocked_tag());
    const memory blocked_x = touched(blocked), blocked_y = touched(blocked);
    const auto blocked_bn = make(c, blocked_x, blocked_y, state, eps);
    memory from = plain_x, to = blocked_x;
    dnnl::reorder(from, to).execute(blocked_bn->stream, from, to);
    blocked_bn->stream.wait();

    const auto fetch_into = [plain](const std::shared_ptr<Primitive>& p) {
        return [plain, p](float* result) {
            memory target(plain, engine(), result);
            dnnl::reorder(p->dst, target).execute(p->stream, p->dst, target);
            p->stream.wait();
        };
    };
    return {{"onednn", [plain_bn] { plain_bn->run(); }, [](float*) {}},
            {"onednn-blocked", [blocked_bn] { blocked_bn->run(); }, fetch_into(blocked_bn)}};
}

std::string onednn_version() {
    const dnnl_version_t* v = dnnl_version();
    return std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
}

}  // namespace fusebn::bench
