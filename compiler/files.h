// Small files, read and written whole.
#pragma once

#include <cstddef>
#include <string>

namespace fusebn {

// Throws std::runtime_error: the path and the reason.
std::string read_file(const std::string& path);

// The same of a file whose size nobody vouches for, which may be a device without an end: one of more than
// `max_bytes` is refused.
std::string read_file(const std::string& path, std::size_t max_bytes);

// What `fusebn` reads of a file of records, and of a manifest: far more than any has.
inline constexpr std::size_t max_text_bytes = std::size_t{256} << 20;

// Written beside `path` and renamed, so a reader sees the old contents or the new; throws std::runtime_error.
void write_file(const std::string& path, const std::string& contents);

// A name beside `path` that no other process uses, for writing before a rename.
std::string temporary_name(const std::string& path);

// An empty file in $TMPDIR or /tmp, gone when this is. Throws std::runtime_error.
class TemporaryFile {
public:
    TemporaryFile();
    ~TemporaryFile();
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    const std::string& path() const { return path_; }

private:
    std::string path_;
};

// A folder there, gone with all that is in it when this is. Throws std::runtime_error.
class TemporaryFolder {
public:
    TemporaryFolder();
    ~TemporaryFolder();
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }
    const std::string& path() const { return path_; }

private:
    std::string path_;
};

}  // namespace fusebn
