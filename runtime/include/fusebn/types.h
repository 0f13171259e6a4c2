// The vocabulary of fusebn: operations, layouts, element types, activations, instruction sets, errors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "fusebn/kernel_abi.h"

namespace fusebn {

enum class Op : std::int32_t {
    inference = FUSEBN_OP_INFERENCE,
    train_forward = FUSEBN_OP_TRAIN_FORWARD,
    backward = FUSEBN_OP_BACKWARD,
};

// The two memory views that every layout is one of.
//   planar       x[n][c][s], s contiguous (s: the spatial extents, multiplied)
//   interleaved  x[r][c],    c contiguous (r: the batch and spatial extents, multiplied)
enum class View : std::int32_t { planar = FUSEBN_VIEW_PLANAR, interleaved = FUSEBN_VIEW_INTERLEAVED };

// Of tensors. Parameters, statistics and gradients of parameters are f32 (the saved statistics f64).
enum class DataType : std::int32_t { f32 = FUSEBN_DTYPE_F32, bf16 = FUSEBN_DTYPE_BF16, f16 = FUSEBN_DTYPE_F16 };

//   relu         max(v, 0)
//   relu6        min(max(v, 0), 6)
//   leaky_relu   v where v > 0, else slope * v
//   silu         v / (1 + exp(-v))
//   hardswish    v * min(max(v + 3, 0), 6) / 6
enum class Activation : std::int32_t {
    none = FUSEBN_ACTIVATION_NONE,
    relu = FUSEBN_ACTIVATION_RELU,
    relu6 = FUSEBN_ACTIVATION_RELU6,
    leaky_relu = FUSEBN_ACTIVATION_LEAKY_RELU,
    silu = FUSEBN_ACTIVATION_SILU,
    hardswish = FUSEBN_ACTIVATION_HARDSWISH,
};

// What is added before the activation.
//   add          y = act( bn(x) + residual )
//   batch_norm   y = act( bn1(x1) + bn2(x2) )
enum class Residual : std::int32_t {
    none = FUSEBN_RESIDUAL_NONE,
    add = FUSEBN_RESIDUAL_ADD,
    batch_norm = FUSEBN_RESIDUAL_BATCH_NORM,
};

// What kernels are compiled for: instruction sets of a CPU, ascending, and devices.
enum class InstructionSet : std::int32_t {
    x86_64 = FUSEBN_ISA_X86_64,
    x86_64_avx2 = FUSEBN_ISA_X86_64_AVX2,
    x86_64_avx512 = FUSEBN_ISA_X86_64_AVX512,
    cuda_sm_80 = FUSEBN_ISA_CUDA_SM_80,
    cuda_sm_90 = FUSEBN_ISA_CUDA_SM_90,
    cuda_sm_100 = FUSEBN_ISA_CUDA_SM_100,
    opencl = FUSEBN_ISA_OPENCL,
};
constexpr bool is_cuda(InstructionSet v) { return v >= InstructionSet::cuda_sm_80 && v < InstructionSet::opencl; }
constexpr bool is_device(InstructionSet v) { return v >= InstructionSet::cuda_sm_80; }

// Whether a variant of fusebn_variant::processor `named` is for `processor`: its name, or whole words that it begins
// with. "" is for all.
constexpr bool is_for_processor(std::string_view named, std::string_view processor) {
    if (named.empty()) return true;
    return processor.substr(0, named.size()) == named &&
           (processor.size() == named.size() || processor[named.size()] == ' ');
}

// The order of a tensor's extents, outermost first.
//   [B, D]       NC            BatchNorm1d
//   [B, D, T]    NCL           BatchNorm1d
//   [B, T, D]    NLC           BatchNorm1d, channels last
//   [B, C, H, W] NCHW, NHWC    BatchNorm2d (extents in the layout's own order)
//   ...          NCDHW, NDHWC  BatchNorm3d
enum class Layout : std::int32_t { NC, NCL, NLC, NCHW, NHWC, NCDHW, NDHWC };

constexpr int rank(Layout layout) {
    switch (layout) {
        case Layout::NC: return 2;
        case Layout::NCL:
        case Layout::NLC: return 3;
        case Layout::NCHW:
        case Layout::NHWC: return 4;
        case Layout::NCDHW:
        case Layout::NDHWC: return 5;
    }
    return 0;
}

// NC is the interleaved view with r = N.
constexpr View view(Layout layout) {
    return layout == Layout::NCL || layout == Layout::NCHW || layout == Layout::NCDHW ? View::planar
                                                                                      : View::interleaved;
}

// Which of the extents is the channels'.
constexpr int channel_axis(Layout layout) { return view(layout) == View::planar ? 1 : rank(layout) - 1; }

constexpr int element_bytes(DataType dtype) { return dtype == DataType::f32 ? 4 : 2; }

// Whether training keeps a bit an element for backward (kernel_abi.h says why).
constexpr bool saves_mask(Activation activation, Residual residual) {
    return FUSEBN_SAVES_MASK(static_cast<int>(activation), static_cast<int>(residual));
}

// Names, as written in specs, kernel names and messages: one row a value.
template <class E>
struct NamedValue {
    E value;
    std::string_view name;
};
inline constexpr NamedValue<Op> op_names[] = {
    {Op::inference, "inference"}, {Op::train_forward, "train_forward"}, {Op::backward, "backward"}};
inline constexpr NamedValue<View> view_names[] = {{View::planar, "planar"}, {View::interleaved, "interleaved"}};
inline constexpr NamedValue<DataType> dtype_names[] = {
    {DataType::f32, "f32"}, {DataType::bf16, "bf16"}, {DataType::f16, "f16"}};
inline constexpr NamedValue<Activation> activation_names[] = {
    {Activation::none, "none"},   {Activation::relu, "relu"},
    {Activation::relu6, "relu6"}, {Activation::leaky_relu, "leaky_relu"},
    {Activation::silu, "silu"},   {Activation::hardswish, "hardswish"}};
inline constexpr NamedValue<Residual> residual_names[] = {
    {Residual::none, "none"}, {Residual::add, "add"}, {Residual::batch_norm, "batch_norm"}};
inline constexpr NamedValue<Layout> layout_names[] = {
    {Layout::NC, "NC"},     {Layout::NCL, "NCL"},     {Layout::NLC, "NLC"},    {Layout::NCHW, "NCHW"},
    {Layout::NHWC, "NHWC"}, {Layout::NCDHW, "NCDHW"}, {Layout::NDHWC, "NDHWC"}};
inline constexpr NamedValue<InstructionSet> instruction_set_names[] = {{InstructionSet::x86_64, "x86-64"},
                                                                       {InstructionSet::x86_64_avx2, "x86-64-avx2"},
                                                                       {InstructionSet::x86_64_avx512, "x86-64-avx512"},
                                                                       {InstructionSet::cuda_sm_80, "cuda-sm_80"},
                                                                       {InstructionSet::cuda_sm_90, "cuda-sm_90"},
                                                                       {InstructionSet::cuda_sm_100, "cuda-sm_100"},
                                                                       {InstructionSet::opencl, "opencl"}};

constexpr std::string_view to_string(Op v) { return op_names[static_cast<int>(v)].name; }
constexpr std::string_view to_string(View v) { return view_names[static_cast<int>(v)].name; }
constexpr std::string_view to_string(DataType v) { return dtype_names[static_cast<int>(v)].name; }
constexpr std::string_view to_string(Activation v) { return activation_names[static_cast<int>(v)].name; }
constexpr std::string_view to_string(Residual v) { return residual_names[static_cast<int>(v)].name; }
constexpr std::string_view to_string(Layout v) { return layout_names[static_cast<int>(v)].name; }
constexpr std::string_view to_string(InstructionSet v) {
    for (const auto& row : instruction_set_names) {
        if (row.value == v) return row.name;
    }
    return "?";
}

enum class ErrorCode {
    ok = 0,
    null_pointer,           // a tensor's data is null
    wrong_layout,           // a layout this layer does not take, or extents that contradict it
    shape_mismatch,         // x and y differ, or the channels are not the layer's features
    empty_tensor,           // an extent of zero (or less)
    too_large,              // more elements than an index can count
    unsupported_strides,    // the innermost axis is not contiguous, or an outer stride folds the tensor onto itself
    misaligned,             // an address that is no multiple of the element's size
    overlap,                // an input and an output share memory, or may, without being the same tensor
    one_value_per_channel,  // training statistics of a single value
    no_forward,             // backward without a training forward call of the same shape before it
    no_kernel,              // the library has no kernel for this operation, type, activation and residual
    unsupported_cpu,        // no variant of the kernel runs on this CPU
    bad_library,            // the kernel table is of another ABI version, or not as kernel_abi.h says
    out_of_memory,
    invalid_argument,   // an option or a state value out of its range; a parallel_for that threw
    io_error,           // a state file that cannot be read or written
    bad_file,           // a state file whose contents are not a layer's state
    no_device,          // no driver, no such device, or one that cannot run kernels
    not_device_memory,  // a tensor that is not in the memory of the layer's device
    launch_failed,      // what a device's driver says: a launch, a copy, or an earlier launch that it tells of now
};

// The outcome of a call: a code, and a sentence that says which argument, what it was, and what was expected.
class [[nodiscard]] Status {
public:
    Status() = default;
    Status(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}
    bool ok() const { return code_ == ErrorCode::ok; }
    ErrorCode code() const { return code_; }
    const std::string& message() const { return message_; }

private:
    ErrorCode code_ = ErrorCode::ok;
    std::string message_;
};

}  // namespace fusebn
