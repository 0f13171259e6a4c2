#include "copy.h"

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>

#include "fusebn/batch_norm.h"

namespace fusebn::bench {
namespace {

// Of one cache line and more; `count` is a multiple of 16 elements, and y is on a line.
using CopyLines = void (*)(const float* x, float* y, std::ptrdiff_t count);

void stream_sse(const float* x, float* y, std::ptrdiff_t count) {
    for (std::ptrdiff_t i = 0; i < count; i += 16) {
        for (int k = 0; k < 16; k += 4) _mm_stream_ps(y + i + k, _mm_loadu_ps(x + i + k));
    }
}

__attribute__((target("avx2"))) void stream_avx2(const float* x, float* y, std::ptrdiff_t count) {
    for (std::ptrdiff_t i = 0; i < count; i += 16) {
        const __m256 low = _mm256_loadu_ps(x + i), high = _mm256_loadu_ps(x + i + 8);
        _mm256_stream_ps(y + i, low);
        _mm256_stream_ps(y + i + 8, high);
    }
}

__attribute__((target("avx512f"))) void stream_avx512(const float* x, float* y, std::ptrdiff_t count) {
    for (std::ptrdiff_t i = 0; i < count; i += 16) _mm512_stream_ps(y + i, _mm512_loadu_ps(x + i));
}

void copy_sse(const float* x, float* y, std::ptrdiff_t count) {
    for (std::ptrdiff_t i = 0; i < count; i += 16) {
        for (int k = 0; k < 16; k += 4) _mm_storeu_ps(y + i + k, _mm_loadu_ps(x + i + k));
    }
}

__attribute__((target("avx2"))) void copy_avx2(const float* x, float* y, std::ptrdiff_t count) {
    for (std::ptrdiff_t i = 0; i < count; i += 16) {
        const __m256 low = _mm256_loadu_ps(x + i), high = _mm256_loadu_ps(x + i + 8);
        _mm256_storeu_ps(y + i, low);
        _mm256_storeu_ps(y + i + 8, high);
    }
}

__attribute__((target("avx512f"))) void copy_avx512(const float* x, float* y, std::ptrdiff_t count) {
    for (std::ptrdiff_t i = 0; i < count; i += 16) _mm512_storeu_ps(y + i, _mm512_loadu_ps(x + i));
}

// 64 KB: enough pieces for the threads to share evenly, few enough for the sharing to cost nothing.
constexpr std::ptrdiff_t piece = 16384;

struct Closure {
    const float* x;
    float* y;
    std::ptrdiff_t count;
};

template <CopyLines copy_lines>
int copy_piece(void*, std::int32_t index, std::uint8_t* closure) {
    const Closure& c = *reinterpret_cast<const Closure*>(closure);
    const std::ptrdiff_t begin = index * piece, size = std::min(piece, c.count - begin);
    const std::ptrdiff_t lines = size / 16 * 16;
    copy_lines(c.x + begin, c.y + begin, lines);
    std::memcpy(c.y + begin + lines, c.x + begin + lines, static_cast<std::size_t>(size - lines) * sizeof(float));
    _mm_sfence();  // streamed stores are visible to the thread that waits for this one
    return 0;
}

template <CopyLines copy_lines>
int copy_entry(void** argv) {
    const fusebn_context* context = *static_cast<const fusebn_context**>(argv[0]);
    const auto& x = *static_cast<const fusebn_buffer*>(argv[1]);
    const auto& y = *static_cast<const fusebn_buffer*>(argv[8]);
    Closure closure{reinterpret_cast<const float*>(x.host), reinterpret_cast<float*>(y.host), x.dim[0].extent};
    const auto pieces = static_cast<std::int32_t>((closure.count + piece - 1) / piece);
    return context->parallel_for(context, copy_piece<copy_lines>, 0, pieces, reinterpret_cast<std::uint8_t*>(&closure));
}

// y_alignment is left to the caller of make_copy: these tensors have one row, whose length says nothing.
constexpr fusebn_variant streaming_variants[] = {{FUSEBN_ISA_X86_64, 1, "", copy_entry<stream_sse>, nullptr},
                                                 {FUSEBN_ISA_X86_64_AVX2, 1, "", copy_entry<stream_avx2>, nullptr},
                                                 {FUSEBN_ISA_X86_64_AVX512, 1, "", copy_entry<stream_avx512>, nullptr}};
constexpr fusebn_variant plain_variants[] = {{FUSEBN_ISA_X86_64, 1, "", copy_entry<copy_sse>, nullptr},
                                             {FUSEBN_ISA_X86_64_AVX2, 1, "", copy_entry<copy_avx2>, nullptr},
                                             {FUSEBN_ISA_X86_64_AVX512, 1, "", copy_entry<copy_avx512>, nullptr}};

constexpr fusebn_kernel row(const char* name, const fusebn_variant (&variants)[3]) {
    return {name,
            FUSEBN_OP_INFERENCE,
            FUSEBN_VIEW_PLANAR,
            FUSEBN_DTYPE_F32,
            FUSEBN_ACTIVATION_NONE,
            FUSEBN_RESIDUAL_NONE,
            {FUSEBN_ANY, FUSEBN_ANY, FUSEBN_ANY},
            0,
            3,
            variants};
}
constexpr fusebn_kernel streaming_row = row("copy_streaming", streaming_variants);
constexpr fusebn_kernel plain_row = row("copy_plain", plain_variants);
constexpr fusebn_kernel_table streaming_table{FUSEBN_ABI_VERSION, 1, "copy", "", &streaming_row};
constexpr fusebn_kernel_table plain_table{FUSEBN_ABI_VERSION, 1, "copy", "", &plain_row};

}  // namespace

std::function<void()> make_copy(Copy copy, const void* from_data, void* to_data, std::int64_t bytes) {
    const std::int64_t elements = (bytes + std::int64_t{sizeof(float)} - 1) / std::int64_t{sizeof(float)};
    auto layer = std::make_shared<BatchNorm1d>(1, copy == Copy::streaming ? streaming_table : plain_table);
    layer->eval();
    const ConstTensor from = tensor(static_cast<const float*>(from_data), Layout::NCL, {1, 1, elements});
    const Tensor to = tensor(static_cast<float*>(to_data), Layout::NCL, {1, 1, elements});
    return [layer, from, to] {
        if (const Status status = layer->forward(from, to); !status.ok()) {
            std::fprintf(stderr, "copy: %s\n", status.message().c_str());
            std::exit(1);
        }
    };
}

}  // namespace fusebn::bench
