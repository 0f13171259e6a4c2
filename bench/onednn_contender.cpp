// oneDNN: https://uxlfoundation.github.io/oneDNN/dev_guide_batch_normalization.html, and version 2, which Debian has:
// https://oneapi-src.github.io/oneDNN/v2/dev_guide_batch_normalization.html
#include "onednn_contender.h"

#include <cstdint>
#include <cstring>
#include <dnnl.hpp>
#include <memory>
#include <unordered_map>
#include <utility>

#if DNNL_VERSION_MAJOR < 3
#include <omp.h>
#endif

namespace fusebn::bench {
namespace {

using dnnl::memory;

const dnnl::engine& engine() {
    static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
    return cpu;
}

using Forward = dnnl::batch_normalization_forward;
using Backward = dnnl::batch_normalization_backward;

// The two functions whose interface is another one in version 3.
#if DNNL_VERSION_MAJOR < 3
Forward::primitive_desc describe_forward(dnnl::prop_kind kind, const memory::desc& tensor, float eps,
                                         dnnl::normalization_flags flags) {
    return {Forward::desc(kind, tensor, eps, flags), engine()};
}

Backward::primitive_desc describe_backward(const memory::desc& tensor, float eps, dnnl::normalization_flags flags,
                                           const Forward::primitive_desc& forward) {
    return {Backward::desc(dnnl::prop_kind::backward, tensor, tensor, eps, flags), engine(), forward};
}
#else
Forward::primitive_desc describe_forward(dnnl::prop_kind kind, const memory::desc& tensor, float eps,
                                         dnnl::normalization_flags flags) {
    return {engine(), kind, tensor, tensor, eps, flags};
}

Backward::primitive_desc describe_backward(const memory::desc& tensor, float eps, dnnl::normalization_flags flags,
                                           const Forward::primitive_desc& forward) {
    return {engine(), dnnl::prop_kind::backward, tensor, tensor, tensor, eps, flags, forward};
}
#endif

void use_threads([[maybe_unused]] int threads) {
#if DNNL_VERSION_MAJOR < 3
    omp_set_num_threads(threads);
#endif
}

// What one primitive needs, alive as long as it may run.
struct Primitive {
    dnnl::stream stream{engine()};
    dnnl::primitive primitive;
    std::unordered_map<int, memory> arguments;
    memory result;

    void run() {
        primitive.execute(stream, arguments);
        stream.wait();
    }
    const float* values(int argument) const {
        const auto found = arguments.find(argument);
        return found != arguments.end() ? static_cast<const float*>(found->second.get_data_handle()) : nullptr;
    }
};

memory::desc describe(const LayerCase& c, memory::format_tag tag) {
    const auto type = c.dtype() == DataType::bf16 ? memory::data_type::bf16 : memory::data_type::f32;
    return {{c.N, c.C, c.H, c.W}, type, tag};  // oneDNN's extents are always in the order NCHW
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

void reorder(const memory& from, const memory& to) {
    dnnl::stream stream(engine());
    dnnl::reorder(from, to).execute(stream, const_cast<memory&>(from), const_cast<memory&>(to));
    stream.wait();
}

// In one layout; `dy` is empty where there is none, and `result` takes y or dx.
struct Tensors {
    memory x, dy, result;
};

std::shared_ptr<Primitive> make(const LayerCase& c, const Tensors& tensors, const BatchNormState& state, double eps) {
    using dnnl::normalization_flags;
    const bool by_batch = c.op() != Op::inference;
    normalization_flags flags = normalization_flags::use_scale | normalization_flags::use_shift;
    if (!by_batch) flags |= normalization_flags::use_global_stats;
    if (c.activation() == Activation::relu) flags |= normalization_flags::fuse_norm_relu;
    const memory::desc tensor = tensors.x.get_desc();
    const Forward::primitive_desc pd =
        describe_forward(by_batch ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference, tensor,
                         static_cast<float>(eps), flags);

    auto p = std::make_shared<Primitive>();
    p->primitive = Forward(pd);
    p->result = tensors.result;
    const memory::desc channels({c.C}, memory::data_type::f32, memory::format_tag::a);
    const auto values = [&](const std::vector<float>& v) {
        return memory(channels, engine(), const_cast<float*>(v.data()));  // inputs only
    };
    p->arguments = {{DNNL_ARG_SRC, tensors.x},
                    {DNNL_ARG_DST, tensors.result},
                    {DNNL_ARG_SCALE, values(state.gamma)},
                    {DNNL_ARG_SHIFT, values(state.beta)},
                    {DNNL_ARG_MEAN, by_batch ? touched(channels) : values(state.running_mean)},
                    {DNNL_ARG_VARIANCE, by_batch ? touched(channels) : values(state.running_var)}};
    // The mask that its backward pass wants of a fused ReLU.
    if (pd.workspace_desc().get_size() > 0) p->arguments[DNNL_ARG_WORKSPACE] = touched(pd.workspace_desc());
    if (c.op() != Op::backward) return p;

    p->run();  // y goes where dx will: only the statistics and the mask are needed of it
    p->primitive = Backward(describe_backward(tensor, static_cast<float>(eps), flags, pd));
    p->arguments.erase(DNNL_ARG_DST);
    p->arguments.insert({{DNNL_ARG_DIFF_DST, tensors.dy},
                         {DNNL_ARG_DIFF_SRC, tensors.result},
                         {DNNL_ARG_DIFF_SCALE, touched(channels)},
                         {DNNL_ARG_DIFF_SHIFT, touched(channels)}});
    return p;
}

#if DNNL_VERSION_MAJOR < 3
// A word of every line.
std::function<void()> reading(const std::shared_ptr<Primitive>& p) {
    return [p] {
        constexpr std::int64_t words = 8;
        const auto* const data = static_cast<const volatile std::uint64_t*>(p->result.get_data_handle());
        const auto lines = static_cast<std::int64_t>(p->result.get_desc().get_size()) / (words * 8);
#pragma omp parallel for schedule(static)
        for (std::int64_t line = 0; line < lines; ++line) {
            [[maybe_unused]] const std::uint64_t word = data[line * words];
        }
    };
}
#else
std::function<void()> reading(const std::shared_ptr<Primitive>&) { return nullptr; }
#endif

bool supported(const LayerCase& c) {
    return c.residual() == Residual::none && c.dtype() != DataType::f16 &&
           (c.activation() == Activation::none || c.activation() == Activation::relu);
}

Peer peer_of(const char* name, const std::shared_ptr<Primitive>& p, std::function<void(void*)> fetch) {
    return {name,
            [p] { p->run(); },
            std::move(fetch),
            reading(p),
            p->values(DNNL_ARG_VARIANCE),
            p->values(DNNL_ARG_DIFF_SCALE),
            p->values(DNNL_ARG_DIFF_SHIFT)};
}

}  // namespace

std::vector<Peer> onednn_peers(const LayerCase& c, const Operands& operands, const BatchNormState& state, double eps,
                               int threads) {
    if (!supported(c)) return {};
    use_threads(threads);
    const memory::desc plain =
        describe(c, c.layout == Layout::NCHW ? memory::format_tag::nchw : memory::format_tag::nhwc);
    const auto in_plain = [&](const void* data) {
        return data != nullptr ? memory(plain, engine(), const_cast<void*>(data)) : memory();
    };
    const Tensors own{in_plain(operands.x), in_plain(operands.dy), in_plain(operands.out)};
    const auto plain_bn = make(c, own, state, eps);

    const memory::desc blocked = describe(c, blocked_tag());
    Tensors copies{touched(blocked), {}, touched(blocked)};
    reorder(own.x, copies.x);
    if (operands.dy != nullptr) {
        copies.dy = touched(blocked);
        reorder(own.dy, copies.dy);
    }
    const auto blocked_bn = make(c, copies, state, eps);
    return {peer_of("onednn", plain_bn, [](void*) {}),
            peer_of("onednn-blocked", blocked_bn,
                    [plain, blocked_bn](void* out) { reorder(blocked_bn->result, memory(plain, engine(), out)); })};
}

std::string onednn_version() {
    const dnnl_version_t* v = dnnl_version();
    return std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
}

}  // namespace fusebn::bench
