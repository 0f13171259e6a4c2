// A layer and its tensors, ready for the same call again and again.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "measure/layer_case.h"

namespace fusebn::measure {

// Memory that starts on a cache line. Every page has been written to when it is first timed, with numbers: fresh pages
// cost more than a kernel does, and zeros less to write than what a kernel writes.
class Buffer {
public:
    // Grows to `bytes`; what it held is then lost.
    void* at_least(std::int64_t bytes);

private:
    struct Free {
        void operator()(void* p) const;
    };
    std::unique_ptr<void, Free> data_;
    std::int64_t size_ = 0;
};

// Buffers that one case after the other uses.
struct Workspace {
    Buffer x, addend, dy, out, addend_out;
    Buffer copy_from, copy_to;
};

// Null where the call has none.
struct Operands {
    const void* x = nullptr;
    const void* addend = nullptr;  // the residual, or the second branch's x
    const void* dy = nullptr;
    void* out = nullptr;         // y or dx
    void* addend_out = nullptr;  // dresidual, or the second branch's dx
};

class Workload {
public:
    // Fills the operands. The layer has the case's whole table, so that the choice of the kernel is tested too; for a
    // generic kernel without the others of its operation, since one might be preferred for the shape. On a device the
    // layer has copies of the operands there, and those on the host are what was copied to it and is copied back.
    Workload(const LayerCase& layer_case, Workspace& workspace, const Device& device = {});
    Workload(const Workload&) = delete;
    Workload& operator=(const Workload&) = delete;

    // What has to come before run(), untimed: a training forward call before backward, whose y is left in `out`.
    // On a device that has no memory for them: out_of_memory, or what the driver says.
    Status prepare();
    Status run();
    // The same, as a contender: the program ends where it fails, as a time would then mean nothing. On a device a call
    // may only be queued: finish_or_exit() waits for all of them.
    void run_or_exit();
    void finish_or_exit();

    // Overwrites every byte of what the call writes.
    Status spoil();
    // After the calls so far: what they wrote is in the operands. On the CPU it always is.
    Status fetch();

    const Operands& operands() const { return operands_; }
    const BatchNorm& layer() const { return *layer_; }
    const BatchNorm* other() const { return other_ ? &*other_ : nullptr; }
    // The states before prepare().
    const BatchNormState& state() const { return state_; }
    const BatchNormState& other_state() const { return other_state_; }

private:
    Status forward();
    void require(const Status& status) const;

    LayerCase case_;
    Device device_;
    Status ready_;
    std::vector<fusebn_kernel> kernels_;
    fusebn_kernel_table table_;
    std::optional<BatchNorm2d> layer_, other_;  // other_: the second branch's
    BatchNormState state_, other_state_;
    Operands operands_;
    DeviceMemory x_memory_, addend_memory_, dy_memory_, out_memory_, addend_out_memory_;  // on a device
    ConstTensor x_, addend_, dy_;
    Tensor out_, addend_out_;
};

}  // namespace fusebn::measure
