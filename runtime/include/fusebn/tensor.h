// Tensors as callers hold them: a pointer, a layout, extents and strides. Nothing is owned or copied.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "fusebn/half.h"
#include "fusebn/types.h"

namespace fusebn {

// Extents or strides in elements, in the layout's order (outermost first): NCHW {n, c, h, w}, NHWC {n, h, w, c}.
class Extents {
public:
    static constexpr int max_rank = 5;
    Extents() = default;
    Extents(std::initializer_list<std::int64_t> values);
    // Null stands for zeros, which no call takes.
    Extents(const std::int64_t* values, int rank);
    int rank() const { return rank_; }  // as given, also where it is larger than max_rank
    // axis: 0 to max_rank - 1, also where rank() is larger: no more values than that are kept.
    std::int64_t operator[](int axis) const { return values_[static_cast<std::size_t>(axis)]; }
    std::int64_t& operator[](int axis) { return values_[static_cast<std::size_t>(axis)]; }

private:
    std::array<std::int64_t, max_rank> values_{};
    int rank_ = 0;
};

// A view of elements. T is `const void` for inputs and `void` for outputs.
template <class T>
struct BasicTensor {
    T* data = nullptr;
    DataType dtype = DataType::f32;
    Layout layout = Layout::NCHW;
    Extents extents;
    Extents strides;  // in elements; rank 0: dense

    BasicTensor() = default;
    BasicTensor(T* data_, DataType dtype_, Layout layout_, const Extents& extents_, const Extents& strides_ = {})
        : data(data_), dtype(dtype_), layout(layout_), extents(extents_), strides(strides_) {}
    // An output can be read.
    template <class U>
    BasicTensor(const BasicTensor<U>& other)
        : data(other.data), dtype(other.dtype), layout(other.layout), extents(other.extents), strides(other.strides) {}
};
using Tensor = BasicTensor<void>;
using ConstTensor = BasicTensor<const void>;

// A view of elements: of float, bfloat16 or float16 (half.h), const or not. `strides` (elements, in the layout's order)
// may be left out for a dense tensor; the outer ones may be larger than dense, so a slice of a concatenated tensor
// needs no copy.
//   auto x = fusebn::tensor(x_data, fusebn::Layout::NCHW, {32, 64, 112, 112});
#define FUSEBN_TENSOR_OF(element, dtype)                                                                      \
    inline Tensor tensor(element* data, Layout layout, const Extents& extents, const Extents& strides = {}) { \
        return Tensor(data, dtype, layout, extents, strides);                                                 \
    }                                                                                                         \
    inline ConstTensor tensor(const element* data, Layout layout, const Extents& extents,                     \
                              const Extents& strides = {}) {                                                  \
        return ConstTensor(data, dtype, layout, extents, strides);                                            \
    }
FUSEBN_TENSOR_OF(float, DataType::f32)
FUSEBN_TENSOR_OF(bfloat16, DataType::bf16)
FUSEBN_TENSOR_OF(float16, DataType::f16)
#undef FUSEBN_TENSOR_OF

}  // namespace fusebn
