// The kernels of all libraries that the benchmark is built with, or of one that it is given.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "measure/layer_case.h"

namespace fusebn::bench {

using namespace measure;

// From now on the kernels of this library alone: lib<name>.so, with <name>_kernel_table in it. Throws
// std::runtime_error where it cannot be loaded or has none.
void use_library(const std::string& path);

// The kernels whose name has one of the words (separated by commas; "all": every one), each once, those with a shape of
// their own first.
std::vector<LayerCase> chosen_cases(const std::string& words);

// The f32 kernel that does what a 16-bit one with a shape of its own does.
std::optional<LayerCase> f32_twin(const LayerCase& layer_case);

}  // namespace fusebn::bench
