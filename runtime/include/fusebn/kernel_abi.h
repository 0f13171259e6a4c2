/* The C interface between a generated library and the runtime.
 *
 * A generated library is a set of kernels and one table that describes them; the runtime finds a row for a call and
 * runs it. No C++ type crosses this line, and neither side knows how the other was made.
 *
 * A kernel takes one array of pointers, in the order of its operation:
 *
 *   inference       context, x, gamma, beta, mean, var, eps, y
 *   train_forward   context, x, gamma, beta, running_mean, running_var, eps, momentum, ddof,
 *                   y, mean, inv_std, new_running_mean, new_running_var
 *
 *   context                     const fusebn_context* const*  (a pointer to the pointer)
 *   x, y                        fusebn_buffer*; planar: dim[0] = s (stride 1), dim[1] = c, dim[2] = n
 *                                               interleaved: dim[0] = c (stride 1), dim[1] = r
 *   gamma .. new_running_var    fusebn_buffer* of one dimension, c (stride 1), f32
 *   eps, momentum               const double*
 *   ddof                        const int32_t*: the running variance takes M2 / (n - ddof), so 1 is unbiased, 0 biased
 *
 * new_running_mean may be the same memory as running_mean (and so for var); y may be exactly x.
 * Kernels trust their arguments: the runtime has checked them.
 */
#ifndef FUSEBN_KERNEL_ABI_H
#define FUSEBN_KERNEL_ABI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a struct or an argument list below changes. A table of another version is refused. */
#define FUSEBN_ABI_VERSION 1

typedef enum fusebn_op { FUSEBN_OP_INFERENCE = 0, FUSEBN_OP_TRAIN_FORWARD = 1 } fusebn_op;
typedef enum fusebn_view { FUSEBN_VIEW_PLANAR = 0, FUSEBN_VIEW_INTERLEAVED = 1 } fusebn_view;
typedef enum fusebn_dtype { FUSEBN_DTYPE_F32 = 0 } fusebn_dtype;
typedef enum fusebn_activation { FUSEBN_ACTIVATION_NONE = 0, FUSEBN_ACTIVATION_RELU = 1 } fusebn_activation;

/* The most that one extent of a view may be, and the most values that a channel may have. Kernels count rows, elements
 * and chunks in 32 bits, and round extents up to whole tasks (of at most 65536) and chunks. */
#define FUSEBN_MAX_EXTENT (INT32_C(1) << 30)
#define FUSEBN_MAX_CHANNEL_VALUES (INT64_C(1) << 40)

/* Instruction sets, each a superset of the one before. */
typedef enum fusebn_isa {
    FUSEBN_ISA_X86_64 = 0,       /* SSE4.1 */
    FUSEBN_ISA_X86_64_AVX2 = 1,  /* AVX2, FMA, F16C */
    FUSEBN_ISA_X86_64_AVX512 = 2 /* AVX-512 F, CD, VL, DQ, BW */
} fusebn_isa;

/* One dimension of a buffer, in elements. */
typedef struct fusebn_dim {
    int32_t min; /* always 0 */
    int32_t extent;
    int32_t stride;
    uint32_t flags; /* always 0 */
} fusebn_dim;

/* A tensor as kernels see it. Laid out as the kernels' compiler expects; the fields that only a device would use are
 * zero on the CPU. */
typedef struct fusebn_buffer {
    uint64_t device;
    const void* device_interface;
    uint8_t* host;
    uint64_t flags;
    uint8_t type_code; /* 2: IEEE float */
    uint8_t type_bits;
    uint16_t type_lanes; /* 1 */
    int32_t dimensions;
    fusebn_dim* dim;
    void* padding;
} fusebn_buffer;

typedef int (*fusebn_task)(void* context, int32_t index, uint8_t* closure);

/* What a kernel may ask of its surroundings while it runs. */
typedef struct fusebn_context {
    /* Calls task(context, i, closure) for every i in [min, min + count), in any order, on any threads, and returns when
     * all are done: 0, or the first non-zero value a task returned. */
    int (*parallel_for)(const struct fusebn_context* context, fusebn_task task, int32_t min, int32_t count,
                        uint8_t* closure);
    void* pool; /* for parallel_for's own use */
} fusebn_context;

/* Returns 0, or FUSEBN_KERNEL_OUT_OF_MEMORY (nothing has been written to y then). */
typedef int (*fusebn_entry)(void** argv);
#define FUSEBN_KERNEL_OUT_OF_MEMORY (-11)

/* One compiled form of a kernel. */
typedef struct fusebn_variant {
    int32_t isa;          /* fusebn_isa */
    int32_t y_alignment;  /* what entry asks of y, in bytes: of its address, and of every outer stride */
    const char* schedule; /* text form; how the loops run, never what they compute */
    fusebn_entry entry;
    fusebn_entry entry_unaligned; /* the same without streaming stores, for any y; NULL where entry takes any y */
} fusebn_variant;

#define FUSEBN_ANY (-1)

/* One row of a library's table. */
typedef struct fusebn_kernel {
    const char* name;   /* "bn_train_forward_f32_planar_n32_c64_s3136_relu" */
    int32_t op;         /* fusebn_op */
    int32_t view;       /* fusebn_view */
    int32_t dtype;      /* fusebn_dtype: of x and y */
    int32_t activation; /* fusebn_activation */
    int32_t extents[3]; /* planar: n, c, s; interleaved: r, c, 1. FUSEBN_ANY: known at run time only */
    int32_t large;      /* 1: addresses more than 2^31 - 1 elements (64-bit offsets) */
    int32_t variant_count;
    const fusebn_variant* variants; /* ascending isa */
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
