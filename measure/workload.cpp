#include "measure/workload.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>
#include <utility>

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
        // Floats between 0.5 and 1. Not zeros: a processor may write lines of zeros at twice the speed of others
        // (docs/performance.md, "What a copy copies"), so a copy of them is no yardstick.
        std::mt19937_64 random(1);
        auto* const words = static_cast<std::uint64_t*>(data_.get());
        for (std::size_t i = 0; i < size / sizeof(*words); ++i) {
            words[i] = (random() & 0x007fffff'007fffff) | 0x3f000000'3f000000;
        }
    }
    return data_.get();
}

Workload::Workload(const LayerCase& c, Workspace& workspace, const Device& device)
    : case_(c), device_(device), table_(*c.table), state_(random_state(c.C, 0)), other_state_(random_state(c.C, 1)) {
    if (!c.fixed) {
        std::copy_if(table_.kernels, table_.kernels + table_.kernel_count, std::back_inserter(kernels_),
                     [&](const fusebn_kernel& k) { return k.op != c.kernel->op; });
        kernels_.push_back(*c.kernel);
        table_.kernels = kernels_.data();
        table_.kernel_count = static_cast<std::int32_t>(kernels_.size());
    }
    BatchNormOptions options;
    options.device = device;
    if (c.residual() == Residual::batch_norm) other_.emplace(static_cast<int>(c.C), table_, options);
    options.activation = c.activation();
    layer_.emplace(static_cast<int>(c.C), table_, options);

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
    const auto on_device = [&](const void* host, DeviceMemory& memory) {
        if (host == nullptr || device == Device::cpu()) return const_cast<void*>(host);
        memory = DeviceMemory(device, static_cast<std::size_t>(bytes));
        if (ready_.ok()) ready_ = memory.upload(host, static_cast<std::size_t>(bytes));
        return memory.data();
    };
    x_ = ConstTensor(on_device(operands_.x, x_memory_), c.dtype(), c.layout, c.extents());
    addend_ = ConstTensor(on_device(operands_.addend, addend_memory_), c.dtype(), c.layout, c.extents());
    dy_ = ConstTensor(on_device(operands_.dy, dy_memory_), c.dtype(), c.layout, c.extents());
    out_ = Tensor(on_device(operands_.out, out_memory_), c.dtype(), c.layout, c.extents());
    addend_out_ = Tensor(on_device(operands_.addend_out, addend_out_memory_), c.dtype(), c.layout, c.extents());
}

Status Workload::prepare() {
    if (!ready_.ok()) return ready_;
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

Status Workload::spoil() {
    const auto bytes = static_cast<std::size_t>(case_.tensor_bytes());
    for (const auto& [host, memory] :
         {std::pair(operands_.out, &out_memory_), std::pair(operands_.addend_out, &addend_out_memory_)}) {
        if (host == nullptr) continue;
        std::memset(host, 0xff, bytes);
        if (device_ == Device::cpu()) continue;
        if (Status s = memory->upload(host, bytes); !s.ok()) return s;
    }
    return Status();
}

Status Workload::fetch() {
    if (device_ == Device::cpu()) return Status();
    const auto bytes = static_cast<std::size_t>(case_.tensor_bytes());
    if (Status s = out_memory_.download(operands_.out, bytes); !s.ok() || operands_.addend_out == nullptr) return s;
    return addend_out_memory_.download(operands_.addend_out, bytes);
}

void Workload::require(const Status& s) const {
    if (s.ok()) return;
    std::fprintf(stderr, "%s: %s\n", case_.kernel->name, s.message().c_str());
    std::exit(1);
}

void Workload::run_or_exit() { require(run()); }

void Workload::finish_or_exit() {
    // A copy from the device comes after all that was queued before it.
    char byte = 0;
    if (!(device_ == Device::cpu())) require(out_memory_.download(&byte, 1));
}

}  // namespace fusebn::measure
