// From a checked call to the kernel that runs it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "check.h"
#include "fusebn/kernel_abi.h"
#include "fusebn/types.h"

namespace fusebn::detail {

struct Choice {
    const fusebn_kernel* kernel = nullptr;
    const fusebn_variant* variant = nullptr;
    fusebn_entry entry = nullptr;     // null: no choice
    const char* unaligned = nullptr;  // the tensor for which `entry` is the one without streaming
    const char* parted = nullptr;     // the same of the one that joins no rows, for it has gaps between channels
};

// The rows of a library that one layer can use, in the order of preference.
class KernelIndex {
public:
    // bad_library: a table of another version, or a row that is not as kernel_abi.h says. The table must stay alive.
    // No rows but those of `activation`; of a row's variants for one instruction set the best for `processor`.
    Status build(const fusebn_kernel_table& table, int features, Activation activation, std::string_view processor);

    // From now on variants are chosen for a device: those of isa `lowest` to `highest`. `opaque`: a tensor's address is
    // not known, and taken for aligned.
    void use_device(std::int32_t lowest, std::int32_t highest, bool opaque, std::string text);

    // The row with the fewest free extents that fits the call and has a variant for this CPU, or the device.
    // A planar call with s = 1 in which every tensor's channels are dense becomes interleaved where a row of that view
    // fits and no planar row has exactly its extents; `call` is then changed to the view of the choice.
    Choice find(Op op, Residual residual, Call& call) const noexcept;

    // Why find() had no choice: no_kernel, unsupported_cpu, too_large. `x` is the caller's, for the words of a spec.
    Status refusal(Op op, Residual residual, const Call& call, const ConstTensor& x) const;

private:
    struct Row {
        const fusebn_kernel* kernel;
        std::vector<const fusebn_variant*> variants;  // one an instruction set
    };
    using Rows = std::vector<Row>;
    // How far a call reaches: 32-bit offsets are enough, 64-bit ones are needed, or its mask's strides fit in neither.
    enum class Reach { small, large, too_far };

    // Of instruction sets, the highest the best.
    struct Range {
        std::int32_t lowest, highest;
    };
    Range usable() const noexcept;
    Status refuse_variants(const fusebn_kernel& row) const;

    const Rows& rows(Op op, View view, Residual residual) const {
        return rows_[static_cast<int>(op)][static_cast<int>(view)][static_cast<int>(residual)];
    }
    Reach reach(Op op, Residual residual, const Call& call) const noexcept;
    Choice find_in_view(Op op, Residual residual, const Call& call) const noexcept;

    Rows rows_[std::size(op_names)][std::size(view_names)][std::size(residual_names)];
    const fusebn_kernel_table* table_ = nullptr;
    Activation activation_ = Activation::none;
    Range device_{0, -1};
    bool opaque_ = false;
    std::string device_text_;  // "" on the CPU
};

// "bn_inference_f32_planar_n32_c64_s3136_relu x86-64-avx2 [vector=8 parallel=rows]"
std::string describe(const Choice& choice);

}  // namespace fusebn::detail
