#include "compiler/variant.h"

#include <HalideRuntime.h>

#include <cctype>
#include <sstream>

#include "compiler/emit.h"
#include "compiler/files.h"
#include "compiler/lower.h"

namespace fusebn {

namespace {

// Of the sources that decide what is emitted.
constexpr const char code_digest[] =
#include "code_digest.inc"
    ;

}  // namespace

std::string generator_version() {
    return std::string("fusebn ") + FUSEBN_VERSION + ", Halide " + std::to_string(HALIDE_VERSION_MAJOR) + "." +
           std::to_string(HALIDE_VERSION_MINOR) + "." + std::to_string(HALIDE_VERSION_PATCH) + ", LLVM " +
           llvm_version();
}

std::string symbol_name(const std::string& library, const KernelSpec& kernel, InstructionSet isa,
                        const std::string& processor) {
    std::string target(to_string(isa));
    if (!processor.empty()) target += "__" + processor;
    for (char& c : target) {
        const auto letter = static_cast<unsigned char>(c);
        c = std::isalnum(letter) ? static_cast<char>(std::tolower(letter)) : '_';
    }
    return library + "__" + kernel_name(kernel) + "__" + target;
}

std::string assembler_digest(const std::optional<std::string>& ptxas) {
    return ptxas ? digest(read_file(*ptxas)) : "none";
}

std::string object_key(const ManifestKernel& k, const ManifestVariant& v, const std::string& assembler) {
    std::ostringstream key;
    key << generator_version() << ' ' << code_digest << ' ' << v.symbol << ' ' << kernel_name(k.kernel) << ' '
        << to_string(v.isa) << ' ' << to_text(v.schedule) << " large=" << k.large;
    if (is_cuda(v.isa)) key << " ptxas=" << assembler;
    return key.str();
}

Demands demands_of(const ManifestKernel& k, const ManifestVariant& v) {
    if (is_device(v.isa)) return {v.schedule.vector > 1 ? v.schedule.vector * element_bytes(k.kernel.dtype) : 0};
    const bool streams = v.schedule.store == Schedule::Store::stream;
    return {streams ? stream_alignment(k.kernel, v.schedule) : 0, v.schedule.join};
}

std::string compile(const ManifestKernel& k, const ManifestVariant& v, const std::optional<std::string>& ptxas) {
    const Lowered lowered = lower(k.kernel, v.schedule, v.isa, k.large);
    if (!is_device(v.isa)) return emit_kernel(lowered, v.isa, v.symbol, Emit::object).bytes;
    if (!demands_of(k, v).any()) return emit_device_kernel(lowered, nullptr, v.isa, v.symbol, ptxas).bytes;
    const Lowered unaligned = lower(k.kernel, unaligned_schedule(v.schedule), v.isa, k.large);
    return emit_device_kernel(lowered, &unaligned, v.isa, v.symbol, ptxas).bytes;
}

}  // namespace fusebn
