// Tensors and options of layers on any device.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "fake_library.h"
#include "fusebn/batch_norm.h"
#include "fusebn/device.h"

namespace fusebn::test {

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

BatchNormOptions on(const Device& device, Activation activation = Activation::none);

}  // namespace fusebn::test
