/* The C interface between a generated library and the runtime.
 *
 * A generated library is a set of kernels and one table that describes them; the runtime finds a row for a call and
 * runs it. No C++ type crosses this line, and neither side knows how the other was made.
 *
 * A kernel takes one array of pointers, in the order of its operation; [..] only where the row's residual is:
 *
 *   inference       context, x, gamma, beta, mean, var, eps, slope,
 *                   [add: residual] [batch_norm: x2, gamma2, beta2, mean2, var2, eps2],
 *                   y
 *   train_forward   context, x, gamma, beta, running_mean, running_var, eps, momentum, ddof, slope,
 *                   [add: residual]
 *                   [batch_norm: x2, gamma2, beta2, running_mean2, running_var2, eps2, momentum2, ddof2],
 *                   y, [mask, where FUSEBN_SAVES_MASK], mean, inv_std, new_running_mean, new_running_var,
 *                   [batch_norm: mean2, inv_std2, new_running_mean2, new_running_var2]
 *   backward        context, x, dy, gamma, beta, mean, inv_std, batch_statistics, sums, slope,
 *                   [add: mask where FUSEBN_SAVES_MASK, else residual]
 *                   [batch_norm: x2, gamma2, beta2, mean2, inv_std2, batch_statistics2],
 *                   dx, [add: dresidual] [batch_norm: dx2], dgamma, dbeta, [batch_norm: dgamma2, dbeta2]
 *
 *   context                     const fusebn_context* const*  (a pointer to the pointer)
 *   x, y, dy, dx, residual ..   fusebn_buffer*; planar: dim[0] = s (stride 1), dim[1] = c, dim[2] = n
 *                                               interleaved: dim[0] = c (stride 1), dim[1] = r
 *   mask                        fusebn_buffer* like x, but of bits: strides count bits and are multiples of
 *                               FUSEBN_MASK_ALIGNMENT, as are the rows, the last bits of which mean nothing. Bit i is
 *                               bit i % 8 of byte i / 8: whether the activation passed the element's gradient.
 *                               On a device the same of bytes, 0 or 1: element i is byte i
 *   gamma, beta, running ..     fusebn_buffer* of one dimension, c (stride 1), f32
 *   dgamma, dbeta               likewise, f32
 *   mean, inv_std               likewise; f32 as inference's input (the running statistics), f64 as train_forward's
 *                               output and backward's input
 *   eps, momentum               const double*
 *   slope                       const float*: leaky_relu's, of values below zero
 *   ddof                        const int32_t*: the running variance takes M2 / (n - ddof), so 1 is unbiased, 0 biased
 *   batch_statistics            const int32_t*: 1: mean and inv_std are the batch's; 0: they are constants
 *   sums                        const int32_t*: 0: dgamma and dbeta are not wanted (dgamma and dbeta take zeros then);
 *                               1 where batch_statistics is
 *
 * backward makes no dx (nor dresidual or dx2) where dx has an outermost extent of 0; its data may then be null.
 * new_running_mean may be the same memory as running_mean (and so for var); y may be exactly x, residual or x2; dx, dx2
 * and dresidual may each be exactly one of x, dy, residual and x2.
 * Kernels trust their arguments: the runtime has checked them.
 */
#ifndef FUSEBN_KERNEL_ABI_H
#define FUSEBN_KERNEL_ABI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a struct or an argument list below changes. A table of another version is refused. */
#define FUSEBN_ABI_VERSION 5

typedef enum fusebn_op { FUSEBN_OP_INFERENCE = 0, FUSEBN_OP_TRAIN_FORWARD = 1, FUSEBN_OP_BACKWARD = 2 } fusebn_op;
typedef enum fusebn_view { FUSEBN_VIEW_PLANAR = 0, FUSEBN_VIEW_INTERLEAVED = 1 } fusebn_view;
typedef enum fusebn_dtype { FUSEBN_DTYPE_F32 = 0, FUSEBN_DTYPE_BF16 = 1, FUSEBN_DTYPE_F16 = 2 } fusebn_dtype;
typedef enum fusebn_activation {
    FUSEBN_ACTIVATION_NONE = 0,
    FUSEBN_ACTIVATION_RELU = 1,
    FUSEBN_ACTIVATION_RELU6 = 2,
    FUSEBN_ACTIVATION_LEAKY_RELU = 3,
    FUSEBN_ACTIVATION_SILU = 4,
    FUSEBN_ACTIVATION_HARDSWISH = 5
} fusebn_activation;

/* What is added before the activation: nothing, a tensor, or a second branch's batch norm. */
typedef enum fusebn_residual {
    FUSEBN_RESIDUAL_NONE = 0,
    FUSEBN_RESIDUAL_ADD = 1,
    FUSEBN_RESIDUAL_BATCH_NORM = 2
} fusebn_residual;

/* Whether training keeps a mask: where a gradient depends on the sign of bn(x) + residual, and backward is not given
 * the residual. Without a residual, and with a second branch, the sum is made again from what backward reads anyway;
 * silu's and hardswish's gradients depend on more than a bit, so backward reads the residual. */
#define FUSEBN_SAVES_MASK(activation, residual)                                            \
    ((residual) == FUSEBN_RESIDUAL_ADD &&                                                  \
     ((activation) == FUSEBN_ACTIVATION_RELU || (activation) == FUSEBN_ACTIVATION_RELU6 || \
      (activation) == FUSEBN_ACTIVATION_LEAKY_RELU))
#define FUSEBN_MASK_ALIGNMENT 32

/* The most that one extent of a view may be, and the most values that a channel may have. Kernels count rows, elements
 * and chunks in 32 bits, and round extents up to whole tasks (of at most 65536) and chunks. */
#define FUSEBN_MAX_EXTENT (INT32_C(1) << 30)
#define FUSEBN_MAX_CHANNEL_VALUES (INT64_C(1) << 40)

/* What a variant is made for. Instruction sets of a CPU, each a superset of the one before; and devices: CUDA, by the
 * least compute capability, and OpenCL. */
typedef enum fusebn_isa {
    FUSEBN_ISA_X86_64 = 0,        /* SSE4.1 */
    FUSEBN_ISA_X86_64_AVX2 = 1,   /* AVX2, FMA, F16C */
    FUSEBN_ISA_X86_64_AVX512 = 2, /* AVX-512 F, CD, VL, DQ, BW */
    FUSEBN_ISA_CUDA_SM_80 = 1080,
    FUSEBN_ISA_CUDA_SM_90 = 1090,
    FUSEBN_ISA_CUDA_SM_100 = 1100,
    FUSEBN_ISA_OPENCL = 2000 /* 1.2 with cl_khr_fp64 */
} fusebn_isa;

/* One dimension of a buffer, in elements. */
typedef struct fusebn_dim {
    int32_t min; /* always 0 */
    int32_t extent;
    int32_t stride;
    uint32_t flags; /* always 0 */
} fusebn_dim;

/* A tensor as kernels see it. Laid out as the kernels' compiler expects. */
typedef struct fusebn_buffer {
    uint64_t device; /* of a device's variant: the address on it (OpenCL: a cl_mem), and host is null; else 0 */
    const void* device_interface;
    uint8_t* host;
    uint64_t flags;
    uint8_t type_code;   /* 2: IEEE float; bf16, f16 and masks: 1 (unsigned) */
    uint8_t type_bits;   /* 32 or 64; bf16 and f16: 16; masks: 8 */
    uint16_t type_lanes; /* 1 */
    int32_t dimensions;
    fusebn_dim* dim;
    void* padding;
} fusebn_buffer;

typedef int (*fusebn_task)(void* context, int32_t index, uint8_t* closure);

/* Machine code for one CUDA architecture. */
typedef struct fusebn_device_image {
    int32_t sm; /* 90: runs on compute capability 9.0 to 9.x */
    int32_t bytes;
    const void* data; /* a cubin */
} fusebn_device_image;

/* A variant's device code. */
typedef struct fusebn_device_code {
    const char* text;   /* PTX or OpenCL C, with a 0 at its end */
    int32_t text_bytes; /* without it */
    int32_t image_count;
    const fusebn_device_image* images;
} fusebn_device_code;

/* What a kernel may ask of its surroundings while it runs. */
typedef struct fusebn_context {
    /* Calls task(context, i, closure) for every i in [min, min + count), in any order, on any threads, and returns when
     * all are done: 0, or the first non-zero value a task returned. */
    int (*parallel_for)(const struct fusebn_context* context, fusebn_task task, int32_t min, int32_t count,
                        uint8_t* closure);
    void* pool; /* for parallel_for's own use */

    /* The next three are asked for by variants for a device alone.
     *
     * Launches `function` of `code` with grid[3] blocks of block[3] threads and so many bytes of shared memory, after
     * what was launched before it. Nothing where a grid's extent is 0. arguments[i] points to the value, of sizes[i]
     * bytes; where is_buffer[i], to a fusebn_buffer whose device field is the value. sizes ends with 0, arguments with
     * null. Returns 0 or a code, which becomes the kernel's. */
    int (*launch)(const struct fusebn_context* context, const fusebn_device_code* code, const char* function,
                  const int32_t* grid, const int32_t* block, int32_t shared_bytes, const uint64_t* sizes,
                  void* const* arguments, const int8_t* is_buffer);
    /* Device memory for `buffer`, whose dimensions are set, in its device field, until the kernel's entry returns
     * (launches that use it may still be under way then). Returns 0 or a code, which becomes the kernel's. */
    int (*allocate)(const struct fusebn_context* context, fusebn_buffer* buffer);
    void* device; /* for their own use */

    /* Working memory of `bytes`, a multiple of 64, at a multiple of 64, or NULL; and back. From any thread. */
    void* (*take)(const struct fusebn_context* context, uint64_t bytes);
    void (*give)(const struct fusebn_context* context, void* memory);
} fusebn_context;

/* Returns 0, or FUSEBN_KERNEL_OUT_OF_MEMORY (nothing has been written to y then), or what a function of the context
 * returned. A device's variant returns when its launches are queued. */
typedef int (*fusebn_entry)(void** argv);
#define FUSEBN_KERNEL_OUT_OF_MEMORY (-11)

/* One compiled form of a kernel. */
typedef struct fusebn_variant {
    int32_t isa;          /* fusebn_isa */
    int32_t y_alignment;  /* what entry asks of the tensors it writes, and a device's of those it reads too, in bytes:
                             of addresses and outer strides */
    const char* schedule; /* text form; how the loops run, never what they compute */
    fusebn_entry entry;
    fusebn_entry entry_unaligned; /* the same for any tensors; NULL where entry takes any */
    const char* processor;        /* a CPU that the schedule is for, or how the names of several begin, in whole words:
                                     "AuthenticAMD family 25 model 17" (letters and digits of CPUID's vendor; numbers as
                                     /proc/cpuinfo has them); NULL: any */
    int32_t dense; /* 1: entry takes planar tensors without gaps between channels alone (masks aside), and asks
                      nothing of the alignment of their channels' strides */
} fusebn_variant;

#define FUSEBN_ANY (-1)

/* One row of a library's table. */
typedef struct fusebn_kernel {
    const char* name;   /* "bn_train_forward_f32_planar_n32_c64_s3136_relu" */
    int32_t op;         /* fusebn_op */
    int32_t view;       /* fusebn_view */
    int32_t dtype;      /* fusebn_dtype: of x, y and all tensors of their shape */
    int32_t activation; /* fusebn_activation */
    int32_t residual;   /* fusebn_residual */
    int32_t extents[3]; /* planar: n, c, s; interleaved: r, c, 1. FUSEBN_ANY: known at run time only */
    int32_t large;      /* 1: addresses more than 2^31 - 1 elements (64-bit offsets) */
    int32_t variant_count;
    const fusebn_variant* variants; /* ascending isa, and of one the variants for any CPU first */
} fusebn_kernel;

typedef struct fusebn_kernel_table {
    uint32_t abi_version; /* FUSEBN_ABI_VERSION */
    int32_t kernel_count;
    const char* library;          /* "resnet50_bn" */
    const char* generator;        /* "fusebn 0.1.0, Halide 21.0.0, LLVM 22.1.8" */
    const fusebn_kernel* kernels; /* fixed extents first, then the generic ones */
} fusebn_kernel_table;

#ifdef __cplusplus
}
#endif

#endif
