// A driver that is there and does not start, as on a machine whose GPU is gone. A process asks once.
#include <gtest/gtest.h>

#include "fake_cuda.h"
#include "fusebn/device.h"

namespace fusebn::test {
namespace {

TEST(DriverStart, ThatFailsIsNoDevice) {
    fake_cuda().fail(1, 100, "cuInit");
    EXPECT_EQ(device_count(DeviceKind::cuda), 0);
    EXPECT_EQ(device_name(Device::cuda()), "");
    const DeviceMemory memory(Device::cuda(), 8);
    EXPECT_EQ(memory.status().code(), ErrorCode::no_device);
    EXPECT_NE(memory.status().message().find("does not start: "), std::string::npos) << memory.status().message();
}

}  // namespace
}  // namespace fusebn::test
