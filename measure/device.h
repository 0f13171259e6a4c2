// The device that a target's kernels run on, as a user's program would find it: by a layer.
//
// Who asks has the device's driver from then on, which does not outlive a fork: a process that goes on forking asks in
// one of its own.
#pragma once

#include <cstdint>
#include <functional>
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

// A copy of `bytes`, rounded up to 16, between memory of a device that it has for that, queued as any kernel of a layer
// is. The status says whether there is such memory, and whether the device takes the copy.
class DeviceCopy {
public:
    DeviceCopy(const Device& device, std::int64_t bytes);
    const Status& status() const { return status_; }
    void run_or_exit();

private:
    Status run();

    Status status_;
    DeviceMemory from_, to_;
    BatchNorm1d layer_;
    std::int64_t elements_;
};

}  // namespace fusebn::measure
