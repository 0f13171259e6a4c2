#include "dispatch.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

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

// Whether a variant is for the same kind of machine: a CPU, CUDA, OpenCL.
bool same_kind(InstructionSet a, InstructionSet b) { return is_device(a) == is_device(b) && is_cuda(a) == is_cuda(b); }

const fusebn_variant* best_variant(const fusebn_kernel& row, InstructionSet usable) {
    const fusebn_variant* best = nullptr;
    for (int i = 0; i < row.variant_count; ++i) {
        const fusebn_variant& variant = row.variants[i];
        if (!same_kind(static_cast<InstructionSet>(variant.isa), usable)) continue;
        if (variant.isa > static_cast<std::int32_t>(usable)) continue;
        if (best == nullptr || variant.isa > best->isa) best = &variant;
    }
    return best;
}

// Whether an output's address and the outer strides that it steps by are multiples of what the variant's stores ask.
bool is_aligned(const Operand& output, const Call& call, std::int64_t alignment) {
    const std::int64_t element = element_bytes(call.dtype);
    if (call.has_addresses &&
        reinterpret_cast<std::uintptr_t>(output.data) % static_cast<std::uintptr_t>(alignment) != 0)
        return false;
    if (call.shape.outer > 1 && output.outer_stride * element % alignment != 0) return false;
    const bool steps_channels = call.shape.view == View::planar && call.shape.channels > 1;
    return !steps_channels || output.channel_stride * element % alignment == 0;
}

// The name of a tensor that the variant's accesses cannot take, or null: of outputs, and of a device's inputs too.
const char* unaligned_tensor(const Call& call, const fusebn_variant& variant) {
    if (variant.y_alignment <= 1) return nullptr;
    const auto wrong = [&](Role role) {
        const Operand& tensor = call[role];
        return tensor.name != nullptr && !is_aligned(tensor, call, variant.y_alignment) ? tensor.name : nullptr;
    };
    for (const Role role : output_roles) {
        if (const char* name = wrong(role)) return name;
    }
    if (!is_device(static_cast<InstructionSet>(variant.isa))) return nullptr;
    for (const Role role : input_roles) {
        if (const char* name = wrong(role)) return name;
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
                          std::optional<InstructionSet> device) {
    device_ = device;
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
        rows_[row.op][row.view][row.residual].push_back(&row);
    }
    for (auto& by_view : rows_) {
        for (auto& by_residual : by_view) {
            for (Rows& rows : by_residual) {
                // 32-bit offsets first among equals: they are the faster ones.
                std::stable_sort(rows.begin(), rows.end(), [](const fusebn_kernel* a, const fusebn_kernel* b) {
                    const int free_a = free_extents(*a), free_b = free_extents(*b);
                    return free_a != free_b ? free_a < free_b : a->large < b->large;
                });
            }
        }
    }
    return Status();
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
    const std::optional<InstructionSet> usable = device_ ? device_ : usable_instruction_set();
    const Reach far = reach(op, residual, call);
    if (!usable || far == Reach::too_far) return Choice();
    for (const fusebn_kernel* row : rows(op, call.shape.view, residual)) {
        if (!fits(*row, call) || (far == Reach::large && row->large == 0)) continue;
        const fusebn_variant* variant = best_variant(*row, *usable);
        if (variant == nullptr) continue;
        if (variant->entry_unaligned != nullptr) {
            if (const char* name = unaligned_tensor(call, *variant)) {
                return Choice{row, variant, variant->entry_unaligned, name};
            }
        }
        return Choice{row, variant, variant->entry, nullptr};
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
    for (const fusebn_kernel* row : rows(op, call.shape.view, residual)) {
        if (!fits(*row, call)) continue;
        if (fitting == nullptr) fitting = row;
        if (row->large != 0 && far != Reach::too_far) too_large = false;
    }
    if (fitting != nullptr && too_large) {
        return Status(ErrorCode::too_large,
                      sentence("x: ", to_string(x.layout), " ", x.extents,
                               ": an element of it, of another tensor of the call or of the bits kept for backward is "
                               "more than ",
                               max_small_offset, " from the first, which is where the kernels of ", table_->library,
                               " for it end (", fitting->name, "); split the tensor along the batch"));
    }
    if (fitting != nullptr) {
        std::string variants;
        for (int i = 0; i < fitting->variant_count; ++i) {
            if (i > 0) variants += ", ";
            variants += name_of(static_cast<InstructionSet>(fitting->variants[i].isa));
        }
        if (device_) {
            return Status(ErrorCode::no_kernel,
                          sentence("kernels: ", fitting->name, " of ", table_->library, " is built for ", variants,
                                   ", but the layer is on a device of target ", name_of(*device_),
                                   "; add it, or a lower one of its kind (cuda-sm_80 runs on all newer ones), to "
                                   "targets in the library's spec"));
        }
        const std::optional<InstructionSet> usable = usable_instruction_set();
        return Status(ErrorCode::unsupported_cpu,
                      sentence("kernels: ", fitting->name, " of ", table_->library, " is built for ", variants,
                               ", but the best that may be used here is ", usable ? to_string(*usable) : "none of them",
                               " (this CPU's, or what FUSEBN_CPU or set_instruction_set chose); add \"",
                               usable ? to_string(*usable) : "x86-64", "\" to targets in the library's spec"));
    }
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

std::string describe(const Choice& choice) {
    const fusebn_variant& variant = *choice.variant;
    std::string text = sentence(choice.kernel->name, " ", name_of(static_cast<InstructionSet>(variant.isa)), " [",
                                variant.schedule, "]");
    if (choice.unaligned != nullptr) {
        const bool on_device = is_device(static_cast<InstructionSet>(variant.isa));
        text +=
            sentence(on_device ? " element by element: " : " without streaming: ", choice.unaligned, " is not aligned");
    }
    return text;
}

}  // namespace fusebn::detail
