// Which instruction set the kernels may use.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "fusebn/types.h"

namespace fusebn::detail {

// The instruction set that `wanted` (FUSEBN_CPU; null where it is not set) names if `best` includes it, else `best`.
// `complaint` says why a wish is not followed.
InstructionSet choose_instruction_set(const char* wanted, InstructionSet best, std::string& complaint);

// The name of a CPU of CPUID's `vendor`, of which letters and digits count: "GenuineIntel family 6 model 167".
std::string processor_name(std::string_view vendor, int family, int model);
// `wanted` (FUSEBN_PROCESSOR; null where it is not set) where it is such a name or the beginning of one, else `here`.
std::string choose_processor(const char* wanted, const std::string& here, std::string& complaint);

// The highest that kernels may use now; nothing on a CPU below the lowest.
std::optional<InstructionSet> usable_instruction_set() noexcept;

}  // namespace fusebn::detail
