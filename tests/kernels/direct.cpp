#include "kernels/direct.h"

#include <cstdlib>
#include <memory>

namespace kernels {

using namespace fusebn;

namespace {

// Tasks one after the other, the last one first: none may depend on another.
int backwards(const fusebn_context* context, fusebn_task task, std::int32_t min, std::int32_t count,
              std::uint8_t* closure) {
    for (std::int32_t i = min + count; i-- > min;) {
        if (const int code = task(const_cast<fusebn_context*>(context), i, closure)) return code;
    }
    return 0;
}

void* take(const fusebn_context*, std::uint64_t bytes) { return std::aligned_alloc(64, bytes); }
void* take_none(const fusebn_context* context, std::uint64_t) {
    *static_cast<bool*>(context->pool) = true;
    return nullptr;
}
void give(const fusebn_context*, void* memory) { std::free(memory); }

struct Buffer {
    fusebn_buffer buffer{};
    fusebn_dim dims[3] = {};

    Buffer(const void* data, int type_code, int type_bits, std::initializer_list<fusebn_dim> of) {
        int count = 0;
        for (const fusebn_dim& d : of) dims[count++] = d;
        buffer.host = static_cast<std::uint8_t*>(const_cast<void*>(data));
        buffer.type_code = static_cast<std::uint8_t>(type_code);
        buffer.type_bits = static_cast<std::uint8_t>(type_bits);
        buffer.type_lanes = 1;
        buffer.dimensions = count;
        buffer.dim = dims;
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
};

struct Free {
    void operator()(void* p) const { std::free(p); }
};

}  // namespace

Direct train_forward_add(const fusebn_kernel& row, InstructionSet isa, const Case& c, const Inputs& inputs,
                         bool memory) {
    const fusebn_variant* variant = nullptr;
    for (int i = 0; i < row.variant_count; ++i) {
        if (row.variants[i].isa <= static_cast<int>(isa)) variant = &row.variants[i];
    }
    constexpr int unsigned_integer = 1, ieee_float = 2;
    constexpr std::int64_t word = FUSEBN_MASK_ALIGNMENT;
    const auto C = static_cast<std::int32_t>(c.channels), S = static_cast<std::int32_t>(c.inner),
               N = static_cast<std::int32_t>(c.outer);
    const bool planar = c.view == View::planar;
    Direct result;
    const std::int64_t row_bits = ((planar ? c.inner : c.channels) + word - 1) / word * word;
    result.mask_row = planar ? row_bits : 0;
    result.mask_outer = planar ? c.channels * row_bits : row_bits;
    constexpr std::uint8_t pattern = 0xa5;
    const auto mask_bytes = static_cast<std::size_t>(c.outer * result.mask_outer / 8);
    result.mask.assign(mask_bytes + 64, pattern);

    const int code = c.dtype == DataType::f32 ? ieee_float : unsigned_integer, bits = 8 * element_bytes(c.dtype);
    const auto tensor = [&](const void* data, int type_code, int type_bits, std::int64_t row_stride,
                            std::int64_t outer_stride) {
        const auto channel = static_cast<std::int32_t>(row_stride), outer = static_cast<std::int32_t>(outer_stride);
        return planar ? std::make_unique<Buffer>(
                            data, type_code, type_bits,
                            std::initializer_list<fusebn_dim>{{0, S, 1, 0}, {0, C, channel, 0}, {0, N, outer, 0}})
                      : std::make_unique<Buffer>(data, type_code, type_bits,
                                                 std::initializer_list<fusebn_dim>{{0, C, 1, 0}, {0, N, outer, 0}});
    };
    const auto dense = [&](const void* data) { return tensor(data, code, bits, c.inner, c.channels * c.inner); };
    const auto vector = [&](const void* data, int type_bits) {
        return std::make_unique<Buffer>(data, ieee_float, type_bits, std::initializer_list<fusebn_dim>{{0, C, 1, 0}});
    };
    // A streaming form asks for a y that lies on its lines.
    const std::size_t y_bytes = c.elements() * static_cast<std::size_t>(element_bytes(c.dtype));
    const std::unique_ptr<void, Free> y_data(std::aligned_alloc(64, (y_bytes + 63) / 64 * 64));
    std::vector<double> mean(c.features()), inv_std(c.features());
    std::vector<float> running_mean(c.features()), running_var(c.features());
    const auto x = dense(inputs.x.data()), residual = dense(inputs.addend.data()), y = dense(y_data.get()),
               mask = tensor(result.mask.data(), unsigned_integer, 8, row_bits, result.mask_outer);
    const auto gamma = vector(inputs.p.gamma.data(), 32), beta = vector(inputs.p.beta.data(), 32),
               old_mean = vector(inputs.p.running_mean.data(), 32), old_var = vector(inputs.p.running_var.data(), 32),
               new_mean = vector(running_mean.data(), 32), new_var = vector(running_var.data(), 32),
               mean_out = vector(mean.data(), 64), inv_std_out = vector(inv_std.data(), 64);
    double eps = 1e-5, momentum = 0.1;
    std::int32_t ddof = 1;
    float alpha = slope;
    const fusebn_context context{backwards, &result.was_refused_memory, nullptr, nullptr,
                                 nullptr,   memory ? take : take_none,  give};
    const fusebn_context* context_pointer = &context;
    void* arguments[] = {&context_pointer,
                         &x->buffer,
                         &gamma->buffer,
                         &beta->buffer,
                         &old_mean->buffer,
                         &old_var->buffer,
                         &eps,
                         &momentum,
                         &ddof,
                         &alpha,
                         &residual->buffer,
                         &y->buffer,
                         &mask->buffer,
                         &mean_out->buffer,
                         &inv_std_out->buffer,
                         &new_mean->buffer,
                         &new_var->buffer};
    std::memset(y_data.get(), pattern, y_bytes);
    result.code = variant->entry(arguments);
    result.y = Elements(c.dtype, c.elements());
    std::memcpy(result.y.data(), y_data.get(), y_bytes);
    for (std::size_t i = 0; i < y_bytes; ++i) {
        if (static_cast<const std::uint8_t*>(y_data.get())[i] != pattern) result.y_untouched = false;
    }
    for (std::size_t i = mask_bytes; i < result.mask.size(); ++i) {
        if (result.mask[i] != pattern) result.rest_of_mask_untouched = false;
    }
    return result;
}

}  // namespace kernels
