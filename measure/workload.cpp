#include "measure/workload.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace fusebn::measure {

void Buffer::Free::operator()(void* p) const { std::free(p); }

void* Buffer::at_least(std::int64_t bytes) {
    constexpr std::size_t line = 64;
    if (bytes > size_) {
        data_.reset();
        const std::size_t size = (static_cast<std::size_t>(bytes) + line - 1) / line * line;
        data_.reset(std::aligned_alloc(line, size));
        if (!data_) throw std::bad_alloc();
        size_ = bytes;
        std::memset(data_.get(), 0, size);
    }
    return data_.get();
}

Workload::Workload(const LayerCase& c, Workspace& workspace)
    : case_(c), table_(*c.table), state_(random_state(c.C, 0)), other_state_(random_state(c.C, 1)) {
    if (!c.fixed) {
        std::copy_if(table_.kernels, table_.kernels + table_.kernel_count, std::back_inserter(kernels_),
                     [&](const fusebn_kernel& k) { return k.op != c.kernel->op; });
        kernels_.push_back(*c.kernel);
        table_.kernels = kernels_.data();
        table_.kernel_count = static_cast<std::int32_t>(kernels_.size());
    }
    BatchNormOptions options;
    layer_.emplace(static_cast<int>(c.C), table_, [&] {
        options.activation = c.activation();
        return options;
    }());
    if (c.residual() == Residual::batch_norm) other_.emplace(static_cast<int>(c.C), table_);

    const std::int64_t bytes = c.tensor_bytes();
    const auto input = [&](Buffer& buffer, int stream) {
        void* const data = buffer.at_least(bytes);
        fill(c, data, stream);
        return data;
    };
    operands_.x = input(workspace.x, 0);
    if (c.residual() != Residual::none) operands_.addend = input(workspace.addend, 1);
    if (c.op() == Op::backward) operands_.dy = input(workspace.dy, 2);
    operands_.out = workspace.out.at_least(bytes);
    if (c.op() == Op::backward && c.residual() != Residual::none) {
        operands_.addend_out = workspace.addend_out.at_least(bytes);
    }
    x_ = ConstTensor(operands_.x, c.dtype(), c.layout, c.extents());
    addend_ = ConstTensor(operands_.addend, c.dtype(), c.layout, c.extents());
    dy_ = ConstTensor(operands_.dy, c.dtype(), c.layout, c.extents());
    out_ = Tensor(operands_.out, c.dtype(), c.layout, c.extents());
    addend_out_ = Tensor(operands_.addend_out, c.dtype(), c.layout, c.extents());
}

Status Workload::prepare() {
    layer_->train(case_.op() != Op::inference);
    if (Status s = layer_->set_state(state_); !s.ok()) return s;
    if (other_) {
        other_->train(case_.op() != Op::inference);
        if (Status s = other_->set_state(other_state_); !s.ok()) return s;
    }
    return case_.op() == Op::backward ? forward() : Status();
}

Status Workload::forward() {
    switch (case_.residual()) {
        case Residual::none: return layer_->forward(x_, out_);
        case Residual::add: return layer_->forward_add(x_, addend_, out_);
        case Residual::batch_norm: return layer_->forward_sum(x_, *other_, addend_, out_);
    }
    return Status();
}

Status Workload::run() {
    if (case_.op() != Op::backward) return forward();
    BackwardOptions options;
    switch (case_.residual()) {
        case Residual::none: return layer_->backward(x_, dy_, out_);
        case Residual::add:
            options.residual = addend_;
            return layer_->backward_add(x_, dy_, out_, addend_out_, options);
        case Residual::batch_norm: return layer_->backward_sum(x_, *other_, addend_, dy_, out_, addend_out_);
    }
    return Status();
}

void Workload::run_or_exit() {
    if (const Status s = run(); !s.ok()) {
        std::fprintf(stderr, "%s: %s\n", case_.kernel->name, s.message().c_str());
        std::exit(1);
    }
}

}  // namespace fusebn::measure
