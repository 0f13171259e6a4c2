// The parts of the fusebn command that are Python scripts.
#pragma once

#include <string>
#include <vector>

namespace fusebn {

// Runs `script` (import_onnx.py) with `args` and returns its exit status; 128 + n when signal n ended it. Where Python
// or the script is missing: 1, and a sentence on stderr, opened by `command`, that says what to install. `packages`
// are what the script needs.
int run_python(const std::string& command, const std::string& script, const std::string& packages,
               const std::vector<std::string>& args);

}  // namespace fusebn
