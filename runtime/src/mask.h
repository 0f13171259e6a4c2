// The bit an element that training keeps where backward could not make it again (FUSEBN_SAVES_MASK in kernel_abi.h):
// whether the activation passed the element's gradient.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "check.h"
#include "fusebn/kernel_abi.h"
#include "fusebn/types.h"

namespace fusebn::detail {

// A mask in the view of a shape; all in bits. What would not fit in 64 bits is the largest number.
struct MaskLayout {
    std::int64_t row = 0;           // of an element's row, rounded up to FUSEBN_MASK_ALIGNMENT
    std::int64_t outer_stride = 0;  // of n or r
    std::int64_t size = 0;
    std::int64_t last = 0;  // the highest offset of an element's bit
};
MaskLayout mask_layout(const Shape& shape) noexcept;

// Memory that grows only, aligned to a cache line.
class AlignedBuffer {
public:
    // Whether there are `bytes` now. What was in it is lost where it had to grow.
    bool reserve(std::size_t bytes) noexcept;
    std::size_t size() const { return size_; }
    std::uint8_t* data() const { return memory_.get(); }

private:
    struct Free {
        void operator()(std::uint8_t* memory) const noexcept;
    };
    std::unique_ptr<std::uint8_t, Free> memory_;
    std::size_t size_ = 0;
};

// The mask that a layer keeps from its last call of forward_add.
struct Mask {
    AlignedBuffer buffer;
    bool valid = false;
    bool by_batch = false;  // made with the batch's statistics, or with the running ones
    DataType dtype = DataType::f32;
    Shape shape;  // in the view of the kernel that wrote it

    // Brings the bits of tensors with one spatial element into `wanted`, the other view of the same elements, which
    // backward's tensors may run in. False where there is no memory: unchanged.
    bool change_view(View wanted) noexcept;
};

// What passes, of a type's bits as an unsigned integer: `bits - 1 < last`, in that integer. As kernels do: all above
// zero, and for relu6 below six; no NaN. From the bits of y, so a value that rounding to 16 bits took to a kink counts
// as there.
std::uint32_t last_that_passes(DataType dtype, Activation activation) noexcept;

// Writes the mask of act(bn(x) + residual) from the activation's result, which inference kernels leave; slope >= 0.
// The code of the parallel loop.
int mask_of_result(const fusebn_context& context, const Call& call, Activation activation, std::uint8_t* bits) noexcept;

}  // namespace fusebn::detail
