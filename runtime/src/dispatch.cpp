#include "dispatch.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

#include "cpu.h"
#include "fusebn/parallel.h"
#include "text.h"

namespace fusebn::detail {
namespace {

constexpr std::int64_t max_small_offset = std::numeric_limits<std::int32_t>::max();

bool fits(std::int32_t row_extent, std::int64_t extent) { return row_extent == FUSEBN_ANY || row_extent == extent; }

bool fits(const fusebn_kernel& row, const Call& call) {
    return fits(row.extents[0], call.shape.outer) && fits(row.extents[1], call.shape.channels) &&
           fits(row.extents[2], call.shape.inner) && row.dtype == static_cast<std::int32_t>(call.dtype);
}

bool is_large(const Call& call) {
    return call.x.last_element > max_small_offset || call.y.last_element > max_small_offset;
}

int free_extents(const fusebn_kernel& row) {
    return static_cast<int>(std::count(std::begin(row.extents), std::end(row.extents), FUSEBN_ANY));
}

const fusebn_variant* best_variant(const fusebn_kernel& row, InstructionSet usable) {
    const fusebn_variant* best = nullptr;
    for (int i = 0; i < row.variant_count; ++i) {
        const fusebn_variant& variant = row.variants[i];
        if (variant.isa > static_cast<std::int32_t>(usable)) continue;
        if (best == nullptr || variant.isa > best->isa) best = &variant;
    }
    return best;
}

// Whether y's address and the outer strides that it steps by are multiples of what the variant's stores ask.
bool is_aligned(const Call& call, const fusebn_variant& variant) {
    const std::int64_t alignment = variant.y_alignment;
    if (alignment <= 1) return true;
    const std::int64_t element = element_bytes(call.dtype);
    if (reinterpret_cast<std::uintptr_t>(call.y.data) % static_cast<std::uintptr_t>(alignment) != 0) return false;
    if (call.shape.outer > 1 && call.y.outer_stride * element % alignment != 0) return false;
    const bool steps_channels = call.shape.view == View::planar && call.shape.channels > 1;
    return !steps_channels || call.y.channel_stride * element % alignment == 0;
}

bool can_be_interleaved(const Call& call) {
    return call.shape.view == View::planar && call.shape.inner == 1 &&
           (call.shape.channels == 1 || (call.x.channel_stride == 1 && call.y.channel_stride == 1)) &&
           // n inside c is no interleaved view
           (call.shape.outer == 1 ||
            (call.x.outer_stride >= call.shape.channels && call.y.outer_stride >= call.shape.channels));
}

// What is wrong with a row of a table, or null.
const char* fault(const fusebn_kernel& row) {
    if (row.name == nullptr) return "it has no name";
    if (row.op != FUSEBN_OP_INFERENCE && row.op != FUSEBN_OP_TRAIN_FORWARD) return "its op is unknown";
    if (row.view != FUSEBN_VIEW_PLANAR && row.view != FUSEBN_VIEW_INTERLEAVED) return "its view is unknown";
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

std::string extents_text(const Call& call) {
    const auto& [view, outer, channels, inner] = call.shape;
    return view == View::planar ? sentence("n", outer, "_c", channels, "_s", inner)
                                : sentence("r", outer, "_c", channels);
}

// "[32, 64, 56, 56]", as in a spec.
std::string spec_shape(const Extents& extents) {
    std::string text = sentence(extents);
    text.front() = '[';
    text.back() = ']';
    return text;
}

}  // namespace

Status KernelIndex::build(const fusebn_kernel_table& table, int features, Activation activation) {
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
        rows_[row.op][row.view].push_back(&row);
    }
    for (auto& by_view : rows_) {
        for (Rows& rows : by_view) {
            // 32-bit offsets first among equals: they are the faster ones.
            std::stable_sort(rows.begin(), rows.end(), [](const fusebn_kernel* a, const fusebn_kernel* b) {
                const int free_a = free_extents(*a), free_b = free_extents(*b);
                return free_a != free_b ? free_a < free_b : a->large < b->large;
            });
        }
    }
    return Status();
}

Choice KernelIndex::find_in_view(Op op, const Call& call) const noexcept {
    const std::optional<InstructionSet> usable = usable_instruction_set();
    if (!usable) return Choice();
    const bool large = is_large(call);
    for (const fusebn_kernel* row : rows(op, call.shape.view)) {
        if (!fits(*row, call) || (large && row->large == 0)) continue;
        const fusebn_variant* variant = best_variant(*row, *usable);
        if (variant == nullptr) continue;
        const bool unaligned = variant->entry_unaligned != nullptr && !is_aligned(call, *variant);
        return Choice{row, variant, unaligned ? variant->entry_unaligned : variant->entry};
    }
    return Choice();
}

Choice KernelIndex::find(Op op, Call& call) const noexcept {
    const Choice choice = find_in_view(op, call);
    if (!can_be_interleaved(call) || rows(op, View::interleaved).empty()) return choice;
    if (choice.kernel != nullptr && free_extents(*choice.kernel) == 0) return choice;
    Call interleaved = call;
    interleaved.shape.view = View::interleaved;
    const Choice other = find_in_view(op, interleaved);
    if (other.kernel == nullptr) return choice;
    call = interleaved;
    return other;
}

Status KernelIndex::refusal(Op op, const Call& call, const ConstTensor& x) const {
    const std::string row_name =
        sentence("bn_", to_string(op), "_", to_string(call.dtype), "_", to_string(call.shape.view), "_",
                 extents_text(call), "_", to_string(activation_));
    const fusebn_kernel* fitting = nullptr;
    bool too_large = is_large(call);
    for (const fusebn_kernel* row : rows(op, call.shape.view)) {
        if (!fits(*row, call)) continue;
        if (fitting == nullptr) fitting = row;
        if (row->large != 0) too_large = false;
    }
    if (fitting != nullptr && too_large) {
        return Status(ErrorCode::too_large,
                      sentence("x: an element of ", to_string(x.layout), " ", x.extents, " or of y is more than ",
                               max_small_offset, " elements from the first, which is where the kernels of ",
                               table_->library, " for it end (", fitting->name, "); split the tensor along the batch"));
    }
    if (fitting != nullptr) {
        std::string variants;
        for (int i = 0; i < fitting->variant_count; ++i) {
            if (i > 0) variants += ", ";
            variants += name_of(static_cast<InstructionSet>(fitting->variants[i].isa));
        }
        const std::optional<InstructionSet> usable = usable_instruction_set();
        return Status(ErrorCode::unsupported_cpu,
                      sentence("kernels: ", fitting->name, " of ", table_->library, " is built for ", variants,
                               ", but the best that may be used here is ", usable ? to_string(*usable) : "none of them",
                               " (this CPU's, or what FUSEBN_CPU or set_instruction_set chose); add \"",
                               usable ? to_string(*usable) : "x86-64", "\" to targets in the library's spec"));
    }
    return Status(ErrorCode::no_kernel,
                  sentence("kernels: ", table_->library, " has neither ", row_name,
                           " nor a generic kernel in its place; add to its spec: [[kernel]] op = \"", to_string(op),
                           "\", layout = \"", to_string(x.layout), "\", shape = ", spec_shape(x.extents),
                           ", activation = \"", to_string(activation_), "\""));
}

std::string describe(const Choice& choice) {
    const fusebn_variant& variant = *choice.variant;
    return sentence(choice.kernel->name, " ", name_of(static_cast<InstructionSet>(variant.isa)), " [", variant.schedule,
                    choice.entry == variant.entry ? "]" : "] without streaming: y is not aligned");
}

}  // namespace fusebn::detail
