// The kernels of all libraries that the benchmark is built with.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "layer_case.h"

namespace fusebn::bench {

// The kernels whose name has one of the words (separated by commas; "all": every one), each once, those with a shape of
// their own first.
std::vector<LayerCase> chosen_cases(const std::string& words);

// The f32 kernel that does what a 16-bit one with a shape of its own does.
std::optional<LayerCase> f32_twin(const LayerCase& layer_case);

}  // namespace fusebn::bench
