// A row of a kernel table as a layer that users know: what is run, on which tensors.
#pragma once

#include <cstdint>
#include <string>

#include "fusebn/batch_norm.h"
#include "oracle/oracle.h"

namespace fusebn::measure {

// One kernel and a shape for it.
struct LayerCase {
    const fusebn_kernel_table* table;
    const fusebn_kernel* kernel;
    Layout layout;  // NCHW or NHWC
    std::int64_t N, C, H, W;
    bool fixed;  // the shape is the kernel's own, none that was chosen for a generic one

    Op op() const { return static_cast<Op>(kernel->op); }
    DataType dtype() const { return static_cast<DataType>(kernel->dtype); }
    Activation activation() const { return static_cast<Activation>(kernel->activation); }
    Residual residual() const { return static_cast<Residual>(kernel->residual); }
    std::int64_t elements() const { return N * C * H * W; }
    std::int64_t tensor_bytes() const { return elements() * element_bytes(dtype()); }
    // Whether the residual or the second branch's x is read; backward needs no residual where a mask or the identity
    // says all. And whether for the sums too.
    bool reads_addend() const;
    bool reads_addend_twice() const;
    // What must move, each tensor once: a forward call reads x and what is added, and writes y; backward reads x, dy
    // and what it needs of the second branch, and writes dx and the second branch's gradient. A mask is a bit an
    // element, written by training and read by backward. Parameters and statistics are of no account.
    std::int64_t floor_bytes() const;
    // The same, with what must be read from memory a second time, to be applied: where the cache of `l3` bytes holds
    // neither a channel's slabs (planar) nor the tensors that are read twice (interleaved) in between.
    std::int64_t limit_bytes(std::int64_t l3) const;
    Extents extents() const;         // in the layout's order
    std::string op_name() const;     // "train_forward+add+relu"
    std::string shape_name() const;  // "32x64x112x112"
    oracle::Tensor view_of(const void* x) const;
};

// Extents that a table row does not fix are chosen, large and odd enough to meet every kind of loop end; H and W are
// the square root of their product where it has one.
LayerCase case_of(const fusebn_kernel_table& table, const fusebn_kernel& kernel);

// Random activations, another mean and spread for every channel, and the values of a layer to go with them: running
// statistics near them, or a ReLU would leave whole channels of zeros, but not so near that it never cuts at 6. Another
// `stream` gives other numbers.
void fill(const LayerCase& layer_case, void* x, int stream);
BatchNormState random_state(std::int64_t channels, int stream);

}  // namespace fusebn::measure
