// ONNX is read by its own Python package, at build time only: a C++ reader would bring protobuf into the tool for a
// file that is read once.
#include "compiler/import.h"

#include "compiler/python.h"

namespace fusebn {

int run_import(const std::vector<std::string>& args) {
    return run_python("fusebn import", "import_onnx.py", "onnx", args);
}

}  // namespace fusebn
