#include "on_cuda.h"

#include <cstring>

#include "device/helper_code.h"
#include "ptx.h"

namespace fusebn::test {
namespace {

template <class T>
T argument(const FakeLaunch& launch, int i) {
    T value{};
    std::memcpy(&value, launch.arguments[i], sizeof(T));
    return value;
}

}  // namespace

void register_kernels() {
    auto& kernels = fake_cuda().kernels;
    kernels[fake_begin_name] = {
        {8, 4}, [](const FakeLaunch& l) { fake_begin(argument<double*>(l, 0), argument<std::int32_t>(l, 1)); }};
    kernels[fake_apply_name] = {{8, 8}, [](const FakeLaunch& l) {
                                    if (fake_apply(argument<std::uint64_t>(l, 0), argument<double*>(l, 1)) == 0) return;
                                    fake_cuda().faults.emplace_back("working memory is not what it was");
                                }};
    static const auto own = ptx_kernels(detail::helper_code(DeviceKind::cuda).text);
    for (const auto& [name, kernel] : own) {
        kernels[name] = {kernel->argument_bytes(), [kernel = kernel](const FakeLaunch& l) { kernel->run(l); }};
    }
}

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

FakeLibrary library_of_both(Activation activation, DataType dtype) {
    return generic_library(activation, {{}, {InstructionSet::cuda_sm_80}}, dtype);
}

BatchNormOptions on(const Device& device, Activation activation) {
    BatchNormOptions options;
    options.device = device;
    options.activation = activation;
    return options;
}

void OnCuda::SetUp() {
    register_kernels();
    fake_cuda().forget();
}

OnCuda::~OnCuda() {
    for (const std::string& fault : fake_cuda().faults) ADD_FAILURE() << fault;
    EXPECT_TRUE(fake_cuda().contexts.empty());
    EXPECT_TRUE(fake_cuda().memory.empty());
    EXPECT_EQ(fake_cuda().modules, 0);
    fake_cuda().captured.clear();
    fake_cuda().contexts.clear();
}

}  // namespace fusebn::test
