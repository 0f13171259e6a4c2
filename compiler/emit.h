// LLVM bitcode -> objects and archives: what Halide has no words for.
//
//   streaming stores   stores to y become non-temporal where the schedule says so, with the fence that publishing needs
//   prefetches         as far ahead as the schedule says
//   private names      everything but a kernel's entries is local to its object; entries are hidden
//   a checked result   an object's undefined symbols are on an allowed list, or there is no object
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "compiler/lower.h"
#include "compiler/ptx.h"
#include "fusebn/types.h"

namespace fusebn {

struct Object {
    std::string bytes;     // ELF
    std::string assembly;  // the same code as text, when asked for
};

enum class Emit { object, assembly };

// Compiles a lowered kernel for an instruction set; its entry gets the name `symbol`. Where it streams, or takes
// tensors without gaps alone, there is a second for any tensors, `<symbol>_unaligned`. Throws std::runtime_error.
Object emit_kernel(const Lowered& kernel, InstructionSet isa, const std::string& symbol, Emit what);

// A device's variant, as an object that the CPU's linker takes.
struct DeviceObject {
    std::string bytes;
    std::vector<DeviceFunction> functions;  // of the cubins; none without ptxas
};

// The functions of such an object, which keeps them in a section that linkers leave out. Throws std::runtime_error
// where it is damaged.
std::vector<DeviceFunction> device_functions(const std::string& object);

// `unaligned`: the form for any tensors, with the entry `<symbol>_unaligned`; null where `kernel` takes any. Without
// `ptxas` CUDA's variants hold PTX alone. Throws std::runtime_error.
DeviceObject emit_device_kernel(const Lowered& kernel, const Lowered* unaligned, InstructionSet isa,
                                const std::string& symbol, const std::optional<std::string>& ptxas);

// What a device is given of it: exact PTX, or OpenCL C.
std::string device_text(const Lowered& kernel, InstructionSet isa, const std::string& symbol);

// Whether `object` is a whole object file that defines `symbol`.
bool defines(const std::string& object, const std::string& symbol);

// A row of the library's table, for emit_table.
struct TableVariant {
    InstructionSet isa;
    std::string schedule, symbol;
    int alignment;               // what its first entry asks for; 0: nothing
    bool dense = false;          // likewise, of the channels (kernel_abi.h)
    std::string processor = {};  // "": any
};
struct TableRow {
    KernelSpec kernel;
    bool large;
    std::vector<TableVariant> variants;  // in the order of kernel_abi.h
};

// An object that defines `<library>_kernel_table` (kernel_abi.h).
std::string emit_table(const std::string& library, const std::string& generator, const std::vector<TableRow>& rows);

// A static library, the same bytes for the same members.
void write_archive(const std::string& path, const std::vector<std::pair<std::string, std::string>>& members);

// A digest of `text`, 32 hexadecimal digits; not for security.
std::string digest(const std::string& text);

// "22.1.8"
std::string llvm_version();

}  // namespace fusebn
