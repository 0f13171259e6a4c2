// The names in a spec that are no rows of types.h: targets, and what a library may be called. What other rooms ask of
// them is in spec.h.
#pragma once

#include <string>
#include <vector>

#include "compiler/spec_words.h"

namespace fusebn {

// What may stand in `targets`: the instruction sets, and "host".
Words target_words();

// "host" is the best of this machine. Throws Mistake.
InstructionSet target_named(const std::string& text);

// Ascending, no duplicates.
void sort_unique(std::vector<InstructionSet>& targets);

}  // namespace fusebn
