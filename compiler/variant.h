// One kernel for one target: what its object is called, holds and depends on.
#pragma once

#include <optional>
#include <string>

#include "compiler/manifest.h"

namespace fusebn {

// Whether a kernel's tensors may have more than 2^31 - 1 elements: it then has 64-bit offsets.
bool needs_large(const KernelSpec& kernel);

// "resnet50_bn__bn_inference_f32_planar_n32_c64_s3136_relu__x86_64_avx2", and for a processor
// "..__x86_64_avx2__genuineintel_family_6_model_167"
std::string symbol_name(const std::string& library, const KernelSpec& kernel, InstructionSet isa,
                        const std::string& processor = "");

// Of what find_ptxas() found.
std::string assembler_digest(const std::optional<std::string>& ptxas);

// What the object's bytes depend on, as text.
std::string object_key(const ManifestKernel& kernel, const ManifestVariant& variant, const std::string& assembler);

// What the variant's first entry asks of its tensors, in bytes, where it has a second one that asks nothing; else 0.
int entry_alignment(const ManifestKernel& kernel, const ManifestVariant& variant);

// The object: an ELF file that defines variant.symbol and, where entry_alignment is not 0, `<symbol>_unaligned`.
// Throws std::runtime_error.
std::string compile(const ManifestKernel& kernel, const ManifestVariant& variant,
                    const std::optional<std::string>& ptxas);

// "fusebn 0.1.0, Halide 21.0.0, LLVM 22.1.8"
std::string generator_version();

}  // namespace fusebn
