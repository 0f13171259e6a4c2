// Layers on the devices of fake_cuda.h.
#pragma once

#include "fake_cuda.h"
#include "fake_kernels.h"
#include "on_device.h"

namespace fusebn::test {

// The kernels of fake_kernels.h and the runtime's own.
void register_kernels();

// A library of generic kernels for CUDA and for the CPU.
FakeLibrary library_of_both(Activation activation = Activation::none, DataType dtype = DataType::f32);

// Nothing that a driver would not forgive happened, every context that was pushed was popped, and with the test's own
// objects all memory and modules went.
class OnCuda : public testing::Test {
public:
    ~OnCuda() override;  // after the members of what is derived from it

protected:
    void SetUp() override;
};

}  // namespace fusebn::test
