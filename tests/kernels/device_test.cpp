// The schedules of a GPU, on an OpenCL device (PoCL makes one of any CPU): against the oracle, and bit for bit against
// the CPU's kernels.

#include <kernels_device.h>
#include <kernels_generic.h>
#include <kernels_plain.h>

#include "kernels/device_cases.h"
#include "kernels/run.h"

using namespace fusebn;
using namespace kernels;

namespace {

class Devices : public testing::TestWithParam<Case> {
protected:
    void SetUp() override {
        if (device_count(DeviceKind::opencl) == 0)
            GTEST_SKIP() << "no OpenCL device with doubles: install pocl-opencl-icd";
    }
    static How on_device() {
        How how;
        how.device = Device::opencl();
        return how;
    }
};

TEST_P(Devices, AgreeWithTheOracleAndGiveTheBitsOfTheCpu) {
    const Case& c = GetParam();
    for (const Data data : {Data::ordinary, Data::mean_1e4}) {
        if (data == Data::mean_1e4 && c.dtype != DataType::f32) continue;
        SCOPED_TRACE(kernels::name(data));
        const Inputs inputs = random_inputs(c, data);
        const Result result = run(kernels_device::kernels(), c, inputs, on_device());
        EXPECT_NE(result.kernel.find("opencl"), std::string::npos) << result.kernel;
        expect_oracle(c, inputs, result);
        const KernelTable& cpu =
            has_kernels_for(kernels_plain::kernels(), c) ? kernels_plain::kernels() : kernels_generic::kernels();
        EXPECT_EQ(difference(result, run(cpu, c, inputs)), "");
        EXPECT_TRUE(result.rest_untouched);
    }
}

TEST_P(Devices, TakeStridedTensors) {
    const Case& c = GetParam();
    const Inputs inputs = random_inputs(c, Data::ordinary);
    How how = on_device();
    how.outer_gap = 3;
    how.channel_gap = c.view == View::planar ? 5 : 0;
    const Result strided = run(kernels_device::kernels(), c, inputs, how);
    EXPECT_EQ(difference(strided, run(kernels_device::kernels(), c, inputs, on_device())), "");
    EXPECT_TRUE(strided.rest_untouched);
}

TEST_P(Devices, WorkInPlace) {
    const Case& c = GetParam();
    const Inputs inputs = random_inputs(c, Data::ordinary);
    How how = on_device();
    how.out = c.op == Op::backward ? Place::dy : Place::x;
    EXPECT_EQ(difference(run(kernels_device::kernels(), c, inputs, how),
                         run(kernels_device::kernels(), c, inputs, on_device())),
              "");
}

std::string test_name(const testing::TestParamInfo<Case>& info) { return kernels::name(info.param); }
INSTANTIATE_TEST_SUITE_P(All, Devices, testing::ValuesIn(device_cases()), test_name);

}  // namespace
