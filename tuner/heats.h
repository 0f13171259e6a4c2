// A batch in the process that it was given to: checked, then timed in heats.
#pragma once

#include <cstddef>
#include <functional>
#include <stdexcept>

#include "tuner/trial.h"

namespace fusebn {

// A device's driver refused something, and may refuse everything from then on: the process is of no more use.
class DeviceFailure : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// `begin` is told each candidate before it is run for the first time. Throws DeviceFailure, of the one that was begun
// last, std::bad_alloc and std::runtime_error.
BatchResult run_heats(const Batch& batch, const std::function<void(std::size_t)>& begin);

}  // namespace fusebn
