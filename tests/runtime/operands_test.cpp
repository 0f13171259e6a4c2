// Every tensor of every call: the refusals that check_test.cpp walks for x and y name each of the others too; which of
// them may share memory; and how each takes part in the choice of a kernel.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "fake_library.h"

namespace fusebn::test {
namespace {

constexpr float untouched = -7.0f;
using Tensors = std::vector<Tensor>;

struct Kind {
    const char* name;
    Activation activation;
    std::vector<const char*> operands;  // as messages name them
    std::vector<int> outputs;
    // A forward call that it needs, on tensors of its own; then the call itself.
    std::function<Status(BatchNorm&, BatchNorm&, const Tensors&)> forward, call;
};

void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

Status nothing(BatchNorm&, BatchNorm&, const Tensors&) { return Status(); }
BackwardOptions residual_of(const Tensor& t) {
    BackwardOptions options;
    options.residual = t;
    return options;
}

const Kind kinds[] = {
    {"forward",
     Activation::none,
     {"x", "y"},
     {1},
     nothing,
     [](BatchNorm& bn, BatchNorm&, const Tensors& t) { return bn.forward(t[0], t[1]); }},
    {"forward_add",
     Activation::relu,
     {"x", "residual", "y"},
     {2},
     nothing,
     [](BatchNorm& bn, BatchNorm&, const Tensors& t) { return bn.forward_add(t[0], t[1], t[2]); }},
    {"forward_sum",
     Activation::relu,
     {"x", "x_other", "y"},
     {2},
     nothing,
     [](BatchNorm& bn, BatchNorm& other, const Tensors& t) { return bn.forward_sum(t[0], other, t[1], t[2]); }},
    {"backward",
     Activation::relu,
     {"x", "dy", "dx"},
     {2},
     [](BatchNorm& bn, BatchNorm&, const Tensors& t) { return bn.forward(t[0], t[1]); },
     [](BatchNorm& bn, BatchNorm&, const Tensors& t) { return bn.backward(t[0], t[1], t[2]); }},
    {"backward_add by a mask",
     Activation::relu,
     {"x", "dy", "dx", "dresidual"},
     {2, 3},
     [](BatchNorm& bn, BatchNorm&, const Tensors& t) { return bn.forward_add(t[0], t[1], t[2]); },
     [](BatchNorm& bn, BatchNorm&, const Tensors& t) { return bn.backward_add(t[0], t[1], t[2], t[3]); }},
    {"backward_add by the residual",
     Activation::silu,
     {"x", "dy", "options.residual", "dx", "dresidual"},
     {3, 4},
     [](BatchNorm& bn, BatchNorm&, const Tensors& t) { return bn.forward_add(t[0], t[1], t[2]); },
     [](BatchNorm& bn, BatchNorm&, const Tensors& t) {
         return bn.backward_add(t[0], t[1], t[3], t[4], residual_of(t[2]));
     }},
    {"backward_sum",
     Activation::relu,
     {"x", "dy", "x_other", "dx", "dx_other"},
     {3, 4},
     [](BatchNorm& bn, BatchNorm& other, const Tensors& t) { return bn.forward_sum(t[0], other, t[1], t[2]); },
     [](BatchNorm& bn, BatchNorm& other, const Tensors& t) {
         return bn.backward_sum(t[0], other, t[2], t[1], t[3], t[4]);
     }},
};

// A call of each kind on tensors number 0, 1, .. of a buffer; [2, 4, 2, 4] unless said otherwise.
class Operands : public testing::TestWithParam<Kind> {
protected:
    static constexpr std::ptrdiff_t apart = 1024;  // elements from one tensor to the next, and before the first
    static constexpr std::ptrdiff_t size = apart * 6;
    alignas(64) float buffer_[size];
    alignas(64) float forward_buffer_[size];
    const Kind& kind_ = GetParam();
    std::size_t count_ = kind_.operands.size();

    static BatchNormOptions with(Activation activation) {
        BatchNormOptions options;
        options.activation = activation;
        return options;
    }
    void fill() {
        const std::vector<float> values = noise(size);
        for (std::ptrdiff_t i = 0; i < size; ++i) buffer_[i] = forward_buffer_[i] = values[std::size_t(i)];
    }
    Tensors tensors(Layout layout = Layout::NCHW, const Extents& extents = {2, 4, 2, 4}) {
        Tensors t;
        for (std::size_t i = 0; i < count_; ++i) {
            t.push_back(tensor(buffer_ + apart * static_cast<std::ptrdiff_t>(i + 1), layout, extents));
        }
        return t;
    }
    bool is_output(std::size_t i) const {
        return std::count(kind_.outputs.begin(), kind_.outputs.end(), static_cast<int>(i)) > 0;
    }

    // Runs the call on layers of `library`; the forward call before it is on a library that has all rows.
    Status run(FakeLibrary& library, const Tensors& t) {
        FakeLibrary plain = generic_library();
        BatchNorm2d bn(4, library.table(), with(kind_.activation)), other(4, plain.table());
        Tensors before;
        for (std::size_t i = 0; i < 3; ++i) {
            before.push_back(t[0]);
            before.back().data = forward_buffer_ + apart * static_cast<std::ptrdiff_t>(i + 1);
            before.back().strides = {};
        }
        const Status forward = kind_.forward(bn, other, before);
        EXPECT_TRUE(forward.ok()) << forward.message();
        const int runs = fake_run.runs;
        const std::vector<float> grad = bn.grad_beta();
        const BatchNormState state = bn.state();
        const Status s = kind_.call(bn, other, t);
        if (!s.ok()) {
            EXPECT_EQ(fake_run.runs, runs);
            EXPECT_EQ(bn.grad_beta(), grad);
            EXPECT_EQ(bn.state().running_mean, state.running_mean);
            EXPECT_EQ(bn.state().num_batches_tracked, state.num_batches_tracked);
        }
        return s;
    }
    Status run(const Tensors& t) {
        FakeLibrary library = generic_library(kind_.activation);
        return run(library, t);
    }
    void expect_refused(const Tensors& t, ErrorCode code, const std::string& start) {
        fill();
        const std::vector<float> before(buffer_, buffer_ + size);
        const Status s = run(t);
        EXPECT_EQ(s.code(), code) << s.message();
        EXPECT_EQ(s.message().rfind(start, 0), 0u) << s.message() << "\n" << start;
        EXPECT_EQ(std::vector<float>(buffer_, buffer_ + size), before);
    }
};

TEST_P(Operands, AreEachNamedWhereTheyAreWrong) {
    for (std::size_t i = 0; i < count_; ++i) {
        const std::string name = kind_.operands[i];
        const auto changed = [&](const std::function<void(Tensor&)>& change) {
            Tensors t = tensors();
            change(t[i]);
            return t;
        };
        // A residual that is null was not given.
        if (name != "options.residual") {
            expect_refused(changed([](Tensor& t) { t.data = nullptr; }), ErrorCode::null_pointer,
                           name + ": its data is null");
        }
        expect_refused(changed([](Tensor& t) { t.data = static_cast<char*>(t.data) + 2; }), ErrorCode::misaligned,
                       name + ": its address is no multiple of 4");
        expect_refused(changed([](Tensor& t) {
                           t.strides = {31, 8, 4, 1};
                       }),
                       ErrorCode::unsupported_strides,
                       name + ": its strides are {31, 8, 4, 1} for NCHW {2, 4, 2, 4}; they fold it onto itself");
        expect_refused(changed([](Tensor& t) {
                           t.strides = {1ll << 31, 8, 4, 1};
                       }),
                       ErrorCode::too_large,
                       name + ": NCHW {2, 4, 2, 4} with strides {2147483648, 8, 4, 1}: its outer strides");
        if (i == 0) continue;
        const auto mismatch = ErrorCode::shape_mismatch;
        expect_refused(changed([](Tensor& t) {
                           t.extents = {2, 4, 4, 2};
                       }),
                       mismatch, name + ": it is f32 NCHW {2, 4, 4, 2}, but x is f32 NCHW {2, 4, 2, 4}");
        expect_refused(changed([](Tensor& t) { t.layout = Layout::NHWC; }), mismatch, name + ": it is f32 NHWC");
        expect_refused(changed([](Tensor& t) { t.dtype = DataType::bf16; }), mismatch, name + ": it is bf16 NCHW");
    }
}

TEST_P(Operands, MayBeTheSameOrApartButNotMixed) {
    for (const int output : kind_.outputs) {
        const auto o = static_cast<std::size_t>(output);
        for (std::size_t i = 0; i < count_; ++i) {
            if (i == o) continue;
            const std::string name = kind_.operands[o], input = kind_.operands[i];
            SCOPED_TRACE(name + " and " + input);
            const auto with_output_at = [&](std::ptrdiff_t elements, const Extents& strides = {}) {
                Tensors t = tensors();
                t[o].data = static_cast<float*>(t[i].data) + elements;
                t[o].strides = strides;
                return t;
            };
            fill();
            if (is_output(i)) {
                const bool first = o < i;  // the second is the one that is named first
                const std::string start = (first ? input : name) + ": it begins ";
                expect_refused(with_output_at(0), ErrorCode::overlap, start + "0 bytes after");
                expect_refused(with_output_at(1), ErrorCode::overlap, start + "4 bytes");
                expect_refused(with_output_at(0, {40, 8, 4, 1}), ErrorCode::overlap, start);
            } else {
                const Status same = run(with_output_at(0));
                EXPECT_TRUE(same.ok()) << same.message();
                expect_refused(with_output_at(1), ErrorCode::overlap, name + ": it begins 4 bytes after " + input);
                expect_refused(with_output_at(-63), ErrorCode::overlap, name + ": it begins 252 bytes before " + input);
                expect_refused(with_output_at(0, {40, 8, 4, 1}), ErrorCode::overlap,
                               name + ": it begins 0 bytes after");
            }
            for (const std::ptrdiff_t next_to : {64, -64}) {
                const Status s = run(with_output_at(next_to));
                EXPECT_TRUE(s.ok()) << s.message();
            }
            // Interlocked slices of one buffer: neither the same nor with an element in common.
            Tensors t = tensors();
            t[i].strides = t[o].strides = {64, 16, 4, 1};
            t[o].data = static_cast<float*>(t[i].data) + 8;
            const Status s = run(t);
            EXPECT_TRUE(s.ok()) << s.message();
        }
    }
    // Inputs are only read.
    fill();
    Tensors t = tensors();
    for (std::size_t i = 1; i < count_; ++i) {
        if (!is_output(i)) t[i].data = t[0].data;
    }
    EXPECT_TRUE(run(t).ok());
}

TEST_P(Operands, ThatAreWrittenDecideOnStreaming) {
    fill();
    FakeLibrary library = generic_library(kind_.activation, {{InstructionSet::x86_64, 32, true}});
    const auto unaligned = [&](const Tensors& t) -> std::string {
        const Status s = run(library, t);
        EXPECT_TRUE(s.ok()) << s.message();
        const std::string kernel = BatchNorm::last_kernel();
        const std::size_t at = kernel.find("] without streaming: ");
        EXPECT_EQ(at != std::string::npos, fake_run.unaligned_entry);
        return at == std::string::npos ? "" : kernel.substr(at + 21);
    };
    EXPECT_EQ(unaligned(tensors()), "");
    for (std::size_t i = 0; i < count_; ++i) {
        SCOPED_TRACE(kind_.operands[i]);
        const std::string expected = is_output(i) ? std::string(kind_.operands[i]) + " is not aligned" : "";
        Tensors t = tensors();
        t[i].data = static_cast<float*>(t[i].data) + 4;
        EXPECT_EQ(unaligned(t), expected) << "its address";
        t = tensors();
        t[i].strides = {36, 8, 4, 1};
        EXPECT_EQ(unaligned(t), expected) << "its batch stride";
        t[i].strides = {64, 12, 4, 1};
        EXPECT_EQ(unaligned(t), expected) << "its channel stride";
    }
}

TEST_P(Operands, MustAllHaveDenseChannelsToBecomeInterleaved) {
    fill();
    const auto is_interleaved = [&](const Tensors& t) {
        const Status s = run(t);
        EXPECT_TRUE(s.ok()) << s.message();
        return fake_run["x"].dimensions == 2;
    };
    const Extents extents{8, 4, 1, 1};
    EXPECT_TRUE(is_interleaved(tensors(Layout::NCHW, extents)));
    for (std::size_t i = 0; i < count_; ++i) {
        SCOPED_TRACE(kind_.operands[i]);
        Tensors t = tensors(Layout::NCHW, extents);
        t[i].strides = {5, 1, 1, 1};
        EXPECT_TRUE(is_interleaved(t)) << "rows further apart";
        t[i].strides = {8, 2, 1, 1};
        EXPECT_FALSE(is_interleaved(t)) << "channels apart";
        t[i].strides = {1, 8, 1, 1};
        EXPECT_FALSE(is_interleaved(t)) << "n inside c";
    }
}

TEST_P(Operands, NeedARowOfTheirKind) {
    fill();
    const std::string name = kind_.name;
    const bool backward = name.rfind("backward", 0) == 0;
    const Residual residual = name.find("add") != std::string::npos   ? Residual::add
                              : name.find("sum") != std::string::npos ? Residual::batch_norm
                                                                      : Residual::none;
    const Op op = backward ? Op::backward : Op::train_forward;
    FakeLibrary library;  // with all rows but the one
    for (const auto& each_op : op_names) {
        for (const auto& each_residual : residual_names) {
            if (each_op.value == op && each_residual.value == residual) continue;
            library.add({each_op.value, View::planar, kind_.activation, each_residual.value},
                        {FUSEBN_ANY, FUSEBN_ANY, FUSEBN_ANY});
        }
    }
    const Status s = run(library, tensors());
    EXPECT_EQ(s.code(), ErrorCode::no_kernel);
    const std::string activation(to_string(kind_.activation)), op_name(to_string(op));
    const std::string word = residual == Residual::none ? "" : std::string(to_string(residual)) + "_";
    EXPECT_NE(s.message().find("bn_" + op_name + "_f32_planar_n2_c4_s8_" + word + activation + " nor"),
              std::string::npos)
        << s.message();
    std::string row = "[[kernel]] op = \"" + op_name + "\", layout = \"NCHW\", shape = [2, 4, 2, 4], activation = \"" +
                      activation + "\"";
    if (residual != Residual::none) row += ", residual = \"" + std::string(to_string(residual)) + "\"";
    ASSERT_GE(s.message().size(), row.size());
    EXPECT_EQ(s.message().substr(s.message().size() - row.size()), row);
}

INSTANTIATE_TEST_SUITE_P(Of, Operands, testing::ValuesIn(kinds), [](const auto& kind) {
    std::string name = kind.param.name;
    for (char& c : name) c = c == ' ' ? '_' : c;
    return name;
});

}  // namespace
}  // namespace fusebn::test
