#include "device/helpers.h"

#include <algorithm>

#include "device/helper_code.h"
#include "mask.h"

namespace fusebn::detail {
namespace {

// By their addresses, as launchers know them.
constexpr const char* add_name = "fusebn_add";
constexpr const char* constants_name = "fusebn_constants";
constexpr const char* mask8_name = "fusebn_mask8";
constexpr const char* mask16_name = "fusebn_mask16";
constexpr const char* mask32_name = "fusebn_mask32";

// The arguments of one launch, in the form that fusebn_context::launch takes.
class HelperArguments {
public:
    HelperArguments() = default;
    HelperArguments(const HelperArguments&) = delete;
    HelperArguments& operator=(const HelperArguments&) = delete;

    void pointer(const void* on_device) {
        fusebn_buffer& buffer = buffers_[count_];
        buffer.device = reinterpret_cast<std::uintptr_t>(on_device);
        add(sizeof(buffer.device), &buffer, 1);
    }
    void scalar(std::int32_t value) { scalar(4, values_[count_].i32 = value); }
    void scalar(std::uint32_t value) { scalar(4, values_[count_].u32 = value); }
    void scalar(std::int64_t value) { scalar(8, values_[count_].i64 = value); }
    void scalar(double value) { scalar(8, values_[count_].f64 = value); }

    Status launch(Launcher& launcher, const char* name, const std::int32_t (&grid)[3], const std::int32_t (&block)[3]) {
        return launcher.launch(helper_code(launcher.backend().device().kind), name,
                               {grid, block, 0, sizes_, arguments_, is_buffer_});
    }

private:
    static constexpr int most = 16;

    template <class T>
    void scalar(std::uint64_t size, const T&) {
        add(size, &values_[count_], 0);
    }
    void add(std::uint64_t size, void* argument, std::int8_t is_buffer) {
        sizes_[count_] = size;
        arguments_[count_] = argument;
        is_buffer_[count_] = is_buffer;
        ++count_;
    }

    union Value {
        std::int32_t i32;
        std::uint32_t u32;
        std::int64_t i64;
        double f64;
    };
    int count_ = 0;
    Value values_[most] = {};
    fusebn_buffer buffers_[most] = {};
    std::uint64_t sizes_[most + 1] = {};
    void* arguments_[most + 1] = {};
    std::int8_t is_buffer_[most + 1] = {};
};

constexpr std::int32_t threads = 256;
constexpr std::int32_t row_threads = 64, rows_of_block = 4;
constexpr std::int64_t most_blocks = 1024;

std::int32_t blocks(std::int64_t count, std::int32_t per_block) {
    return static_cast<std::int32_t>(std::min((count + per_block - 1) / per_block, most_blocks));
}

Status for_channels(Launcher& launcher, const char* name, HelperArguments& arguments, int count) {
    return arguments.launch(launcher, name, {(count + threads - 1) / threads, 1, 1}, {threads, 1, 1});
}

struct Strides {
    std::int64_t outer, channel, step;
};
struct Walk {
    std::int64_t rows, channels, length;
    Strides from, to;
};

Status write_mask(Launcher& launcher, const char* name, const void* from, std::uint8_t* to, const Walk& walk,
                  std::uint32_t last) {
    HelperArguments arguments;
    arguments.pointer(from);
    arguments.pointer(to);
    for (const std::int64_t value : {walk.rows, walk.channels, walk.length, walk.from.outer, walk.from.channel,
                                     walk.from.step, walk.to.outer, walk.to.channel, walk.to.step}) {
        arguments.scalar(value);
    }
    arguments.scalar(last);
    return arguments.launch(launcher, name, {blocks(walk.length, row_threads), blocks(walk.rows, rows_of_block), 1},
                            {row_threads, rows_of_block, 1});
}

}  // namespace

Status prepare_helpers(Launcher& launcher) {
    const fusebn_device_code& code = helper_code(launcher.backend().device().kind);
    for (const char* name : {add_name, constants_name, mask8_name, mask16_name, mask32_name}) {
        Function* function = nullptr;
        if (Status s = launcher.find(code, name, function); !s.ok()) return s;
    }
    return Status();
}

Status add(Launcher& launcher, float* y, const float* x, int count) {
    HelperArguments arguments;
    arguments.pointer(y);
    arguments.pointer(x);
    arguments.scalar(count);
    return for_channels(launcher, add_name, arguments, count);
}

Status constant_statistics(Launcher& launcher, const float* running_mean, const float* running_var, double eps,
                           double* mean, double* inv_std, int count) {
    HelperArguments arguments;
    arguments.pointer(running_mean);
    arguments.pointer(running_var);
    arguments.scalar(eps);
    arguments.pointer(mean);
    arguments.pointer(inv_std);
    arguments.scalar(count);
    return for_channels(launcher, constants_name, arguments, count);
}

Status mask_of_result(Launcher& launcher, const Call& call, Activation activation, std::uint8_t* mask) {
    const Shape& shape = call.shape;
    const bool planar = shape.view == View::planar;
    const MaskLayout layout = mask_layout(shape);
    const Operand& y = call[Role::out];
    const std::int64_t channels = planar ? shape.channels : 1;
    const Walk walk{shape.outer * channels,
                    channels,
                    planar ? shape.inner : shape.channels,
                    {y.outer_stride, y.channel_stride, 1},
                    {layout.outer_stride, layout.row, 1}};
    const bool f32 = call.dtype == DataType::f32;
    return write_mask(launcher, f32 ? mask32_name : mask16_name, y.data, mask, walk,
                      last_that_passes(call.dtype, activation));
}

Status change_mask_view(Launcher& launcher, const Shape& shape, const std::uint8_t* from, View wanted,
                        std::uint8_t* to) {
    const auto strides = [&](View view) {
        Shape in_view = shape;
        in_view.view = view;
        const MaskLayout layout = mask_layout(in_view);
        // Planar, a channel is a row of one element.
        return Strides{layout.outer_stride, 0, view == View::planar ? layout.row : 1};
    };
    const Walk walk{shape.outer, 1, shape.channels, strides(shape.view), strides(wanted)};
    return write_mask(launcher, mask8_name, from, to, walk, 255);
}

}  // namespace fusebn::detail
