#include "compiler/python.h"

#include <spawn.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <system_error>

// Where the script is installed, seen from the directory of the executable.
#ifndef FUSEBN_SHARE_DIR
#define FUSEBN_SHARE_DIR "../share/fusebn"
#endif

extern char** environ;

namespace fusebn {
namespace {

namespace fs = std::filesystem;

// The installed script; else, in a build tree, the one in the sources. Empty where there is neither.
fs::path find_script(const std::string& name) {
    std::error_code error;
    const fs::path executable = fs::read_symlink("/proc/self/exe", error);
    if (!error) {
        const fs::path installed = executable.parent_path() / FUSEBN_SHARE_DIR / name;
        if (fs::is_regular_file(installed, error)) return installed;
    }
#ifdef FUSEBN_SCRIPT_DIR
    const fs::path source = fs::path(FUSEBN_SCRIPT_DIR) / name;
    if (fs::is_regular_file(source, error)) return source;
#endif
    return {};
}

std::string find_python() {
    if (const char* python = std::getenv("FUSEBN_PYTHON"); python != nullptr && *python != '\0') return python;
#ifdef FUSEBN_PYTHON_DEFAULT
    // A Python that was there when fusebn was built need not be where it runs.
    std::error_code error;
    if (fs::exists(FUSEBN_PYTHON_DEFAULT, error)) return FUSEBN_PYTHON_DEFAULT;
#endif
    return "python3";
}

int refuse(const std::string& command, const std::string& sentence) {
    std::cerr << command << ": " << sentence << std::endl;
    return 1;
}

}  // namespace

int run_python(const std::string& command, const std::string& name, const std::string& packages,
               const std::vector<std::string>& args) {
    const fs::path script = find_script(name);
    if (script.empty()) {
        return refuse(command,
                      name + " was not found at " FUSEBN_SHARE_DIR
                             " beside the fusebn executable; install fusebn as a whole, with its share/ directory");
    }
    const std::string python = find_python();
    std::vector<std::string> words = {python, "-B", script.string()};  // -B: nothing is written beside the script
    words.insert(words.end(), args.begin(), args.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);

    std::cout.flush();  // what was said before the script comes before what it says
    std::fflush(nullptr);
    pid_t child = 0;
    if (const int error = posix_spawnp(&child, python.c_str(), nullptr, nullptr, argv.data(), environ); error != 0) {
        return refuse(command, "Python (" + python + ") cannot be run: " + std::strerror(error) +
                                   "; install Python 3.9 or later with " + packages + " (python3 -m pip install " +
                                   packages + "), or name such a Python in the environment variable FUSEBN_PYTHON");
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) return refuse(command, std::string("cannot wait for Python: ") + std::strerror(errno));
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace fusebn
