// A program on a machine without drivers: it starts, and is told so. FUSEBN_LIBCUDA and FUSEBN_LIBOPENCL name libraries
// that are not there.
#include <gtest/gtest.h>

#include "fake_library.h"
#include "fusebn/device.h"

namespace fusebn::test {
namespace {

void expect_no_device(const Device& device, const std::string& words) {
    EXPECT_EQ(device_count(device.kind), 0);
    EXPECT_EQ(device_name(device), "");
    FakeLibrary library = generic_library();
    BatchNormOptions options;
    options.device = device;
    BatchNorm2d bn(4, library.table(), options);
    EXPECT_EQ(bn.status().code(), ErrorCode::no_device);
    EXPECT_NE(bn.status().message().find(words), std::string::npos) << bn.status().message();
    const std::vector<float> x(72);
    std::vector<float> y(72, 7);
    const Extents e{2, 4, 3, 3};
    EXPECT_EQ(bn.forward(tensor(x.data(), Layout::NCHW, e), tensor(y.data(), Layout::NCHW, e)).message(),
              bn.status().message());
    EXPECT_EQ(y, std::vector<float>(72, 7));
    EXPECT_EQ(DeviceMemory(device, 8).status().code(), ErrorCode::no_device);
}

TEST(NoDriver, OfCudaIsNoDevice) {
    expect_no_device(Device::cuda(), "options.device: the CUDA driver cannot be loaded (/nowhere/libcuda.so.1");
}

TEST(NoDriver, OfOpenClIsNoDevice) {
    expect_no_device(Device::opencl(), "options.device: OpenCL cannot be loaded (/nowhere/libOpenCL.so.1");
    EXPECT_EQ(opencl_context(Device::opencl()), nullptr);
    EXPECT_EQ(opencl_queue(Device::opencl()), nullptr);
}

TEST(NoDriver, LeavesTheCpu) {
    FakeLibrary library = generic_library();
    BatchNorm2d bn(4, library.table());
    const std::vector<float> x = noise(72);
    std::vector<float> y(72);
    const Extents e{2, 4, 3, 3};
    EXPECT_TRUE(bn.forward(tensor(x.data(), Layout::NCHW, e), tensor(y.data(), Layout::NCHW, e)).ok());
}

}  // namespace
}  // namespace fusebn::test
