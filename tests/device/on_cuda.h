// Layers and tensors on the devices of fake_cuda.h.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "fake_cuda.h"
#include "fake_kernels.h"
#include "fake_library.h"
#include "fusebn/batch_norm.h"
#include "fusebn/device.h"

namespace fusebn::test {

// The kernels of fake_kernels.h and the runtime's own.
void register_kernels();

// Elements on a device, rounded to a type.
class DeviceTensor {
public:
    DeviceTensor(const Device& device, const std::vector<float>& values, DataType dtype = DataType::f32);
    void* data() const { return memory_.data(); }
    Tensor view(Layout layout, const Extents& extents, const Extents& strides = {}) const {
        return Tensor(memory_.data(), dtype_, layout, extents, strides);
    }
    void set(const std::vector<float>& values);
    std::vector<float> get() const;

private:
    DataType dtype_;
    std::size_t size_;
    DeviceMemory memory_;
};

inline void expect_ok(const Status& s) { ASSERT_TRUE(s.ok()) << s.message(); }
void expect_error(const Status& s, ErrorCode code, const std::string& words);

// A library of generic kernels for CUDA and for the CPU.
FakeLibrary library_of_both(Activation activation = Activation::none, DataType dtype = DataType::f32);

BatchNormOptions on(const Device& device, Activation activation = Activation::none);

// Nothing that a driver would not forgive happened, every context that was pushed was popped, and with the test's own
// objects all memory and modules went.
class OnCuda : public testing::Test {
public:
    ~OnCuda() override;  // after the members of what is derived from it

protected:
    void SetUp() override;
};

}  // namespace fusebn::test
