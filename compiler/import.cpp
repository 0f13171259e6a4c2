// ONNX is read by its own Python package, at build time only: a C++ reader would bring protobuf into the tool for a
// file that is read once.
#include "compiler/import.h"

#include <sys/stat.h>

#include <iostream>
#include <optional>

#include "compiler/python.h"

namespace fusebn {

namespace {

// What -o names; nothing where no file is to be written.
std::optional<std::string> output_of(const std::vector<std::string>& args) {
    std::optional<std::string> output;
    for (std::size_t i = 0; i < args.size(); ++i) {
        const std::string& word = args[i];
        if (word == "-h" || word == "--help") return std::nullopt;
        if ((word == "-o" || word == "--output") && i + 1 < args.size()) {
            output = args[++i];
        } else if (word.rfind("--output=", 0) == 0) {
            output = word.substr(9);
        } else if (word.rfind("-o", 0) == 0) {
            output = word.substr(2);
        }
    }
    return output == "-" ? std::nullopt : output;
}

struct stat state_of(const std::string& path) {
    struct stat state {};
    if (stat(path.c_str(), &state) != 0) state = {};
    return state;
}

}  // namespace

int run_import(const std::vector<std::string>& args) {
    const std::optional<std::string> output = output_of(args);
    const struct stat before = state_of(output.value_or(""));
    const int status = run_python("fusebn import", "import_onnx.py", "onnx", args);
    if (status != 0 || !output) return status;
    // A program that is no Python succeeds as well. The script renames a new file over the old one.
    const struct stat after = state_of(*output);
    const bool same = before.st_ino == after.st_ino && before.st_ctim.tv_sec == after.st_ctim.tv_sec &&
                      before.st_ctim.tv_nsec == after.st_ctim.tv_nsec;
    if (after.st_mode != 0 && (!S_ISREG(after.st_mode) || !same)) return 0;
    std::cerr << "fusebn import: " << *output
              << ": nothing was written to it, though Python ended without an error; is what FUSEBN_PYTHON names a "
                 "Python?"
              << std::endl;
    return 1;
}

}  // namespace fusebn
