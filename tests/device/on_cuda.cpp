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

FakeLibrary library_of_both(Activation activation, DataType dtype) {
    return generic_library(activation, {{}, {InstructionSet::cuda_sm_80}}, dtype);
}

void OnCuda::SetUp() {
    EXPECT_GT(device_count(DeviceKind::cuda), 0);  // once a process: no test's failures are to meet it
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
