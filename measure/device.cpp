#include "measure/device.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "measure/copy_row.h"

namespace fusebn::measure {
namespace {

// 16 bytes a thread and turn. The last parameter of OpenCL's is local memory, as of all kernels that are launched.
constexpr char copy_name[] = "copy";
constexpr char copy_opencl[] =
    "kernel void copy(global const uint4* from, global uint4* to, int count, local int* none) {\n"
    "    for (int i = get_global_id(0); i < count; i += get_global_size(0)) to[i] = from[i];\n"
    "}\n";
constexpr char copy_ptx[] =
    ".version 7.0\n"
    ".target sm_80\n"
    ".address_size 64\n"
    ".visible .entry copy(.param .u64 from, .param .u64 to, .param .u32 count)\n"
    "{\n"
    "    .reg .pred %p;\n"
    "    .reg .b32 %i, %r<4>, %step, %count, %v<4>;\n"
    "    .reg .b64 %from, %to, %f, %t;\n"
    "    ld.param.u64 %from, [from];\n"
    "    ld.param.u64 %to, [to];\n"
    "    ld.param.u32 %count, [count];\n"
    "    cvta.to.global.u64 %from, %from;\n"
    "    cvta.to.global.u64 %to, %to;\n"
    "    mov.u32 %r0, %ctaid.x;\n"
    "    mov.u32 %r1, %ntid.x;\n"
    "    mov.u32 %r2, %tid.x;\n"
    "    mov.u32 %r3, %nctaid.x;\n"
    "    mad.lo.s32 %i, %r0, %r1, %r2;\n"
    "    mul.lo.s32 %step, %r3, %r1;\n"
    "next:\n"
    "    setp.ge.s32 %p, %i, %count;\n"
    "    @%p bra done;\n"
    "    mad.wide.s32 %f, %i, 16, %from;\n"
    "    mad.wide.s32 %t, %i, 16, %to;\n"
    "    ld.global.v4.u32 {%v0, %v1, %v2, %v3}, [%f];\n"
    "    st.global.v4.u32 [%t], {%v0, %v1, %v2, %v3};\n"
    "    add.s32 %i, %i, %step;\n"
    "    bra next;\n"
    "done:\n"
    "    ret;\n"
    "}\n";
constexpr fusebn_device_code copy_code_ptx{copy_ptx, sizeof(copy_ptx) - 1, 0, nullptr};
constexpr fusebn_device_code copy_code_opencl{copy_opencl, sizeof(copy_opencl) - 1, 0, nullptr};

constexpr std::int64_t floats_of_16_bytes = 4;
constexpr std::int32_t threads = 256;
// Some turns a thread, so that a block's start costs little, and blocks enough for the largest of devices.
constexpr std::int32_t turns = 4;

// As inference is called: x is the second argument, y the ninth.
template <const fusebn_device_code& code>
int copy_entry(void** argv) {
    const fusebn_context* context = *static_cast<const fusebn_context**>(argv[0]);
    const auto& x = *static_cast<const fusebn_buffer*>(argv[1]);
    std::int32_t count = x.dim[0].extent / static_cast<std::int32_t>(floats_of_16_bytes);
    const std::int32_t of_block = threads * turns;
    const std::int32_t grid[3] = {(count + of_block - 1) / of_block, 1, 1}, block[3] = {threads, 1, 1};
    const std::uint64_t sizes[] = {sizeof(std::uint64_t), sizeof(std::uint64_t), sizeof(count), 0};
    void* const arguments[] = {argv[1], argv[8], &count, nullptr};
    const std::int8_t is_buffer[] = {1, 1, 0};
    return context->launch(context, &code, copy_name, grid, block, 0, sizes, arguments, is_buffer);
}

int nothing(void**) { return 0; }

constexpr fusebn_variant copy_variants[] = {
    {FUSEBN_ISA_CUDA_SM_80, 16, "", copy_entry<copy_code_ptx>, nullptr, nullptr, 0},
    {FUSEBN_ISA_OPENCL, 16, "", copy_entry<copy_code_opencl>, nullptr, nullptr, 0}};

constexpr fusebn_kernel copy_kernel = copy_row("copy", copy_variants);
constexpr fusebn_kernel_table copy_table{FUSEBN_ABI_VERSION, 1, "copy", "", &copy_kernel};

BatchNormOptions on(const Device& device) {
    BatchNormOptions options;
    options.device = device;
    return options;
}

}  // namespace

Device device_of(InstructionSet target) {
    if (is_cuda(target)) return Device::cuda();
    return target == InstructionSet::opencl ? Device::opencl() : Device::cpu();
}

DeviceHere find_device(InstructionSet target) {
    const Device device = device_of(target);
    DeviceHere here{device_name(device), ""};
    // A kernel of that target which does nothing, made ready.
    const fusebn_variant variants[] = {{static_cast<std::int32_t>(target), 4, "", nothing, nullptr, nullptr, 0}};
    const fusebn_kernel kernel = copy_row("nothing", variants);
    const fusebn_kernel_table table{FUSEBN_ABI_VERSION, 1, "fusebn", "", &kernel};
    BatchNorm1d layer(1, table, on(device));
    const Status s = layer.prepare(ConstTensor(nullptr, DataType::f32, Layout::NCL, {1, 1, 16}), {Op::inference});
    const std::string option = "options.device: ";
    here.missing = s.message().substr(s.message().rfind(option, 0) == 0 ? option.size() : 0);
    if (s.code() == ErrorCode::no_kernel) {
        here.missing = here.name + " does not run kernels of " + std::string(to_string(target));
    }
    return here;
}

DeviceCopy::DeviceCopy(const Device& device, const DeviceMemory& from, const DeviceMemory& to)
    : layer_(1, copy_table, on(device)) {
    const auto pieces = static_cast<std::int64_t>(std::min(from.bytes(), to.bytes()) / 16);
    const Extents extents{1, 1, pieces * floats_of_16_bytes};
    from_ = ConstTensor(from.data(), DataType::f32, Layout::NCL, extents);
    to_ = Tensor(to.data(), DataType::f32, Layout::NCL, extents);
    layer_.eval();
    status_ = !from.status().ok() ? from.status() : !to.status().ok() ? to.status() : run();
}

void DeviceCopy::run_or_exit() {
    if (const Status s = run(); !s.ok()) {
        std::fprintf(stderr, "copy: %s\n", s.message().c_str());
        std::exit(1);
    }
}

Status DeviceCopy::run() { return layer_.forward(from_, to_); }

}  // namespace fusebn::measure
