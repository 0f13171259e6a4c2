// spec.toml: the kernels that a library is to have. See docs/spec.md for the format.
#pragma once

#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "generators/kernel_spec.h"

namespace fusebn {

// A larger file, or more kernels (ops expanded, before equal ones merge), is refused: both are far above any model's.
inline constexpr std::size_t max_spec_bytes = 1 << 20;
inline constexpr std::size_t max_spec_kernels = 10000;

// The most elements of a tensor whose extents are all known: 2^47 bytes of f32, an x86-64 process's address space.
inline constexpr std::int64_t max_elements = std::int64_t{1} << 45;

struct SpecKernel {
    KernelSpec kernel;
    std::string schedule;  // text form, "" for the default; spec_schedule.h checks it
    int line = 0;          // of its [[kernel]] in the file
    int schedule_line = 0, schedule_column = 0;
};

struct LibrarySpec {
    std::string name;                     // a C identifier that is_library_name accepts
    std::vector<InstructionSet> targets;  // ascending, no duplicates
    std::vector<SpecKernel> kernels;      // in file order, equal rows merged, ops expanded
};

// "resnet50.toml:12:9: kernel.shape: found 3 extents; allowed: 4, in the order of NCHW: [N, C, H, W]"
class SpecError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// Parses a spec; throws SpecError with file, line, column, key, what was found and what is allowed.
// `file` is the name used in messages. A non-empty `name` takes the place of the library's name, so that a file without
// one need not be named like a C identifier.
LibrarySpec parse_spec(const std::string& text, const std::string& file, const std::string& name = "");
LibrarySpec read_spec(const std::string& path, const std::string& name = "");

// Whether `name` can be lib<name>.a, <name>.h and a C++ namespace at once: a C identifier of at most 100 characters
// that no C++ compiler reserves. `allowed_library_name` is the sentence for messages.
bool is_library_name(const std::string& name);
extern const char* const allowed_library_name;

// Instruction sets by name ("host" is the best of this machine), ascending, no duplicates.
// `where` opens the message of the SpecError: "--targets".
std::vector<InstructionSet> parse_targets(const std::vector<std::string>& names, const std::string& where);

// The highest instruction set that this machine runs; nothing where it runs none of them.
std::optional<InstructionSet> host_instruction_set();

}  // namespace fusebn
