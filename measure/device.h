// The device that a target's kernels run on, as a user's program would find it: by a layer.
//
// Who asks has the device's driver from then on, which does not outlive a fork: a process that goes on forking asks in
// one of its own.
#pragma once

#include <string>

#include "fusebn/batch_norm.h"

namespace fusebn::measure {

// The first device of the target's kind; the CPU for a CPU's.
Device device_of(InstructionSet target);

struct DeviceHere {
    std::string name;     // "NVIDIA H100 80GB HBM3"; "" where there is none
    std::string missing;  // why kernels of the target do not run here, in the runtime's words; "" where they do
};
DeviceHere find_device(InstructionSet target);

// A copy of a device's memory: of the first bytes of `from`, as many as both have, in whole 16 bytes. It is queued as
// any kernel of a layer is. Both must outlive it.
class DeviceCopy {
public:
    DeviceCopy(const Device& device, const DeviceMemory& from, const DeviceMemory& to);
    // Of the first copy, which is made at once: there may be no memory, or the device does not take the kernel.
    const Status& status() const { return status_; }
    void run_or_exit();

private:
    Status run();

    Status status_;
    BatchNorm1d layer_;
    ConstTensor from_;
    Tensor to_;
};

}  // namespace fusebn::measure
