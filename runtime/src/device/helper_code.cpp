#include "device/helper_code.h"

namespace fusebn::detail {
namespace {

// `load`: a PTX type; `bytes`: its size; `bits`: the largest value.
#define FUSEBN_PTX_MASK(name, load, bytes, bits)                                                                     \
    ".visible .entry " name                                                                                          \
    "(.param .u64 y, .param .u64 mask, .param .u64 rows, .param .u64 channels,\n"                                    \
    "    .param .u64 length, .param .u64 y_outer, .param .u64 y_channel, .param .u64 y_step,\n"                      \
    "    .param .u64 m_outer, .param .u64 m_channel, .param .u64 m_step, .param .u32 last)\n"                        \
    "{\n"                                                                                                            \
    "    .reg .pred %p;\n"                                                                                           \
    "    .reg .b32 %r<6>;\n"                                                                                         \
    "    .reg .b64 %y, %mask, %rows, %channels, %length, %y_outer, %y_channel, %y_step;\n"                           \
    "    .reg .b64 %m_outer, %m_channel, %m_step, %row, %row_step, %first, %column_step;\n"                          \
    "    .reg .b64 %outer, %channel, %i, %from, %to, %t, %u;\n"                                                      \
    "    ld.param.u64 %y, [y];\n"                                                                                    \
    "    ld.param.u64 %mask, [mask];\n"                                                                              \
    "    cvta.to.global.u64 %y, %y;\n"                                                                               \
    "    cvta.to.global.u64 %mask, %mask;\n"                                                                         \
    "    ld.param.u64 %rows, [rows];\n"                                                                              \
    "    ld.param.u64 %channels, [channels];\n"                                                                      \
    "    ld.param.u64 %length, [length];\n"                                                                          \
    "    ld.param.u64 %y_outer, [y_outer];\n"                                                                        \
    "    ld.param.u64 %y_channel, [y_channel];\n"                                                                    \
    "    ld.param.u64 %y_step, [y_step];\n"                                                                          \
    "    ld.param.u64 %m_outer, [m_outer];\n"                                                                        \
    "    ld.param.u64 %m_channel, [m_channel];\n"                                                                    \
    "    ld.param.u64 %m_step, [m_step];\n"                                                                          \
    "    ld.param.u32 %r5, [last];\n" /* row = ctaid.y * ntid.y + tid.y, by nctaid.y * ntid.y; columns likewise in x \
                                       */                                                                            \
    "    mov.u32 %r0, %ctaid.y;\n"                                                                                   \
    "    mov.u32 %r1, %ntid.y;\n"                                                                                    \
    "    mov.u32 %r2, %tid.y;\n"                                                                                     \
    "    mov.u32 %r3, %nctaid.y;\n"                                                                                  \
    "    mul.wide.u32 %row, %r0, %r1;\n"                                                                             \
    "    cvt.u64.u32 %t, %r2;\n"                                                                                     \
    "    add.s64 %row, %row, %t;\n"                                                                                  \
    "    mul.wide.u32 %row_step, %r3, %r1;\n"                                                                        \
    "    mov.u32 %r0, %ctaid.x;\n"                                                                                   \
    "    mov.u32 %r1, %ntid.x;\n"                                                                                    \
    "    mov.u32 %r2, %tid.x;\n"                                                                                     \
    "    mov.u32 %r3, %nctaid.x;\n"                                                                                  \
    "    mul.wide.u32 %first, %r0, %r1;\n"                                                                           \
    "    cvt.u64.u32 %t, %r2;\n"                                                                                     \
    "    add.s64 %first, %first, %t;\n"                                                                              \
    "    mul.wide.u32 %column_step, %r3, %r1;\n"                                                                     \
    "next_row:\n"                                                                                                    \
    "    setp.ge.s64 %p, %row, %rows;\n"                                                                             \
    "    @%p bra done;\n"                                                                                            \
    "    div.s64 %outer, %row, %channels;\n"                                                                         \
    "    rem.s64 %channel, %row, %channels;\n"                                                                       \
    "    mul.lo.s64 %t, %outer, %y_outer;\n"                                                                         \
    "    mad.lo.s64 %t, %channel, %y_channel, %t;\n"                                                                 \
    "    mad.lo.s64 %from, %t, " bytes                                                                               \
    ", %y;\n"                                                                                                        \
    "    mad.lo.s64 %to, %outer, %m_outer, %mask;\n"                                                                 \
    "    mad.lo.s64 %to, %channel, %m_channel, %to;\n"                                                               \
    "    mov.u64 %i, %first;\n"                                                                                      \
    "next_column:\n"                                                                                                 \
    "    setp.ge.s64 %p, %i, %length;\n"                                                                             \
    "    @%p bra end_of_row;\n"                                                                                      \
    "    mul.lo.s64 %t, %i, %y_step;\n"                                                                              \
    "    mad.lo.s64 %t, %t, " bytes                                                                                  \
    ", %from;\n"                                                                                                     \
    "    mad.lo.s64 %u, %i, %m_step, %to;\n"                                                                         \
    "    ld.global." load                                                                                            \
    " %r4, [%t];\n"                                                                                                  \
    "    sub.s32 %r4, %r4, 1;\n"                                                                                     \
    "    and.b32 %r4, %r4, " bits                                                                                    \
    ";\n"                                                                                                            \
    "    setp.lt.u32 %p, %r4, %r5;\n"                                                                                \
    "    selp.u32 %r4, 1, 0, %p;\n"                                                                                  \
    "    st.global.u8 [%u], %r4;\n"                                                                                  \
    "    add.s64 %i, %i, %column_step;\n"                                                                            \
    "    bra next_column;\n"                                                                                         \
    "end_of_row:\n"                                                                                                  \
    "    add.s64 %row, %row, %row_step;\n"                                                                           \
    "    bra next_row;\n"                                                                                            \
    "done:\n"                                                                                                        \
    "    ret;\n"                                                                                                     \
    "}\n"

constexpr char ptx[] =
    ".version 7.0\n"
    ".target sm_80\n"
    ".address_size 64\n"
    ".visible .entry fusebn_add(.param .u64 y, .param .u64 x, .param .u32 count)\n"
    "{\n"
    "    .reg .pred %p;\n"
    "    .reg .b32 %r<5>;\n"
    "    .reg .f32 %f<2>;\n"
    "    .reg .b64 %y, %x;\n"
    "    mov.u32 %r0, %ctaid.x;\n"
    "    mov.u32 %r1, %ntid.x;\n"
    "    mov.u32 %r2, %tid.x;\n"
    "    mad.lo.s32 %r3, %r0, %r1, %r2;\n"
    "    ld.param.u32 %r4, [count];\n"
    "    setp.ge.s32 %p, %r3, %r4;\n"
    "    @%p bra done;\n"
    "    ld.param.u64 %y, [y];\n"
    "    ld.param.u64 %x, [x];\n"
    "    cvta.to.global.u64 %y, %y;\n"
    "    cvta.to.global.u64 %x, %x;\n"
    "    mad.wide.s32 %y, %r3, 4, %y;\n"
    "    mad.wide.s32 %x, %r3, 4, %x;\n"
    "    ld.global.f32 %f0, [%y];\n"
    "    ld.global.f32 %f1, [%x];\n"
    "    add.rn.f32 %f0, %f0, %f1;\n"
    "    st.global.f32 [%y], %f0;\n"
    "done:\n"
    "    ret;\n"
    "}\n"
    ".visible .entry fusebn_constants(.param .u64 running_mean, .param .u64 running_var, .param .f64 eps,\n"
    "    .param .u64 mean, .param .u64 inv_std, .param .u32 count)\n"
    "{\n"
    "    .reg .pred %p;\n"
    "    .reg .b32 %r<5>;\n"
    "    .reg .f32 %f<2>;\n"
    "    .reg .f64 %d<3>;\n"
    "    .reg .b64 %running_mean, %running_var, %mean, %inv_std;\n"
    "    mov.u32 %r0, %ctaid.x;\n"
    "    mov.u32 %r1, %ntid.x;\n"
    "    mov.u32 %r2, %tid.x;\n"
    "    mad.lo.s32 %r3, %r0, %r1, %r2;\n"
    "    ld.param.u32 %r4, [count];\n"
    "    setp.ge.s32 %p, %r3, %r4;\n"
    "    @%p bra done;\n"
    "    ld.param.u64 %running_mean, [running_mean];\n"
    "    ld.param.u64 %running_var, [running_var];\n"
    "    ld.param.u64 %mean, [mean];\n"
    "    ld.param.u64 %inv_std, [inv_std];\n"
    "    ld.param.f64 %d0, [eps];\n"
    "    cvta.to.global.u64 %running_mean, %running_mean;\n"
    "    cvta.to.global.u64 %running_var, %running_var;\n"
    "    cvta.to.global.u64 %mean, %mean;\n"
    "    cvta.to.global.u64 %inv_std, %inv_std;\n"
    "    mad.wide.s32 %running_mean, %r3, 4, %running_mean;\n"
    "    mad.wide.s32 %running_var, %r3, 4, %running_var;\n"
    "    mad.wide.s32 %mean, %r3, 8, %mean;\n"
    "    mad.wide.s32 %inv_std, %r3, 8, %inv_std;\n"
    "    ld.global.f32 %f0, [%running_mean];\n"
    "    ld.global.f32 %f1, [%running_var];\n"
    "    cvt.f64.f32 %d1, %f0;\n"
    "    st.global.f64 [%mean], %d1;\n"
    "    cvt.f64.f32 %d2, %f1;\n"
    "    add.rn.f64 %d2, %d2, %d0;\n"
    "    sqrt.rn.f64 %d2, %d2;\n"
    "    rcp.rn.f64 %d2, %d2;\n"
    "    st.global.f64 [%inv_std], %d2;\n"
    "done:\n"
    "    ret;\n"
    "}\n" FUSEBN_PTX_MASK("fusebn_mask8", "u8", "1", "255") FUSEBN_PTX_MASK("fusebn_mask16", "u16", "2", "65535")
        FUSEBN_PTX_MASK("fusebn_mask32", "u32", "4", "-1");
#undef FUSEBN_PTX_MASK

// The last parameter of each is local memory, as of all kernels that are launched.
constexpr char opencl[] =
    "#pragma OPENCL EXTENSION cl_khr_fp64 : enable\n"
    "#pragma OPENCL FP_CONTRACT OFF\n"
    "kernel void fusebn_add(global float* y, global const float* x, int count, local int* none) {\n"
    "    const int i = get_global_id(0);\n"
    "    if (i < count) y[i] = y[i] + x[i];\n"
    "}\n"
    "kernel void fusebn_constants(global const float* running_mean, global const float* running_var, double eps,\n"
    "                             global double* mean, global double* inv_std, int count, local int* none) {\n"
    "    const int i = get_global_id(0);\n"
    "    if (i >= count) return;\n"
    "    mean[i] = running_mean[i];\n"
    "    inv_std[i] = 1.0 / sqrt((double)running_var[i] + eps);\n"
    "}\n"
    "#define MASK(name, T)                                                                                   \\\n"
    "    kernel void name(global const T* y, global uchar* mask, long rows, long channels, long length,      \\\n"
    "                     long y_outer, long y_channel, long y_step, long m_outer, long m_channel,           \\\n"
    "                     long m_step, uint last, local int* none) {                                         \\\n"
    "        for (long row = get_global_id(1); row < rows; row += get_global_size(1)) {                      \\\n"
    "            global const T* from = y + row / channels * y_outer + row % channels * y_channel;           \\\n"
    "            global uchar* to = mask + row / channels * m_outer + row % channels * m_channel;            \\\n"
    "            for (long i = get_global_id(0); i < length; i += get_global_size(0))                        \\\n"
    "                to[i * m_step] = (T)(from[i * y_step] - 1) < last ? 1 : 0;                              \\\n"
    "        }                                                                                               \\\n"
    "    }\n"
    "MASK(fusebn_mask8, uchar)\n"
    "MASK(fusebn_mask16, ushort)\n"
    "MASK(fusebn_mask32, uint)\n";

constexpr fusebn_device_code cuda_code{ptx, static_cast<std::int32_t>(sizeof(ptx) - 1), 0, nullptr};
constexpr fusebn_device_code opencl_code{opencl, static_cast<std::int32_t>(sizeof(opencl) - 1), 0, nullptr};

}  // namespace

const fusebn_device_code& helper_code(DeviceKind kind) { return kind == DeviceKind::opencl ? opencl_code : cuda_code; }

}  // namespace fusebn::detail
