// The runtime's own kernels, which do on a device what the runtime does on the CPU: the PTX on the fake driver,
// OpenCL's on a device where there is one.
#include "device/helpers.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "mask.h"
#include "on_cuda.h"

namespace fusebn::test {
namespace {

using namespace fusebn::detail;

class Helpers : public OnCuda, public testing::WithParamInterface<DeviceKind> {
protected:
    void SetUp() override {
        OnCuda::SetUp();
        if (device_count(GetParam()) == 0) GTEST_SKIP() << "no OpenCL device with doubles: install pocl-opencl-icd";
        expect_ok(open_backend(device_, backend_));
        scope_.emplace(*backend_);
        launcher_.emplace(backend_);
        expect_ok(prepare_helpers(*launcher_));
    }
    DeviceMemory memory(const void* from, std::size_t bytes) const {
        DeviceMemory made(device_, bytes);
        expect_ok(made.upload(from, bytes));
        return made;
    }
    template <class T>
    DeviceMemory memory(const std::vector<T>& values) const {
        return memory(values.data(), values.size() * sizeof(T));
    }
    template <class T>
    static std::vector<T> read(const DeviceMemory& memory) {
        std::vector<T> values(memory.bytes() / sizeof(T));
        expect_ok(memory.download(values.data(), memory.bytes()));
        return values;
    }
    template <class T>
    static T* pointer(const DeviceMemory& memory) {
        return static_cast<T*>(memory.data());
    }
    const Device device_{GetParam(), 0};
    std::shared_ptr<Backend> backend_;
    std::optional<ContextScope> scope_;
    std::optional<Launcher> launcher_;
};

TEST_P(Helpers, Add) {
    for (const int count : {1, 255, 1000}) {
        const auto size = static_cast<std::size_t>(count);
        const std::vector<float> x = noise(size + 3, 0, 1), y = noise(size + 3, 5, 2);
        const DeviceMemory from = memory(x), to = memory(y);
        expect_ok(add(*launcher_, pointer<float>(to), pointer<float>(from), count));
        std::vector<float> expected = y;
        for (std::size_t i = 0; i < size; ++i) expected[i] = y[i] + x[i];
        EXPECT_EQ(read<float>(to), expected);
    }
}

TEST_P(Helpers, MakeConstantStatisticsToTheBit) {
    const int count = 300;
    std::vector<float> mean = noise(count, 2, 3), var = noise(count, 1, 4);
    var[0] = 0, var[1] = 1e-42f, var[2] = 3e38f, mean[3] = -1e-42f;
    const std::vector<double> before(count + 2, 7);
    const DeviceMemory in_mean = memory(mean), in_var = memory(var), out_mean = memory(before), out = memory(before);
    expect_ok(constant_statistics(*launcher_, pointer<float>(in_mean), pointer<float>(in_var), 1e-5,
                                  pointer<double>(out_mean), pointer<double>(out), count));
    std::vector<double> expected_mean = before, expected = before;
    for (std::size_t i = 0; i < count; ++i) {
        expected_mean[i] = mean[i];
        expected[i] = 1.0 / std::sqrt(static_cast<double>(var[i]) + 1e-5);
    }
    EXPECT_EQ(read<double>(out_mean), expected_mean);
    EXPECT_EQ(read<double>(out), expected);
}

// More rows than blocks and more elements of a row than threads, too.
TEST_P(Helpers, ReadMasksOffTheResult) {
    const Shape shapes[] = {{View::planar, 2, 3, 37},
                            {View::planar, 3000, 2, 3},
                            {View::planar, 1, 1, 70001},
                            {View::interleaved, 5, 3, 1},
                            {View::interleaved, 4200, 2, 1}};
    constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    const float special[] = {0.0f, -0.0f, 6.0f, std::nextafter(6.0f, 0.0f), inf, -inf, nan, 1e-45f, -1e-45f, 3e38f};
    for (const Shape& shape : shapes) {
        for (const DataType dtype : {DataType::f32, DataType::bf16, DataType::f16}) {
            for (const Activation activation : {Activation::relu, Activation::relu6, Activation::leaky_relu}) {
                SCOPED_TRACE(testing::Message() << extents_text(shape) << to_string(dtype) << to_string(activation));
                Call call;
                call.dtype = dtype;
                call.shape = shape;
                Operand& y = call[Role::out];
                y.name = "y";
                const bool planar = shape.view == View::planar;
                y.channel_stride = planar ? shape.inner + 2 : 1;
                y.outer_stride = planar ? shape.channels * y.channel_stride + 1 : shape.channels + 3;
                std::vector<float> values = noise(static_cast<std::size_t>(shape.outer * y.outer_stride) + 1, 0, 5);
                for (std::size_t i = 0; i < values.size(); ++i) {
                    values[i] = i % 7 == 3 ? special[i / 7 % std::size(special)] : values[i] * 8;
                }
                const DeviceTensor on_device(device_, values, dtype);
                const std::vector<float> rounded = on_device.get();
                y.data = on_device.data();
                const MaskLayout layout = mask_layout(shape);
                const DeviceMemory mask = memory(std::vector<std::uint8_t>(static_cast<std::size_t>(layout.size), 9));
                expect_ok(mask_of_result(*launcher_, call, activation, pointer<std::uint8_t>(mask)));
                const auto bytes = read<std::uint8_t>(mask);
                const std::int64_t channels = planar ? shape.channels : 1;
                const std::int64_t length = planar ? shape.inner : shape.channels;
                for (std::int64_t row = 0; row < shape.outer * channels; ++row) {
                    const std::int64_t from = row / channels * y.outer_stride + row % channels * y.channel_stride;
                    for (std::int64_t i = 0; i < length; ++i) {
                        const float v = rounded[static_cast<std::size_t>(from + i)];
                        const bool passes = v > 0 && (activation != Activation::relu6 || v < 6);
                        ASSERT_EQ(bytes[static_cast<std::size_t>(row * layout.row + i)], passes ? 1 : 0)
                            << "row " << row << ", " << i << ": " << v;
                    }
                }
            }
        }
    }
}

TEST_P(Helpers, ChangeTheViewOfMasks) {
    const Shape planar{View::planar, 9, 70, 1}, interleaved{View::interleaved, 9, 70, 1};
    const MaskLayout rows = mask_layout(planar), dense = mask_layout(interleaved);
    std::vector<std::uint8_t> in_planar(static_cast<std::size_t>(rows.size), 9);
    std::vector<std::uint8_t> in_interleaved(static_cast<std::size_t>(dense.size), 9);
    for (std::int64_t n = 0; n < 9; ++n) {
        for (std::int64_t c = 0; c < 70; ++c) {
            const std::uint8_t bit = (n * 5 + c * 3) % 7 < 3 ? 1 : 0;
            in_planar[static_cast<std::size_t>(n * rows.outer_stride + c * rows.row)] = bit;
            in_interleaved[static_cast<std::size_t>(n * dense.outer_stride + c)] = bit;
        }
    }
    const DeviceMemory from_planar = memory(in_planar), from_interleaved = memory(in_interleaved);
    const DeviceMemory to_planar = memory(std::vector<std::uint8_t>(in_planar.size(), 9));
    const DeviceMemory to_interleaved = memory(std::vector<std::uint8_t>(in_interleaved.size(), 9));
    expect_ok(change_mask_view(*launcher_, planar, pointer<std::uint8_t>(from_planar), View::interleaved,
                               pointer<std::uint8_t>(to_interleaved)));
    expect_ok(change_mask_view(*launcher_, interleaved, pointer<std::uint8_t>(from_interleaved), View::planar,
                               pointer<std::uint8_t>(to_planar)));
    EXPECT_EQ(read<std::uint8_t>(to_planar), in_planar);
    EXPECT_EQ(read<std::uint8_t>(to_interleaved), in_interleaved);
}

std::string device_of(const testing::TestParamInfo<DeviceKind>& info) {
    return info.param == DeviceKind::cuda ? "ptx" : "opencl";
}
INSTANTIATE_TEST_SUITE_P(Of, Helpers, testing::Values(DeviceKind::cuda, DeviceKind::opencl), device_of);

}  // namespace
}  // namespace fusebn::test
