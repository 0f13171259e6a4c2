// One run of a kernel: the array of pointers that kernel_abi.h describes, and what became of it. In the header, as a
// call has up to 27 arguments and takes less time than calls of functions would.
#pragma once

#include <cstdint>
#include <string>

#include "check.h"
#include "context.h"
#include "dispatch.h"
#include "fusebn/kernel_abi.h"
#include "mask.h"

namespace fusebn::detail {

// What a kernel's return code says of the call.
Status outcome(int code, const Choice& choice);

// See BatchNorm::last_kernel.
std::string last_kernel_of_this_thread();

// Arguments are appended in the order that kernel_abi.h gives; the context is there from the start. What they point to
// must outlive the run. Nothing is allocated.
class KernelCall {
public:
    KernelCall(const Call& call, int features) noexcept
        : call_(call),
          planar_(call.shape.view == View::planar),
          context_(kernel_context()),
          channels_dim_{0, features, 1, 0} {
        add(&context_);
    }
    KernelCall(const KernelCall&) = delete;
    KernelCall& operator=(const KernelCall&) = delete;

    // An output that is not part of the call (see kernel_abi.h on dx) has x's form, no outermost extent and no data.
    void tensor(Role role) noexcept {
        const Operand& given = call_[role];
        const bool absent = given.name == nullptr;
        const Operand& form = absent ? call_[Role::x] : given;
        fusebn_dim* const dim = add_dimensions(form.outer_stride, form.channel_stride, absent ? 0 : call_.shape.outer);
        const bool f32 = call_.dtype == DataType::f32;
        add_buffer(absent ? nullptr : given.data, f32 ? ieee_float : unsigned_integer, f32 ? 32 : 16, dim,
                   planar_ ? 3 : 2);
    }
    void mask(std::uint8_t* bits) noexcept {
        const MaskLayout layout = mask_layout(call_.shape);
        // A stride that nothing is multiplied by need not fit; one that something is was seen to fit.
        const std::int64_t outer_stride = call_.shape.outer > 1 ? layout.outer_stride : 0;
        fusebn_dim* const dim = add_dimensions(outer_stride, layout.row, call_.shape.outer);
        add_buffer(bits, unsigned_integer, 8, dim, planar_ ? 3 : 2);
    }
    // One value a channel.
    void channels(const float* values) noexcept { add_buffer(values, ieee_float, 32, &channels_dim_, 1); }
    void channels(const double* values) noexcept { add_buffer(values, ieee_float, 64, &channels_dim_, 1); }
    void scalar(const double* value) noexcept { add(value); }
    void scalar(const float* value) noexcept { add(value); }
    void scalar(const std::int32_t* value) noexcept { add(value); }

    // out_of_memory: nothing was written. invalid_argument: the user's parallel_for threw or left out tasks, the
    // outputs are incomplete.
    Status run(const Choice& choice) { return outcome(choice.entry(arguments_), choice); }

    // On a device: what the arguments point to is there, and the kernel's own code comes back.
    int run_on(const fusebn_context& device_context, fusebn_entry entry) noexcept {
        for (fusebn_buffer* buffer = buffers_; buffer != next_buffer_; ++buffer) {
            if (buffer->host == nullptr) continue;  // absent, or by an earlier run
            buffer->device = reinterpret_cast<std::uintptr_t>(buffer->host);
            buffer->host = nullptr;
        }
        context_ = &device_context;
        return entry(arguments_);
    }

    const fusebn_context& context() const { return *context_; }

private:
    // The longest list is train_forward's with a second branch; the most tensors are backward's with two branches.
    static constexpr int max_arguments = 27;
    static constexpr int max_dimensions = 3 * role_count + 3;
    static constexpr std::uint8_t unsigned_integer = 1, ieee_float = 2;  // fusebn_buffer::type_code

    void add(const void* argument) noexcept { *next_argument_++ = const_cast<void*>(argument); }
    void add_buffer(const void* data, std::uint8_t type_code, std::uint8_t type_bits, fusebn_dim* dim,
                    std::int32_t dimensions) noexcept {
        fusebn_buffer& buffer = *next_buffer_++;
        // Field by field: a struct that is made elsewhere and copied is read before its parts have been stored.
        buffer.device = 0;
        buffer.device_interface = nullptr;
        buffer.host = static_cast<std::uint8_t*>(const_cast<void*>(data));
        buffer.flags = 0;
        buffer.type_code = type_code;
        buffer.type_bits = type_bits;
        buffer.type_lanes = 1;
        buffer.dimensions = dimensions;
        buffer.dim = dim;
        buffer.padding = nullptr;
        add(&buffer);
    }
    // Dimensions of the call's view with these outer strides.
    fusebn_dim* add_dimensions(std::int64_t outer_stride, std::int64_t channel_stride, std::int64_t outer) noexcept {
        fusebn_dim* const dim = next_dim_;
        const auto set = [dim](int i, std::int64_t extent, std::int64_t stride) {
            dim[i] = {0, static_cast<std::int32_t>(extent), static_cast<std::int32_t>(stride), 0};
        };
        const Shape& shape = call_.shape;
        if (planar_) {
            set(0, shape.inner, 1);
            set(1, shape.channels, channel_stride);
            set(2, outer, outer_stride);
            next_dim_ += 3;
        } else {
            set(0, shape.channels, 1);
            set(1, outer, outer_stride);
            next_dim_ += 2;
        }
        return dim;
    }

    const Call& call_;
    const bool planar_;
    const fusebn_context* context_;
    fusebn_dim channels_dim_;
    void* arguments_[max_arguments];
    fusebn_buffer buffers_[max_arguments];
    fusebn_dim dims_[max_dimensions];
    void** next_argument_ = arguments_;
    fusebn_buffer* next_buffer_ = buffers_;
    fusebn_dim* next_dim_ = dims_;
};

}  // namespace fusebn::detail
