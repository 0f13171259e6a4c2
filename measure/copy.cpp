#include "measure/copy.h"

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>

#include "fusebn/batch_norm.h"
#include "measure/copy_row.h"

namespace fusebn::measure {
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

// Sums, so that what is read is wanted.
using ReadLines = float (*)(const float* x, std::ptrdiff_t count);

float read_sse(const float* x, std::ptrdiff_t count) {
    __m128 sums[4] = {};
    for (std::ptrdiff_t i = 0; i < count; i += 16) {
        for (int k = 0; k < 4; ++k) sums[k] = _mm_add_ps(sums[k], _mm_loadu_ps(x + i + 4 * k));
    }
    return _mm_cvtss_f32(_mm_add_ps(_mm_add_ps(sums[0], sums[1]), _mm_add_ps(sums[2], sums[3])));
}

__attribute__((target("avx2"))) float read_avx2(const float* x, std::ptrdiff_t count) {
    __m256 low = _mm256_setzero_ps(), high = low;
    for (std::ptrdiff_t i = 0; i < count; i += 16) {
        low = _mm256_add_ps(low, _mm256_loadu_ps(x + i));
        high = _mm256_add_ps(high, _mm256_loadu_ps(x + i + 8));
    }
    return _mm256_cvtss_f32(_mm256_add_ps(low, high));
}

__attribute__((target("avx512f"))) float read_avx512(const float* x, std::ptrdiff_t count) {
    __m512 even = _mm512_setzero_ps(), odd = even;
    std::ptrdiff_t i = 0;
    for (; i + 32 <= count; i += 32) {
        even = _mm512_add_ps(even, _mm512_loadu_ps(x + i));
        odd = _mm512_add_ps(odd, _mm512_loadu_ps(x + i + 16));
    }
    for (; i < count; i += 16) even = _mm512_add_ps(even, _mm512_loadu_ps(x + i));
    return _mm512_cvtss_f32(_mm512_add_ps(even, odd));
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

template <ReadLines read_lines>
int read_piece(void*, std::int32_t index, std::uint8_t* closure) {
    const Closure& c = *reinterpret_cast<const Closure*>(closure);
    const std::ptrdiff_t begin = index * piece, size = std::min(piece, c.count - begin);
    [[maybe_unused]] const volatile float sum = read_lines(c.x + begin, size / 16 * 16);
    return 0;
}

template <fusebn_task task>
int entry(void** argv) {
    const fusebn_context* context = *static_cast<const fusebn_context**>(argv[0]);
    const auto& x = *static_cast<const fusebn_buffer*>(argv[1]);
    const auto& y = *static_cast<const fusebn_buffer*>(argv[8]);
    Closure closure{reinterpret_cast<const float*>(x.host), reinterpret_cast<float*>(y.host), x.dim[0].extent};
    const auto pieces = static_cast<std::int32_t>((closure.count + piece - 1) / piece);
    return context->parallel_for(context, task, 0, pieces, reinterpret_cast<std::uint8_t*>(&closure));
}

// y_alignment is left to the caller of make_copy: these tensors have one row, whose length says nothing.
template <fusebn_task sse, fusebn_task avx2, fusebn_task avx512>
constexpr fusebn_variant variants[] = {{FUSEBN_ISA_X86_64, 1, "", entry<sse>, nullptr, nullptr},
                                       {FUSEBN_ISA_X86_64_AVX2, 1, "", entry<avx2>, nullptr, nullptr},
                                       {FUSEBN_ISA_X86_64_AVX512, 1, "", entry<avx512>, nullptr, nullptr}};

constexpr fusebn_kernel streaming_row =
    copy_row("copy_streaming", variants<copy_piece<stream_sse>, copy_piece<stream_avx2>, copy_piece<stream_avx512>>);
constexpr fusebn_kernel plain_row =
    copy_row("copy_plain", variants<copy_piece<copy_sse>, copy_piece<copy_avx2>, copy_piece<copy_avx512>>);
constexpr fusebn_kernel read_row =
    copy_row("read", variants<read_piece<read_sse>, read_piece<read_avx2>, read_piece<read_avx512>>);
constexpr fusebn_kernel_table streaming_table{FUSEBN_ABI_VERSION, 1, "copy", "", &streaming_row};
constexpr fusebn_kernel_table plain_table{FUSEBN_ABI_VERSION, 1, "copy", "", &plain_row};
constexpr fusebn_kernel_table read_table{FUSEBN_ABI_VERSION, 1, "read", "", &read_row};

// A layer whose only kernel is the table's, from one tensor of one row to another.
std::function<void()> make(const fusebn_kernel_table& table, const void* from_data, void* to_data, std::int64_t bytes) {
    const std::int64_t elements = (bytes + std::int64_t{sizeof(float)} - 1) / std::int64_t{sizeof(float)};
    auto layer = std::make_shared<BatchNorm1d>(1, table);
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

}  // namespace

std::function<void()> make_copy(Copy copy, const void* from, void* to, std::int64_t bytes) {
    return make(copy == Copy::streaming ? streaming_table : plain_table, from, to, bytes);
}

std::function<void()> make_read(const void* from, std::int64_t bytes) {
    return make(read_table, from, const_cast<void*>(from), bytes);  // in place, which nothing is written to
}

}  // namespace fusebn::measure
