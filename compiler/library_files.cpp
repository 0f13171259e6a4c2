#include "compiler/library_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <stdexcept>

#include "compiler/emit.h"
#include "compiler/files.h"

namespace fusebn {

namespace {

namespace fs = std::filesystem;

// The builds of a folder take turns until the library's bytes were looked at. What cannot be locked is built all the
// same: build() says what is wrong with it.
class FolderTurn {
public:
    explicit FolderTurn(const std::string& directory)
        : descriptor_(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
        if (descriptor_ >= 0) flock(descriptor_, LOCK_EX);
    }
    ~FolderTurn() {
        if (descriptor_ >= 0) close(descriptor_);
    }
    FolderTurn(const FolderTurn&) = delete;
    FolderTurn& operator=(const FolderTurn&) = delete;

private:
    int descriptor_;
};

// Of the right size and with other bytes: build() goes by the size.
bool is_damaged(const std::string& library, const std::string& manifest) {
    try {
        const Manifest m = manifest_from_json(read_file(manifest, max_text_bytes));
        return !m.library_digest.empty() && m.library_digest != digest(read_file(library));
    } catch (const std::runtime_error&) {
        return false;  // build() writes again what cannot be read
    }
}

}  // namespace

void check_output(const std::string& directory, const std::string& name) {
    if (directory.empty())
        throw std::runtime_error("-o: found \"\"; allowed: a folder, which is made if it is not there");
    for (const std::string& file : {"lib" + name + ".a", name + ".h", name + ".json"}) {
        const fs::path path = fs::path(directory) / file;
        std::error_code error;
        const fs::file_status status = fs::status(path, error);
        if (!fs::exists(status) || fs::is_regular_file(status)) continue;
        throw std::runtime_error("-o " + directory + ": found " +
                                 (fs::is_directory(status) ? "a folder" : "what is no regular file") + " at " +
                                 path.string() + "; allowed: a file to replace, or nothing");
    }
}

BuildResult build_files(const LibrarySpec& spec, const BuildOptions& options) {
    check_output(options.directory, spec.name);
    std::error_code error;
    fs::create_directories(options.directory, error);  // build() says why not
    const FolderTurn turn(options.directory);
    const std::string library = fs::path(options.directory) / ("lib" + spec.name + ".a");
    const std::string manifest = fs::path(options.directory) / (spec.name + ".json");
    if (is_damaged(library, manifest)) fs::remove(library, error);
    BuildResult result = build(spec, options);
    if (!result.up_to_date) {
        result.manifest.library_digest = digest(read_file(library));
        write_file(manifest, to_json(result.manifest));
    }
    return result;
}

void check_library(const std::string& path, const Manifest& manifest) {
    const std::string text = read_file(path, static_cast<std::size_t>(manifest.library_bytes));
    if (text.size() != static_cast<std::size_t>(manifest.library_bytes)) {
        throw std::runtime_error(path + ": found " + std::to_string(text.size()) + " bytes; its manifest says " +
                                 std::to_string(manifest.library_bytes) + ": it was cut short; build it again");
    }
    if (manifest.library_digest.empty() || manifest.library_digest == digest(text)) return;
    throw std::runtime_error(path +
                             ": found other bytes than its manifest says: it was damaged or replaced; "
                             "build it again");
}

}  // namespace fusebn
