// `fusebn import`: an ONNX model's batch norms as a spec.
#pragma once

#include <string>
#include <vector>

namespace fusebn {

// Runs import_onnx.py with `args` (all that follows "import" on the command line) and returns its exit status: 0, 1 for
// a model that cannot be imported, 2 for wrong arguments, 128 + n when signal n ended it. Where Python or the script is
// missing: 1, and a sentence on stderr that says what to install.
int run_import(const std::vector<std::string>& args);

}  // namespace fusebn
