// A row of a kernel table as a layer that users know: what is run, on which tensors.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fusebn/batch_norm.h"
#include "tests/oracle/oracle.h"

namespace fusebn::bench {

// Memory that starts on a cache line. Every page has been written to when it is first timed: fresh pages cost more than
// a kernel does.
class Buffer {
public:
    // Grows to `elements`; what it held is then lost.
    float* at_least(std::int64_t elements);

private:
    struct Free {
        void operator()(float* p) const;
    };
    std::unique_ptr<float, Free> data_;
    std::int64_t size_ = 0;
};

// One kernel and a shape for it.
struct LayerCase {
    const fusebn_kernel_table* table;
    const fusebn_kernel* kernel;
    Layout layout;  // NCHW or NHWC
    std::int64_t N, C, H, W;
    bool fixed;  // the shape is the kernel's own, none that was chosen for a generic one

    Op op() const { return static_cast<Op>(kernel->op); }
    Activation activation() const { return static_cast<Activation>(kernel->activation); }
    std::int64_t elements() const { return N * C * H * W; }
    std::int64_t bytes() const { return 2 * elements() * element_bytes(DataType::f32); }  // x read once, y written once
    Extents extents() const;                                                              // in the layout's order
    std::string op_name() const;                                                          // "train_forward+relu"
    std::string shape_name() const;                                                       // "32x64x112x112"
    oracle::Tensor view_of(const float* x) const;
};

// Extents that a table row does not fix are chosen, large and odd enough to meet every kind of loop end; H and W are
// the square root of their product where it has one.
LayerCase case_of(const fusebn_kernel_table& table, const fusebn_kernel& kernel);

// Random activations, another mean and spread for every channel, and the values of a layer to go with them.
void fill(const LayerCase& layer_case, float* x);
BatchNormState random_state(std::int64_t channels);

}  // namespace fusebn::bench
