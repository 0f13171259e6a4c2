#include "state_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "safetensors.h"
#include "text.h"

namespace fusebn::detail {
namespace {

// A header of a whole model's names is some hundred kilobytes.
constexpr std::uint64_t max_header_bytes = 1 << 20;
constexpr std::uint64_t length_bytes = 8;
// As many as Linux follows.
constexpr int max_links = 40;
// Each leftover of a crash costs one; so many of them with one process id are a fault of something else.
constexpr int max_temporary_names = 1 << 16;

std::string error_text(int number) { return std::generic_category().message(number); }

struct File {
    int descriptor = -1;
    ~File() {
        if (descriptor >= 0) ::close(descriptor);
    }
};

bool read_at(int descriptor, std::uint64_t offset, void* to, std::size_t bytes) {
    auto* out = static_cast<char*>(to);
    while (bytes > 0) {
        const ssize_t got = ::pread(descriptor, out, bytes, static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got == 0) errno = EIO;  // shorter than its size said
        if (got <= 0) return false;
        out += got;
        offset += static_cast<std::uint64_t>(got);
        bytes -= static_cast<std::size_t>(got);
    }
    return true;
}

bool write_all(int descriptor, const char* from, std::size_t bytes) {
    while (bytes > 0) {
        const ssize_t put = ::write(descriptor, from, bytes);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return false;
        from += put;
        bytes -= static_cast<std::size_t>(put);
    }
    return true;
}

// One tensor of the state, on its way from or to a file.
struct Field {
    std::string name;
    const char* dtype;
    std::vector<std::uint64_t> shape;
    char* bytes;
    std::uint64_t byte_count;
};

// The tensors that `state` has. The count comes first, so that each lies at a multiple of its element's size.
std::vector<Field> fields_of(const std::string& prefix, BatchNormState& state) {
    std::vector<Field> fields;
    if (!state.running_mean.empty()) {
        fields.push_back({prefix + "num_batches_tracked",
                          "I64",
                          {},
                          reinterpret_cast<char*>(&state.num_batches_tracked),
                          sizeof(state.num_batches_tracked)});
    }
    const auto add = [&](const char* name, std::vector<float>& values) {
        if (values.empty()) return;
        fields.push_back({prefix + name,
                          "F32",
                          {values.size()},
                          reinterpret_cast<char*>(values.data()),
                          values.size() * sizeof(float)});
    };
    add("weight", state.gamma);
    add("bias", state.beta);
    add("running_mean", state.running_mean);
    add("running_var", state.running_var);
    return fields;
}

Status not_written(const std::string& path, int error) {
    return Status(ErrorCode::io_error, sentence(path, ": cannot be written: ", error_text(error)));
}

// io_error: a path that no file can have. The system would read it up to the zero byte, and so name another file.
Status check_path(const std::string& path) {
    if (path.empty()) return Status(ErrorCode::io_error, "path: it is empty; expected the name of a file");
    const std::size_t zero = path.find('\0');
    if (zero == std::string::npos) return Status();
    return Status(ErrorCode::io_error, sentence("path: it has a zero byte behind \"", path.substr(0, zero),
                                                "\"; expected the name of a file, which has none"));
}

// The part of a path that names the folder, with its slash; "" for the working directory.
std::string folder_of(const std::string& path) { return path.substr(0, path.rfind('/') + 1); }

// Replaces a symbolic link by the path that it names, which may not be there yet: a rename would replace the link. The
// error's number, or 0.
int follow_links(std::string& path) {
    char target[PATH_MAX];
    for (int links = 0; links <= max_links; ++links) {
        const ssize_t size = ::readlink(path.c_str(), target, sizeof(target));
        if (size < 0) return errno == EINVAL || errno == ENOENT ? 0 : errno;  // no link, or nothing yet
        if (size == static_cast<ssize_t>(sizeof(target))) return ENAMETOOLONG;
        const std::string_view named(target, static_cast<std::size_t>(size));
        path = sentence(named.substr(0, 1) == "/" ? std::string() : folder_of(path), named);
    }
    return ELOOP;
}

// Finds the file to replace. A rename would put a regular file in the place of a FIFO or a device too, which nobody
// who names one wants.
Status find_target(const std::string& path, std::string& target) {
    struct stat information {};
    if (::stat(path.c_str(), &information) == 0) {
        if (!S_ISREG(information.st_mode)) {
            return Status(ErrorCode::io_error,
                          sentence(path, ": it is no regular file; expected one to replace, or a name not in use"));
        }
    } else if (errno != ENOENT) {
        return not_written(path, errno);
    }
    target = path;
    const int error = follow_links(target);
    return error == 0 ? Status() : not_written(path, error);
}

// Creates a file beside `path`, so that a rename is within one file system, with the permissions that a new file gets.
// Its name is nobody else's: neither another thread's nor one that a crash left behind. The error's number, or 0.
int create_beside(const std::string& path, std::string& name, File& file) {
    static std::atomic<unsigned> next{0};
    int error = EEXIST;
    for (int i = 0; i < max_temporary_names && error == EEXIST; ++i) {
        name = sentence(path, ".", ::getpid(), ".", next.fetch_add(1, std::memory_order_relaxed), ".tmp");
        file.descriptor = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        error = file.descriptor < 0 ? errno : 0;
    }
    return error;
}

// Brings the renaming of `path` to the disk. The error's number, or 0.
int sync_folder(const std::string& path) {
    const std::string folder = folder_of(path);
    File file;
    file.descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file.descriptor < 0) return errno == EACCES ? 0 : errno;  // one may write to folders that one cannot read
    if (::fsync(file.descriptor) == 0) return 0;
    return errno == EINVAL ? 0 : errno;  // a file system whose folders have no such thing
}

Status read_field(const std::string& path, int descriptor, const Json& header, std::uint64_t data_begin,
                  const Field& field) {
    const auto found = header.find(field.name);
    if (found == header.end()) {
        return bad_file(path,
                        sentence("it has no tensor \"", field.name,
                                 "\"; expected one (is the prefix right, and are affine and track_running_stats?)"));
    }
    const Json& entry = *found;
    if (entry["dtype"] != field.dtype) {
        return bad_file(path, sentence("tensor \"", field.name, "\" has dtype ", entry["dtype"].dump(), "; expected ",
                                       field.dtype, ", convert it first"));
    }
    if (entry["shape"] != Json(field.shape)) {
        return Status(ErrorCode::shape_mismatch,
                      sentence(path, ": tensor \"", field.name, "\" has shape ", entry["shape"].dump().substr(0, 80),
                               "; the layer's has ", Json(field.shape).dump()));
    }
    const auto begin = entry["data_offsets"][0].get<std::uint64_t>();
    const auto end = entry["data_offsets"][1].get<std::uint64_t>();
    if (end - begin != field.byte_count) {
        return bad_file(path, sentence("tensor \"", field.name, "\" has ", end - begin, " bytes; its shape needs ",
                                       field.byte_count));
    }
    if (!read_at(descriptor, data_begin + begin, field.bytes, field.byte_count)) {
        return Status(ErrorCode::io_error, sentence(path, ": cannot be read: ", error_text(errno)));
    }
    return Status();
}

Status read_file(const std::string& path, const std::string& prefix, const BatchNormState& like,
                 BatchNormState& state) {
    if (Status s = check_path(path); !s.ok()) return s;
    File file;
    file.descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat information {};
    if (file.descriptor < 0 || ::fstat(file.descriptor, &information) != 0) {
        return Status(ErrorCode::io_error, sentence(path, ": cannot be opened: ", error_text(errno)));
    }
    if (!S_ISREG(information.st_mode)) return Status(ErrorCode::io_error, sentence(path, ": it is no regular file"));
    const auto file_bytes = static_cast<std::uint64_t>(information.st_size);
    std::uint64_t header_bytes = 0;
    if (file_bytes < length_bytes)
        return bad_file(path, sentence("it has ", file_bytes, " bytes; expected a safetensors file"));
    if (!read_at(file.descriptor, 0, &header_bytes, length_bytes)) {
        return Status(ErrorCode::io_error, sentence(path, ": cannot be read: ", error_text(errno)));
    }
    if (header_bytes > max_header_bytes || header_bytes > file_bytes - length_bytes) {
        return bad_file(path,
                        sentence("its header's length is given as ", header_bytes, " bytes in a file of ", file_bytes,
                                 "; expected a safetensors file with a header of ", max_header_bytes, " at most"));
    }
    std::string text(header_bytes, '\0');
    if (!read_at(file.descriptor, length_bytes, text.data(), text.size())) {
        return Status(ErrorCode::io_error, sentence(path, ": cannot be read: ", error_text(errno)));
    }
    Json header;
    try {
        header = parse_header(text);
    } catch (const std::exception& e) {
        return bad_file(path, sentence("its header cannot be parsed: ", e.what(), "; expected a safetensors file"));
    }
    const std::uint64_t data_begin = length_bytes + header_bytes;
    if (Status s = check_header(path, header, file_bytes - data_begin); !s.ok()) return s;
    state = like;
    for (const Field& field : fields_of(prefix, state)) {
        if (Status s = read_field(path, file.descriptor, header, data_begin, field); !s.ok()) return s;
    }
    return Status();
}

Status write_file(const std::string& path, const std::string& prefix, const BatchNormState& state) {
    if (Status s = check_path(path); !s.ok()) return s;
    BatchNormState copy = state;
    const std::vector<Field> fields = fields_of(prefix, copy);
    Json header = Json::object();
    std::uint64_t offset = 0;
    for (const Field& field : fields) {
        header[field.name] = {
            {"dtype", field.dtype}, {"shape", field.shape}, {"data_offsets", {offset, offset + field.byte_count}}};
        offset += field.byte_count;
    }
    std::string text = header.dump();
    text.append((8 - text.size() % 8) % 8, ' ');  // the data begin at a multiple of 8
    const std::uint64_t header_bytes = text.size();

    std::string target, temporary;
    if (Status s = find_target(path, target); !s.ok()) return s;
    File file;
    if (const int error = create_beside(target, temporary, file); error != 0) {
        return Status(ErrorCode::io_error,
                      sentence(path, ": cannot be written, as no file can be created beside it: ", error_text(error)));
    }
    bool written = write_all(file.descriptor, reinterpret_cast<const char*>(&header_bytes), length_bytes) &&
                   write_all(file.descriptor, text.data(), text.size());
    for (const Field& field : fields) written = written && write_all(file.descriptor, field.bytes, field.byte_count);
    // Synced first: a rename may reach the disk before the data do.
    if (!written || ::fsync(file.descriptor) != 0 || std::rename(temporary.c_str(), target.c_str()) != 0) {
        const int error = errno;
        ::unlink(temporary.c_str());
        return not_written(path, error);
    }
    if (const int error = sync_folder(target); error != 0) {
        return Status(
            ErrorCode::io_error,
            sentence(path, ": it is replaced, but may not outlast a power cut, as its folder cannot be synced: ",
                     error_text(error)));
    }
    return Status();
}

}  // namespace

Status write_state_file(const std::string& path, const std::string& prefix, const BatchNormState& state) {
    try {
        return write_file(path, prefix, state);
    } catch (const Json::exception&) {
        return Status(ErrorCode::invalid_argument, "prefix: it is no UTF-8, which the names of tensors have to be");
    } catch (const std::bad_alloc&) {
        return Status(ErrorCode::out_of_memory, "memory: there is too little to write the state");
    }
}

Status read_state_file(const std::string& path, const std::string& prefix, const BatchNormState& like,
                       BatchNormState& state) {
    try {
        return read_file(path, prefix, like, state);
    } catch (const std::bad_alloc&) {
        return Status(ErrorCode::out_of_memory, "memory: there is too little to read the state");
    } catch (const std::exception& e) {
        return bad_file(path, e.what());
    }
}

}  // namespace fusebn::detail
