#include "compiler/arguments.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>

namespace fusebn {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const std::string& option, const std::string& found, const std::string& allowed) {
    throw std::runtime_error(option + ": found " + found + "; allowed: " + allowed);
}

}  // namespace

void check_caches(const CacheModel& caches) {
    if (caches.l1 <= caches.l2 && caches.l2 <= caches.l3) return;
    refuse(
        "--l1, --l2, --l3",
        std::to_string(caches.l1) + ", " + std::to_string(caches.l2) + " and " + std::to_string(caches.l3) + " bytes",
        "sizes none of which is smaller than the one before it");
}

void check_writable(const std::string& option, const std::string& path) {
    const auto fail = [&](int error) {
        refuse(option, path + ": " + std::strerror(error), "a file that can be written");
    };
    if (path.empty()) refuse(option, "\"\"", "a file that can be written");
    struct stat state {};
    if (stat(path.c_str(), &state) == 0) {
        if (S_ISDIR(state.st_mode)) fail(EISDIR);
        if (access(path.c_str(), W_OK) != 0) fail(errno);
        return;
    }
    if (errno != ENOENT) fail(errno);
    // Made as it will be: whether a folder takes files is more than its permissions. A link may lead to no file yet, so
    // what is taken away is what was opened.
    const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0) fail(errno);
    std::error_code error;
    const fs::path made = fs::read_symlink("/proc/self/fd/" + std::to_string(file), error);
    close(file);
    fs::remove(error ? fs::path(path) : made, error);
}

void check_apart(const std::string& option, const std::string& path, const std::string& other,
                 const std::string& what) {
    std::error_code error;
    if (fs::equivalent(path, other, error)) refuse(option, path + ", which is " + what, "another file");
}

}  // namespace fusebn
