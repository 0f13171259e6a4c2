// What is changed in Halide's statements after all of its own lowering.
#pragma once

#include <Halide.h>

#include <memory>
#include <string>
#include <vector>

#include "fusebn/types.h"

namespace fusebn {

// In the order in which they are applied; `converts_f16` says that there is an instruction for it, `tensors` is the
// name of the Func that is y or dx.
std::vector<std::unique_ptr<Halide::Internal::IRMutator>> mutators_of(InstructionSet isa, bool converts_f16,
                                                                      const std::string& tensors);

}  // namespace fusebn
