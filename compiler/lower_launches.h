// What the host side of a lowered kernel asks for when it launches its device functions. For files that include Halide.
#pragma once

#include <Halide.h>

#include <map>
#include <string>
#include <vector>

#include "compiler/lower.h"

namespace fusebn {

// `known`: values of variables of the host side, by name. What depends on others is DeviceFunction::any.
std::vector<Launch> launches_of(const Halide::Module& module, const std::map<std::string, Halide::Expr>& known);

}  // namespace fusebn
