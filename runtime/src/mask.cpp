#include "mask.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

namespace fusebn::detail {
namespace {

constexpr std::size_t cache_line = 64;
constexpr std::int64_t word_bits = 32;
static_assert(word_bits == FUSEBN_MASK_ALIGNMENT, "rows are written in words");

std::int64_t times(std::int64_t a, std::int64_t b) {
    std::int64_t product = 0;
    return __builtin_mul_overflow(a, b, &product) ? std::numeric_limits<std::int64_t>::max() : product;
}

template <class Bits>
void write_row(const char* row, std::int64_t count, Bits last, std::uint8_t* out) {
    for (std::int64_t begin = 0; begin < count; begin += word_bits) {
        const std::int64_t end = std::min<std::int64_t>(word_bits, count - begin);
        std::uint32_t word = 0;
        for (std::int64_t i = 0; i < end; ++i) {
            Bits value = 0;
            std::memcpy(&value, row + (begin + i) * static_cast<std::int64_t>(sizeof(Bits)), sizeof(Bits));
            word |= static_cast<std::uint32_t>(static_cast<Bits>(value - 1) < last) << i;
        }
        std::memcpy(out, &word, sizeof(word));
        out += sizeof(word);
    }
}

// Rows are shared out in tasks of about 16384 elements: some microseconds.
struct RowLoop {
    const Call& call;
    std::uint32_t last;
    std::uint8_t* bits;
    std::int64_t rows, row_elements, rows_per_task;
    MaskLayout layout;

    std::int64_t tasks() const { return (rows + rows_per_task - 1) / rows_per_task; }

    void write(std::int64_t row) const {
        const Shape& shape = call.shape;
        const std::int64_t per_outer = shape.view == View::planar ? shape.channels : 1;
        const Operand& y = call[Role::out];
        const std::int64_t offset = row / per_outer * y.outer_stride + row % per_outer * y.channel_stride;
        const char* const values = static_cast<const char*>(y.data) + offset * element_bytes(call.dtype);
        std::uint8_t* const out = bits + row * (layout.row / 8);
        if (call.dtype == DataType::f32) return write_row(values, row_elements, last, out);
        write_row(values, row_elements, static_cast<std::uint16_t>(last), out);
    }
};

int write_rows(void*, std::int32_t task, std::uint8_t* closure) {
    const RowLoop& loop = *reinterpret_cast<const RowLoop*>(closure);
    const std::int64_t begin = task * loop.rows_per_task;
    const std::int64_t end = std::min(begin + loop.rows_per_task, loop.rows);
    for (std::int64_t row = begin; row < end; ++row) loop.write(row);
    return 0;
}

}  // namespace

MaskLayout mask_layout(const Shape& shape) noexcept {
    const bool planar = shape.view == View::planar;
    const std::int64_t elements = planar ? shape.inner : shape.channels;
    MaskLayout layout;
    layout.row = (elements + word_bits - 1) / word_bits * word_bits;
    layout.outer_stride = times(planar ? shape.channels : 1, layout.row);
    layout.size = times(shape.outer, layout.outer_stride);
    layout.last = layout.size - layout.row + elements - 1;
    return layout;
}

void AlignedBuffer::Free::operator()(std::uint8_t* memory) const noexcept {
    ::operator delete(memory, std::align_val_t(cache_line));
}

bool AlignedBuffer::reserve(std::size_t bytes) noexcept {
    if (bytes <= size_) return true;
    auto* const memory = static_cast<std::uint8_t*>(::operator new(bytes, std::align_val_t(cache_line), std::nothrow));
    if (memory == nullptr) return false;
    memory_.reset(memory);
    size_ = bytes;
    return true;
}

bool Mask::change_view(View wanted) noexcept {
    if (shape.view == wanted) return true;
    Shape changed_shape = shape;
    changed_shape.view = wanted;
    const MaskLayout from = mask_layout(shape), to = mask_layout(changed_shape);
    const auto bytes = static_cast<std::size_t>(to.size / 8);
    AlignedBuffer changed;
    if (!changed.reserve(bytes)) return false;
    std::fill_n(changed.data(), bytes, std::uint8_t{0});
    // Planar, a channel is a row of one bit.
    const std::int64_t from_channel = shape.view == View::planar ? from.row : 1;
    const std::int64_t to_channel = wanted == View::planar ? to.row : 1;
    for (std::int64_t outer = 0; outer < shape.outer; ++outer) {
        for (std::int64_t c = 0; c < shape.channels; ++c) {
            const std::int64_t source = outer * from.outer_stride + c * from_channel;
            const std::int64_t target = outer * to.outer_stride + c * to_channel;
            const int bit = buffer.data()[source / 8] >> (source % 8) & 1;
            changed.data()[target / 8] = static_cast<std::uint8_t>(changed.data()[target / 8] | bit << (target % 8));
        }
    }
    std::swap(buffer, changed);
    shape = changed_shape;
    return true;
}

std::uint32_t last_that_passes(DataType dtype, Activation activation) noexcept {
    const bool below_six = activation == Activation::relu6;
    switch (dtype) {
        case DataType::f32: return below_six ? 0x40bfffff : 0x7f800000;
        case DataType::bf16: return below_six ? 0x40bf : 0x7f80;
        case DataType::f16: return below_six ? 0x45ff : 0x7c00;
    }
    return 0;
}

int mask_of_result(const fusebn_context& context, const Call& call, Activation activation,
                   std::uint8_t* bits) noexcept {
    constexpr std::int64_t elements_per_task = 16384, most_tasks = 1 << 20;
    const Shape& shape = call.shape;
    const bool planar = shape.view == View::planar;
    const std::int64_t rows = planar ? shape.outer * shape.channels : shape.outer;
    const std::int64_t row_elements = planar ? shape.inner : shape.channels;
    const std::int64_t rows_per_task =
        std::max({elements_per_task / row_elements, (rows + most_tasks - 1) / most_tasks, std::int64_t{1}});
    RowLoop loop{
        call, last_that_passes(call.dtype, activation), bits, rows, row_elements, rows_per_task, mask_layout(shape)};
    return context.parallel_for(&context, write_rows, 0, static_cast<std::int32_t>(loop.tasks()),
                                reinterpret_cast<std::uint8_t*>(&loop));
}

}  // namespace fusebn::detail
