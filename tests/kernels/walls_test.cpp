// No kernel of a device touches memory beyond a tensor, a parameter, a mask or its working memory: each of them ends at
// a page that nothing may touch (walled_opencl.h).

#include <kernels_device.h>

#include <array>

#include "device/opencl_driver.h"
#include "kernels/device_cases.h"
#include "kernels/run.h"
#include "kernels/walled_opencl.h"

using namespace fusebn;
using namespace kernels;

namespace {

std::string touched() {
    const Beyond beyond = fusebn_touched_beyond();
    if (beyond.times == 0) return "";
    return std::to_string(beyond.times) + " buffers overrun, first one of " + std::to_string(beyond.bytes) +
           " bytes at " + std::to_string(beyond.offset);
}

class Walls : public testing::TestWithParam<Case> {
protected:
    void SetUp() override {
        if (device_count(DeviceKind::opencl) == 0)
            GTEST_SKIP() << "no OpenCL device with doubles: install pocl-opencl-icd";
    }
};

TEST_P(Walls, AreNotTouched) {
    const Case& c = GetParam();
    const Inputs inputs = random_inputs(c, Data::ordinary);
    for (const int gap : {0, 3}) {  // rows at multiples of a vector, where they are, and not
        SCOPED_TRACE(gap);
        How how;
        how.device = Device::opencl();
        how.room_behind = false;
        how.outer_gap = gap;
        run(kernels_device::kernels(), c, inputs, how);
        EXPECT_EQ(touched(), "");
    }
}

// The walls themselves: one element too many is noticed, so PoCL uses the memory in place.
TEST(AWall, IsMetByOneElementTooMany) {
    if (device_count(DeviceKind::opencl) == 0) GTEST_SKIP() << "no OpenCL device";
    using detail::opencl::driver, detail::opencl::success;
    constexpr std::size_t count = 100;
    const char* text =
        "kernel void set(global float* x) { x[get_global_id(0)] = 1; }"
        "kernel void get(global float* x) { x[0] = x[get_global_id(0)]; }";
    const std::size_t length = std::char_traits<char>::length(text);
    const auto context = static_cast<detail::opencl::Context>(opencl_context(Device::opencl()));
    const auto queue = static_cast<detail::opencl::Queue>(opencl_queue(Device::opencl()));
    detail::opencl::Result code = success;
    const detail::opencl::Program program = driver().create_program(context, 1, &text, &length, &code);
    ASSERT_EQ(driver().build_program(program, 1, driver().all_devices.data(), "", nullptr, nullptr), success);
    for (const char* name : {"get", "set"}) {
        const DeviceMemory memory(Device::opencl(), count * sizeof(float));
        ASSERT_TRUE(memory.status().ok()) << memory.status().message();
        const detail::opencl::Kernel kernel = driver().create_kernel(program, name, &code);
        void* data = memory.data();
        driver().set_argument(kernel, 0, sizeof(data), &data);
        for (const std::size_t items : {count, count + 1}) {
            const std::array<std::size_t, 1> global{items}, local{1};
            ASSERT_EQ(driver().launch(queue, kernel, 1, nullptr, global.data(), local.data(), 0, nullptr, nullptr),
                      success);
            ASSERT_EQ(driver().finish(queue), success);
            EXPECT_EQ(touched(), items == count ? "" : "1 buffers overrun, first one of 400 bytes at 400") << name;
        }
        driver().release_kernel(kernel);
    }
    driver().release_program(program);
}

std::string test_name(const testing::TestParamInfo<Case>& info) { return kernels::name(info.param); }
INSTANTIATE_TEST_SUITE_P(All, Walls, testing::ValuesIn(device_cases()), test_name);

}  // namespace
