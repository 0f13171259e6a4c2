// Cache lines that are read and written with nothing computed of them, by each instruction set. What is read is made
// one by exclusive or, which takes all bits alike (a subnormal float may be slow to add), and an asm wants the result.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace fusebn::measure {

inline constexpr std::ptrdiff_t line_bytes = 64;
inline constexpr int most_inputs = 4, most_outputs = 2;

// Where so many tensors are read and, the same everywhere, written. Outputs lie on a line where lines are written.
struct Streams {
    int inputs = 0, outputs = 0;
    bool streaming = false;  // stores past the cache
    const std::byte* from[most_inputs] = {};
    std::byte* to[most_outputs] = {};
};

// Moves so many lines from `offset` on.
using MoveLines = void (*)(const Streams& s, std::ptrdiff_t offset, std::ptrdiff_t lines);

namespace lines {

template <int inputs, int outputs, bool streaming>
void move_sse(const Streams& s, std::ptrdiff_t offset, std::ptrdiff_t lines) {
    __m128i seen = _mm_setzero_si128();
    for (std::ptrdiff_t at = offset; at < offset + lines * line_bytes; at += sizeof(seen)) {
        __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(s.from[0] + at));
        for (int i = 1; i < inputs; ++i) {
            v = _mm_xor_si128(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(s.from[i] + at)));
        }
        for (int i = 0; i < outputs; ++i) {
            auto* const to = reinterpret_cast<__m128i*>(s.to[i] + at);
            streaming ? _mm_stream_si128(to, v) : _mm_storeu_si128(to, v);
        }
        if constexpr (outputs == 0) seen = _mm_xor_si128(seen, v);
    }
    asm volatile("" : : "x"(seen));
}

template <int inputs, int outputs, bool streaming>
__attribute__((target("avx2"))) void move_avx2(const Streams& s, std::ptrdiff_t offset, std::ptrdiff_t lines) {
    __m256i seen = _mm256_setzero_si256();
    for (std::ptrdiff_t at = offset; at < offset + lines * line_bytes; at += sizeof(seen)) {
        __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(s.from[0] + at));
        for (int i = 1; i < inputs; ++i) {
            v = _mm256_xor_si256(v, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(s.from[i] + at)));
        }
        for (int i = 0; i < outputs; ++i) {
            auto* const to = reinterpret_cast<__m256i*>(s.to[i] + at);
            streaming ? _mm256_stream_si256(to, v) : _mm256_storeu_si256(to, v);
        }
        if constexpr (outputs == 0) seen = _mm256_xor_si256(seen, v);
    }
    asm volatile("" : : "x"(seen));
}

template <int inputs, int outputs, bool streaming>
__attribute__((target("avx512f"))) void move_avx512(const Streams& s, std::ptrdiff_t offset, std::ptrdiff_t lines) {
    __m512i seen = _mm512_setzero_si512();
    for (std::ptrdiff_t at = offset; at < offset + lines * line_bytes; at += sizeof(seen)) {
        __m512i v = _mm512_loadu_si512(s.from[0] + at);
        for (int i = 1; i < inputs; ++i) v = _mm512_xor_si512(v, _mm512_loadu_si512(s.from[i] + at));
        for (int i = 0; i < outputs; ++i) {
            auto* const to = reinterpret_cast<__m512i*>(s.to[i] + at);
            streaming ? _mm512_stream_si512(to, v) : _mm512_storeu_si512(to, v);
        }
        if constexpr (outputs == 0) seen = _mm512_xor_si512(seen, v);
    }
    asm volatile("" : : "x"(seen));
}

struct Sse {
    template <int inputs, int outputs, bool streaming>
    static constexpr MoveLines move = move_sse<inputs, outputs, streaming>;
};
struct Avx2 {
    template <int inputs, int outputs, bool streaming>
    static constexpr MoveLines move = move_avx2<inputs, outputs, streaming>;
};
struct Avx512 {
    template <int inputs, int outputs, bool streaming>
    static constexpr MoveLines move = move_avx512<inputs, outputs, streaming>;
};

template <class Isa, int inputs>
MoveLines choose(int outputs, bool streaming) {
    switch (outputs) {
        case 0: return Isa::template move<inputs, 0, false>;
        case 1: return streaming ? Isa::template move<inputs, 1, true> : Isa::template move<inputs, 1, false>;
        default: return streaming ? Isa::template move<inputs, 2, true> : Isa::template move<inputs, 2, false>;
    }
}

template <class Isa>
MoveLines choose(const Streams& s) {
    switch (s.inputs) {
        case 1: return choose<Isa, 1>(s.outputs, s.streaming);
        case 2: return choose<Isa, 2>(s.outputs, s.streaming);
        case 3: return choose<Isa, 3>(s.outputs, s.streaming);
        default: return choose<Isa, 4>(s.outputs, s.streaming);
    }
}

}  // namespace lines
}  // namespace fusebn::measure
