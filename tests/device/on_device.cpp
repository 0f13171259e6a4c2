#include "on_device.h"

namespace fusebn::test {

DeviceTensor::DeviceTensor(const Device& device, const std::vector<float>& values, DataType dtype)
    : dtype_(dtype), size_(values.size()), memory_(device, size_ * static_cast<std::size_t>(element_bytes(dtype))) {
    EXPECT_TRUE(memory_.status().ok()) << memory_.status().message();
    set(values);
}

void DeviceTensor::set(const std::vector<float>& values) {
    std::vector<std::uint16_t> bits;
    for (const float v : values) bits.push_back(dtype_ == DataType::bf16 ? to_bfloat16(v).bits : to_float16(v).bits);
    const void* const from = dtype_ == DataType::f32 ? static_cast<const void*>(values.data()) : bits.data();
    const Status s = memory_.upload(from, memory_.bytes());
    EXPECT_TRUE(s.ok()) << s.message();
}

std::vector<float> DeviceTensor::get() const {
    std::vector<float> values(size_);
    std::vector<std::uint16_t> bits(size_);
    void* const to = dtype_ == DataType::f32 ? static_cast<void*>(values.data()) : bits.data();
    const Status s = memory_.download(to, memory_.bytes());
    EXPECT_TRUE(s.ok()) << s.message();
    for (std::size_t i = 0; i < size_ && dtype_ != DataType::f32; ++i) {
        values[i] = dtype_ == DataType::bf16 ? to_float(bfloat16{bits[i]}) : to_float(float16{bits[i]});
    }
    return values;
}

void expect_error(const Status& s, ErrorCode code, const std::string& words) {
    EXPECT_EQ(s.code(), code) << s.message();
    EXPECT_NE(s.message().find(words), std::string::npos) << s.message();
}

BatchNormOptions on(const Device& device, Activation activation) {
    BatchNormOptions options;
    options.device = device;
    options.activation = activation;
    return options;
}

}  // namespace fusebn::test
