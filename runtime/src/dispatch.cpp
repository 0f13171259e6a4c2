#include "dispatch.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "cpu.h"
#include "fusebn/parallel.h"
#include "mask.h"
#include "text.h"

namespace fusebn::detail {
namespace {

constexpr std::int64_t max_small_offset = std::numeric_limits<std::int32_t>::max();

bool fits(std::int32_t row_extent, std::int64_t extent) { return row_extent == FUSEBN_ANY || row_extent == extent; }

bool fits(const fusebn_kernel& row, const Call& call) {
    return fits(row.extents[0], call.shape.outer) && fits(row.extents[1], call.shape.channels) &&
           fits(row.extents[2], call.shape.inner) && row.dtype == static_cast<std::int32_t>(call.dtype);
}

int free_extents(const fusebn_kernel& row) {
    return static_cast<int>(std::count(std::begin(row.extents), std::end(row.extents), FUSEBN_ANY));
}

std::string_view processor_of(const fusebn_variant& variant) {
    return variant.processor != nullptr ? variant.processor : std::string_view();
}

// Of each instruction set the variant that names most of `processor`.
std::vector<const fusebn_variant*> variants_for(const fusebn_kernel& row, std::string_view processor) {
    std::vector<const fusebn_variant*> chosen;
    for (int i = 0; i < row.variant_count; ++i) {
        const fusebn_variant& variant = row.variants[i];
        if (!is_for_processor(processor_of(variant), processor)) continue;
        const auto other =
            std::find_if(chosen.begin(), chosen.end(), [&](const fusebn_variant* v) { return v->isa == variant.isa; });
        if (other == chosen.end()) {
            chosen.push_back(&variant);
        } else if (processor_of(variant).size() > processor_of(**other).size()) {
            *other = &variant;
        }
    }
    return chosen;
}

const fusebn_variant* best_variant(const std::vector<const fusebn_variant*>& variants, std::int32_t lowest,
                                   std::int32_t highest) {
    const fusebn_variant* best = nullptr;
    for (const fusebn_variant* variant : variants) {
        if (variant->isa < lowest || variant->isa > highest) continue;
        if (best == nullptr || variant->isa > best->isa) best = variant;
    }
    return best;
}

bool steps_channels(const Call& call) { return call.shape.view == View::planar && call.shape.channels > 1; }

// Whether the outer strides that a tensor steps by are multiples of what the variant asks; `dense`: those of its runs
// of channels.
bool has_aligned_strides(const Operand& tensor, const Call& call, std::int64_t alignment, bool dense = false) {
    const std::int64_t element = element_bytes(call.dtype);
    if (call.shape.outer > 1 && tensor.outer_stride * element % alignment != 0) return false;
    return dense || !steps_channels(call) || tensor.channel_stride * element % alignment == 0;
}
bool has_aligned_address(const Operand& tensor, std::int64_t alignment) {
    return reinterpret_cast<std::uintptr_t>(tensor.data) % static_cast<std::uintptr_t>(alignment) == 0;
}

// The name of a tensor that the variant cannot take, or null: of an output, whose stores may be streaming ones.
const char* unaligned_output(const Call& call, const fusebn_variant& variant) {
    for (const Role role : output_roles) {
        const Operand& output = call[role];
        if (output.name == nullptr) continue;
        if (!has_aligned_address(output, variant.y_alignment) ||
            !has_aligned_strides(output, call, variant.y_alignment, variant.dense != 0))
            return output.name;
    }
    return nullptr;
}
// Of one with gaps between channels.
const char* parted_tensor(const Call& call) {
    if (!steps_channels(call)) return nullptr;
    for (const Operand& tensor : call.operands) {
        if (tensor.name != nullptr && tensor.channel_stride != call.shape.inner) return tensor.name;
    }
    return nullptr;
}
// A device's kernels read and write in vectors.
const char* unaligned_on_device(const Call& call, std::int64_t alignment, bool opaque) {
    for (const Operand& tensor : call.operands) {
        if (tensor.name == nullptr) continue;
        if (!opaque && !has_aligned_address(tensor, alignment)) return tensor.name;
        if (!has_aligned_strides(tensor, call, alignment)) return tensor.name;
    }
    return nullptr;
}

bool can_be_interleaved(const Call& call) {
    if (call.shape.view != View::planar || call.shape.inner != 1) return false;
    for (const Operand& operand : call.operands) {
        if (operand.name == nullptr) continue;
        if (call.shape.channels > 1 && operand.channel_stride != 1) return false;
        if (call.shape.outer > 1 && operand.outer_stride < call.shape.channels) return false;  // n inside c
    }
    return true;
}

template <class E, std::size_t count>
bool is_one_of(std::int32_t number, const NamedValue<E> (&)[count]) {
    return number >= 0 && number < static_cast<std::int32_t>(count);
}

// What is wrong with a row of a table, or null.
const char* fault(const fusebn_kernel& row) {
    if (row.name == nullptr) return "it has no name";
    if (!is_one_of(row.op, op_names)) return "its op is unknown";
    if (!is_one_of(row.view, view_names)) return "its view is unknown";
    if (!is_one_of(row.dtype, dtype_names)) return "its dtype is unknown";
    if (!is_one_of(row.activation, activation_names)) return "its activation is unknown";
    if (!is_one_of(row.residual, residual_names)) return "its residual is unknown";
    for (const std::int32_t extent : row.extents) {
        if (extent != FUSEBN_ANY && extent < 1) return "it has an extent below 1";
    }
    if (row.variant_count < 1 || row.variants == nullptr) return "it has no variants";
    for (int i = 0; i < row.variant_count; ++i) {
        if (row.variants[i].entry == nullptr) return "a variant has no entry";
        if (row.variants[i].schedule == nullptr) return "a variant has no schedule";
        if (row.variants[i].dense != 0 && row.variants[i].entry_unaligned == nullptr) {
            return "a variant that takes no gaps between channels has no second entry";
        }
    }
    return nullptr;
}

// "[32, 64, 56, 56]", as in a spec.
std::string spec_shape(const Extents& extents) {
    std::string text = sentence(extents);
    text.front() = '[';
    text.back() = ']';
    return text;
}

}  // namespace

Status KernelIndex::build(const fusebn_kernel_table& table, int features, Activation activation,
                          std::string_view processor) {
    if (table.abi_version != FUSEBN_ABI_VERSION) {
        return Status(ErrorCode::bad_library,
                      sentence("kernels: the table's ABI version is ", table.abi_version, ", this runtime's is ",
                               FUSEBN_ABI_VERSION, "; generate the library again with this version of fusebn"));
    }
    if (table.kernel_count < 0 || (table.kernel_count > 0 && table.kernels == nullptr) || table.library == nullptr) {
        return Status(ErrorCode::bad_library,
                      "kernels: the table has no name or no rows; expected the result of a "
                      "generated library's kernels()");
    }
    table_ = &table;
    activation_ = activation;
    for (int i = 0; i < table.kernel_count; ++i) {
        const fusebn_kernel& row = table.kernels[i];
        if (const char* wrong = fault(row)) {
            return Status(ErrorCode::bad_library,
                          sentence("kernels: row ", i, " of ", table.library, " is not as kernel_abi.h says: ", wrong));
        }
        if (row.activation != static_cast<std::int32_t>(activation) || !fits(row.extents[1], features)) continue;
        rows_[row.op][row.view][row.residual].push_back({&row, variants_for(row, processor)});
    }
    for (auto& by_view : rows_) {
        for (auto& by_residual : by_view) {
            for (Rows& rows : by_residual) {
                // 32-bit offsets first among equals: they are the faster ones.
                std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
                    const int free_a = free_extents(*a.kernel), free_b = free_extents(*b.kernel);
                    return free_a != free_b ? free_a < free_b : a.kernel->large < b.kernel->large;
                });
            }
        }
    }
    return Status();
}

void KernelIndex::use_device(std::int32_t lowest, std::int32_t highest, bool opaque, std::string text) {
    device_ = {lowest, highest};
    opaque_ = opaque;
    device_text_ = std::move(text);
}

KernelIndex::Range KernelIndex::usable() const noexcept {
    if (!device_text_.empty()) return device_;
    const std::optional<InstructionSet> best = usable_instruction_set();
    return {0, best ? static_cast<std::int32_t>(*best) : -1};
}

KernelIndex::Reach KernelIndex::reach(Op op, Residual residual, const Call& call) const noexcept {
    bool large = false;
    for (const Operand& operand : call.operands) {
        large |= operand.name != nullptr && operand.last_element > max_small_offset;
    }
    if (op != Op::inference && saves_mask(activation_, residual)) {
        const MaskLayout mask = mask_layout(call.shape);
        if (call.shape.outer > 1 && mask.outer_stride > max_small_offset) return Reach::too_far;
        large |= mask.last > max_small_offset;
    }
    return large ? Reach::large : Reach::small;
}

Choice KernelIndex::find_in_view(Op op, Residual residual, const Call& call) const noexcept {
    const Range range = usable();
    const Reach far = reach(op, residual, call);
    if (range.highest < range.lowest || far == Reach::too_far) return Choice();
    for (const auto& [row, variants] : rows(op, call.shape.view, residual)) {
        if (!fits(*row, call) || (far == Reach::large && row->large == 0)) continue;
        const fusebn_variant* variant = best_variant(variants, range.lowest, range.highest);
        if (variant == nullptr) continue;
        if (variant->entry_unaligned == nullptr) return Choice{row, variant, variant->entry};
        if (const char* name = variant->dense != 0 ? parted_tensor(call) : nullptr) {
            return Choice{row, variant, variant->entry_unaligned, nullptr, name};
        }
        if (variant->y_alignment > 1) {
            if (const char* name = device_text_.empty() ? unaligned_output(call, *variant)
                                                        : unaligned_on_device(call, variant->y_alignment, opaque_)) {
                return Choice{row, variant, variant->entry_unaligned, name};
            }
        }
        return Choice{row, variant, variant->entry};
    }
    return Choice();
}

Choice KernelIndex::find(Op op, Residual residual, Call& call) const noexcept {
    const Choice choice = find_in_view(op, residual, call);
    if (!can_be_interleaved(call) || rows(op, View::interleaved, residual).empty()) return choice;
    if (choice.kernel != nullptr && free_extents(*choice.kernel) == 0) return choice;
    call.shape.view = View::interleaved;
    const Choice other = find_in_view(op, residual, call);
    if (other.kernel != nullptr) return other;
    call.shape.view = View::planar;
    return choice;
}

Status KernelIndex::refusal(Op op, Residual residual, const Call& call, const ConstTensor& x) const {
    const fusebn_kernel* fitting = nullptr;
    const Reach far = reach(op, residual, call);
    bool too_large = far != Reach::small;
    for (const Row& row : rows(op, call.shape.view, residual)) {
        if (!fits(*row.kernel, call)) continue;
        if (fitting == nullptr) fitting = row.kernel;
        if (row.kernel->large != 0 && far != Reach::too_far) too_large = false;
    }
    if (fitting != nullptr && too_large) {
        return Status(ErrorCode::too_large,
                      sentence("x: ", to_string(x.layout), " ", x.extents,
                               ": an element of it, of another tensor of the call or of the bits kept for backward is "
                               "more than ",
                               max_small_offset, " from the first, which is where the kernels of ", table_->library,
                               " for it end (", fitting->name, "); split the tensor along the batch"));
    }
    if (fitting != nullptr) return refuse_variants(*fitting);
    // In the words of a spec, and without what a spec need not say.
    std::string row_name = sentence("bn_", to_string(op), "_", to_string(call.dtype), "_", to_string(call.shape.view),
                                    "_", extents_text(call.shape), "_");
    std::string more;
    if (residual != Residual::none) {
        row_name += sentence(to_string(residual), "_");
        more += sentence(", residual = \"", to_string(residual), "\"");
    }
    if (call.dtype != DataType::f32) more += sentence(", dtype = \"", to_string(call.dtype), "\"");
    return Status(ErrorCode::no_kernel,
                  sentence("kernels: ", table_->library, " has neither ", row_name, to_string(activation_),
                           " nor a generic kernel in its place; add to its spec: [[kernel]] op = \"", to_string(op),
                           "\", layout = \"", to_string(x.layout), "\", shape = ", spec_shape(x.extents),
                           ", activation = \"", to_string(activation_), "\"", more));
}

// The row fits, but none of its variants runs here.
Status KernelIndex::refuse_variants(const fusebn_kernel& row) const {
    std::string variants;
    bool only_devices = true;
    std::int32_t least_of_kind = -1;  // of variants for a better device of this kind
    for (int i = 0; i < row.variant_count; ++i) {
        const auto isa = static_cast<InstructionSet>(row.variants[i].isa);
        const std::string_view only = processor_of(row.variants[i]);
        // One for any processor says as much as those for some.
        const bool is_told = std::any_of(row.variants, row.variants + row.variant_count, [&](const fusebn_variant& v) {
            return v.isa == row.variants[i].isa && processor_of(v).empty();
        });
        if (!only.empty() && is_told) continue;
        if (!variants.empty()) variants += ", ";
        variants += name_of(isa);
        if (!only.empty()) variants += sentence(" on ", only);
        only_devices &= is_device(isa);
        if (is_cuda(isa) && device_.lowest == FUSEBN_ISA_CUDA_SM_80) least_of_kind = row.variants[i].isa;
    }
    const std::string built = sentence("kernels: ", row.name, " of ", table_->library, " is built for ", variants);
    if (!device_text_.empty()) {
        const std::int32_t wanted =
            std::min(device_.highest / 10 * 10, static_cast<std::int32_t>(FUSEBN_ISA_CUDA_SM_100));
        const InstructionSet target = device_.lowest == FUSEBN_ISA_OPENCL ? InstructionSet::opencl
                                      : wanted == FUSEBN_ISA_CUDA_SM_100  ? InstructionSet::cuda_sm_100
                                      : wanted >= FUSEBN_ISA_CUDA_SM_90   ? InstructionSet::cuda_sm_90
                                                                          : InstructionSet::cuda_sm_80;
        if (device_.highest < device_.lowest) {
            return Status(ErrorCode::no_kernel,
                          sentence(built, ", but the layer is on ", device_text_, ", of compute capability ",
                                   (device_.highest - 1000) / 10, ".", device_.highest % 10,
                                   ", and kernels need 8.0 at least; take another device"));
        }
        return Status(ErrorCode::no_kernel, sentence(built, ", but the layer is on ", device_text_,
                                                     least_of_kind >= 0 ? ", which is an older one" : "", "; add \"",
                                                     to_string(target), "\" to targets in the library's spec"));
    }
    const std::optional<InstructionSet> best = usable_instruction_set();
    return Status(ErrorCode::unsupported_cpu,
                  sentence(built, ", but the best that may be used here is ", best ? to_string(*best) : "none of them",
                           " (this CPU's, or what FUSEBN_CPU or set_instruction_set chose); add \"",
                           best ? to_string(*best) : "x86-64", "\" to targets in the library's spec",
                           only_devices ? ", or give the layer its device (BatchNormOptions::device)" : ""));
}

std::string describe(const Choice& choice) {
    const fusebn_variant& variant = *choice.variant;
    std::string text =
        sentence(choice.kernel->name, " ", name_of(static_cast<InstructionSet>(variant.isa)),
                 processor_of(variant).empty() ? "" : " for ", processor_of(variant), " [", variant.schedule, "]");
    if (choice.unaligned != nullptr) {
        text += sentence(
            is_device(static_cast<InstructionSet>(variant.isa)) ? " without vectors: " : " without streaming: ",
            choice.unaligned, " is not aligned");
    }
    if (choice.parted != nullptr) text += sentence(" apart: ", choice.parted, " has gaps between channels");
    return text;
}

}  // namespace fusebn::detail
