#include "compiler/files.h"

#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace fusebn {

std::string read_file(const std::string& path) { return read_file(path, SIZE_MAX); }

std::string read_file(const std::string& path, std::size_t max_bytes) {
    std::ifstream in(path, std::ios::binary);
    if (!in) throw std::runtime_error(path + ": cannot be read: " + std::strerror(errno));
    std::string text, piece(std::size_t{1} << 20, '\0');
    while (in.read(piece.data(), static_cast<std::streamsize>(piece.size())) || in.gcount() > 0) {
        text.append(piece, 0, static_cast<std::size_t>(in.gcount()));
        if (text.size() <= max_bytes) continue;
        throw std::runtime_error(path + ": found more than " + std::to_string(max_bytes) +
                                 " bytes; allowed: that many at most");
    }
    if (in.bad()) throw std::runtime_error(path + ": cannot be read: " + std::strerror(errno));
    return text;
}

std::string temporary_name(const std::string& path) { return path + "." + std::to_string(getpid()) + ".tmp"; }

void write_file(const std::string& path, const std::string& contents) {
    const std::string temporary = temporary_name(path);
    {
        std::ofstream out(temporary, std::ios::binary);
        out.write(contents.data(), static_cast<std::streamsize>(contents.size()));
        if (!out.flush()) {
            const std::string reason = std::strerror(errno);
            std::remove(temporary.c_str());
            throw std::runtime_error(path + ": cannot be written: " + reason);
        }
    }
    if (std::rename(temporary.c_str(), path.c_str()) != 0) {
        const std::string reason = std::strerror(errno);
        std::remove(temporary.c_str());
        throw std::runtime_error(path + ": cannot be written: " + reason);
    }
}

namespace {

std::string temporary_template() {
    const char* dir = std::getenv("TMPDIR");
    return std::string(dir && *dir ? dir : "/tmp") + "/fusebn-XXXXXX";
}

}  // namespace

TemporaryFile::TemporaryFile() : path_(temporary_template()) {
    const int fd = mkstemp(path_.data());
    if (fd < 0) throw std::runtime_error("cannot create a temporary file like " + path_);
    close(fd);
}

TemporaryFile::~TemporaryFile() { unlink(path_.c_str()); }

TemporaryFolder::TemporaryFolder() : path_(temporary_template()) {
    if (mkdtemp(path_.data()) == nullptr) throw std::runtime_error("cannot make a temporary folder like " + path_);
}

TemporaryFolder::~TemporaryFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
}

}  // namespace fusebn
