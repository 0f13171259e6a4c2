// One kernel for one target: what its object is called, holds and depends on.
#pragma once

#include <optional>
#include <string>

#include "compiler/manifest.h"

namespace fusebn {

// "resnet50_bn__bn_inference_f32_planar_n32_c64_s3136_relu__x86_64_avx2", and for a processor
// "..__x86_64_avx2__genuineintel_family_6_model_167"
std::string symbol_name(const std::string& library, const KernelSpec& kernel, InstructionSet isa,
                        const std::string& processor = "");

// Of what find_ptxas() found.
std::string assembler_digest(const std::optional<std::string>& ptxas);

// What the object's bytes depend on, as text.
std::string object_key(const ManifestKernel& kernel, const ManifestVariant& variant, const std::string& assembler);

// What a variant's first entry asks of its tensors, where it has a second one that asks nothing (kernel_abi.h).
struct Demands {
    int alignment = 0;  // bytes
    bool dense = false;
    bool any() const { return alignment > 0 || dense; }
};
Demands demands_of(const ManifestKernel& kernel, const ManifestVariant& variant);

// The object: an ELF file that defines variant.symbol and, where there are demands, `<symbol>_unaligned`.
// Throws std::runtime_error.
std::string compile(const ManifestKernel& kernel, const ManifestVariant& variant,
                    const std::optional<std::string>& ptxas);

// "fusebn 0.1.0, Halide 21.0.0, LLVM 22.1.8"
std::string generator_version();

}  // namespace fusebn
