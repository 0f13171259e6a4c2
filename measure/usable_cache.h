// How much of the L3 cache is this process's to use.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "measure/machine.h"

namespace fusebn::measure {

// Bytes, at most machine.l3. A virtual machine states the L3 cache of a whole server, of which its few cores may fill a
// part only (480 MB stated, 64 MB reached): what is read again and again is read the slower the less of it is kept.
// Measured once a process, in a second or a few, with all of fusebn's threads. What is stated is believed where reading
// shows no difference between a cache and memory.
std::int64_t usable_l3(const Machine& machine);

// The largest of the sizes that is read at a cache's speed: sizes ascend, the first three are in the cache, the last
// three in memory. None where their speeds cannot be told apart.
std::optional<std::int64_t> knee(const std::vector<std::int64_t>& sizes, const std::vector<double>& speeds);

}  // namespace fusebn::measure
