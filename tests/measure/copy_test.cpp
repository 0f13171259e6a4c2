// What the yardsticks move: all of it and nothing beside it, at ends of rows that are no lines, by every instruction
// set.
#include "measure/copy.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "measure/lines.h"

namespace fusebn::measure {
namespace {

constexpr std::int64_t l3 = 1 << 20;

int none(void**) { return 0; }
constexpr fusebn_variant variant{FUSEBN_ISA_X86_64, 1, "", none, nullptr, nullptr, 0};

// Of one table row that is never called.
struct Kernel {
    fusebn_kernel kernel = {"k", 0, 0, 0, 0, 0, {FUSEBN_ANY, FUSEBN_ANY, FUSEBN_ANY}, 0, 1, &variant};
    fusebn_kernel_table table{FUSEBN_ABI_VERSION, 1, "t", "", &kernel};
};

// Every byte of what is written is the exclusive or of what was read there.
void expect_passes(Op op, Layout layout, Residual residual, Activation activation, std::int64_t C, std::int64_t W,
                   bool reads_addend) {
    Kernel k;
    k.kernel.op = static_cast<std::int32_t>(op);
    k.kernel.residual = static_cast<std::int32_t>(residual);
    k.kernel.activation = static_cast<std::int32_t>(activation);
    const LayerCase c{&k.table, &k.kernel, layout, 3, C, 1, W, true};
    const auto bytes = static_cast<std::size_t>(c.tensor_bytes());
    Buffer x, dy, addend, out, addend_out;
    const auto filled = [&](Buffer& buffer, int seed) {
        auto* const p = static_cast<std::uint8_t*>(buffer.at_least(c.tensor_bytes() + 64));
        for (std::size_t i = 0; i < bytes + 64; ++i) p[i] = static_cast<std::uint8_t>((i * 31 + i / 251) * seed);
        return p;
    };
    Operands operands;
    const auto* const px = filled(x, 1);
    operands.x = px;
    const std::uint8_t *pdy = nullptr, *padd = nullptr;
    std::vector<std::uint8_t*> results{filled(out, 7)};
    operands.out = results[0];
    if (op == Op::backward) operands.dy = pdy = filled(dy, 3);
    if (residual != Residual::none) operands.addend = padd = filled(addend, 5);
    if (op == Op::backward && residual != Residual::none) {
        results.push_back(filled(addend_out, 11));
        operands.addend_out = results[1];
    }
    for (const Copy stores : {Copy::plain, Copy::streaming}) {
        for (std::uint8_t* result : results) std::memset(result, 0xee, bytes + 64);
        make_passes(c, operands, stores, l3)();
        for (const std::uint8_t* result : results) {
            for (std::size_t i = 0; i < bytes; ++i) {
                const int wanted = px[i] ^ (pdy != nullptr ? pdy[i] : 0) ^ (reads_addend ? padd[i] : 0);
                ASSERT_EQ(result[i], wanted) << "byte " << i << " of " << bytes;
            }
            for (std::size_t i = bytes; i < bytes + 64; ++i) ASSERT_EQ(result[i], 0xee) << "behind the end";
        }
    }
}

TEST(Passes, ReadAndWriteAllOfIt) {
    for (const Layout layout : {Layout::NCHW, Layout::NHWC}) {
        for (const std::int64_t C : {1, 3, 64}) {
            for (const std::int64_t W : {1, 49, 50, 1025}) {
                SCOPED_TRACE(std::string(to_string(layout)) + " " + std::to_string(C) + " " + std::to_string(W));
                expect_passes(Op::train_forward, layout, Residual::none, Activation::relu, C, W, false);
                expect_passes(Op::train_forward, layout, Residual::add, Activation::relu, C, W, true);
                expect_passes(Op::backward, layout, Residual::none, Activation::none, C, W, false);
                expect_passes(Op::backward, layout, Residual::add, Activation::relu, C, W, false);
                expect_passes(Op::backward, layout, Residual::add, Activation::silu, C, W, true);
                expect_passes(Op::backward, layout, Residual::batch_norm, Activation::relu, C, W, true);
            }
        }
    }
}

// Slabs that are too large for the cache: by two loops over everything, not channel by channel.
TEST(Passes, OfSlabsBeyondTheCache) {
    expect_passes(Op::backward, Layout::NCHW, Residual::none, Activation::relu, 2, 70001, false);
}

// Tensors of 1 MB: what must move, and what is read again where a cache of so many bytes does not hold it.
TEST(LayerCase, CountsTheBytesThatMustMove) {
    constexpr std::int64_t MB = 1 << 20, mask = MB / 32;
    const auto bytes = [](Op op, Layout layout, Residual residual, Activation activation, std::int64_t cache) {
        Kernel k;
        k.kernel.op = static_cast<std::int32_t>(op);
        k.kernel.residual = static_cast<std::int32_t>(residual);
        k.kernel.activation = static_cast<std::int32_t>(activation);
        return LayerCase{&k.table, &k.kernel, layout, 4, 256, 16, 16, true}.limit_bytes(cache);
    };
    const auto nhwc = [&](Op op, Residual residual, Activation activation, std::int64_t cache) {
        return bytes(op, Layout::NHWC, residual, activation, cache);
    };
    using enum Op;
    const Activation relu = Activation::relu, silu = Activation::silu;
    EXPECT_EQ(nhwc(inference, Residual::none, relu, 0), 2 * MB);
    EXPECT_EQ(nhwc(inference, Residual::add, relu, 0), 3 * MB);
    EXPECT_EQ(nhwc(train_forward, Residual::none, relu, MB), 2 * MB);
    EXPECT_EQ(nhwc(train_forward, Residual::none, relu, MB - 1), 3 * MB);
    EXPECT_EQ(nhwc(train_forward, Residual::add, relu, 0), 4 * MB + mask);
    EXPECT_EQ(nhwc(train_forward, Residual::batch_norm, relu, 0), 5 * MB);
    EXPECT_EQ(nhwc(backward, Residual::none, relu, 2 * MB), 3 * MB);
    EXPECT_EQ(nhwc(backward, Residual::none, relu, 0), 5 * MB);
    EXPECT_EQ(nhwc(backward, Residual::add, relu, 0), 6 * MB + mask);
    EXPECT_EQ(nhwc(backward, Residual::add, Activation::none, 0), 6 * MB);
    EXPECT_EQ(nhwc(backward, Residual::add, silu, 0), 8 * MB);
    EXPECT_EQ(nhwc(backward, Residual::batch_norm, silu, 0), 8 * MB);
    EXPECT_EQ(bytes(backward, Layout::NCHW, Residual::none, relu, 2 * MB / 256), 3 * MB);
    EXPECT_EQ(bytes(backward, Layout::NCHW, Residual::none, relu, 2 * MB / 256 - 1), 5 * MB);
}

TEST(Copy, IsExact) {
    for (const std::int64_t bytes : {4, 60, 64, 68, 65536 + 4, 3 * 65536 + 60}) {
        std::vector<char> from(static_cast<std::size_t>(bytes));
        std::iota(from.begin(), from.end(), 'a');
        for (const Copy how : {Copy::plain, Copy::streaming}) {
            Buffer to;
            auto* const data = static_cast<char*>(to.at_least(bytes + 64));
            std::memset(data, 'z', static_cast<std::size_t>(bytes) + 64);
            make_copy(how, from.data(), data, bytes)();
            EXPECT_EQ(std::memcmp(data, from.data(), from.size()), 0) << bytes;
            EXPECT_EQ(std::vector<char>(data + bytes, data + bytes + 64), std::vector<char>(64, 'z')) << bytes;
        }
    }
}

template <class Isa>
void expect_lines() {
    constexpr std::int64_t lines = 5;
    Buffer from[most_inputs], to[most_outputs];
    for (int inputs = 1; inputs <= most_inputs; ++inputs) {
        for (int outputs = 0; outputs <= most_outputs; ++outputs) {
            for (const bool streaming : {false, true}) {
                Streams s{inputs, outputs, streaming, {}, {}};
                std::vector<std::uint8_t> wanted(lines * line_bytes);
                for (int i = 0; i < inputs; ++i) {
                    auto* const p = static_cast<std::uint8_t*>(from[i].at_least(lines * line_bytes));
                    s.from[i] = reinterpret_cast<const std::byte*>(p);
                    for (std::size_t at = 0; at < wanted.size(); ++at) {
                        p[at] = static_cast<std::uint8_t>(at * 7 + at / 64 + 100 * i);
                        if (at >= line_bytes) wanted[at] ^= p[at];  // the first line is left out
                    }
                }
                for (int i = 0; i < outputs; ++i) {
                    s.to[i] = static_cast<std::byte*>(to[i].at_least(lines * line_bytes));
                    std::memset(s.to[i], 0, wanted.size());
                }
                lines::choose<Isa>(s)(s, line_bytes, lines - 1);
                for (int i = 0; i < outputs; ++i) EXPECT_EQ(std::memcmp(s.to[i], wanted.data(), wanted.size()), 0);
            }
        }
    }
}

// A page that may not be read: were a line left out because nothing needs it, a reading would time nothing.
template <class Isa>
void expect_that_every_line_is_read() {
    GTEST_FLAG_SET(death_test_style, "threadsafe");  // where other tests have started the pool
    constexpr std::size_t page = 4096;
    void* const pages = mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(pages, MAP_FAILED);
    auto* const second = static_cast<std::byte*>(pages) + page;
    ASSERT_EQ(mprotect(second, page, PROT_NONE), 0);
    Streams s{1, 0, false, {second - 4 * line_bytes}, {}};
    lines::choose<Isa>(s)(s, 0, 4);
    EXPECT_EXIT(lines::choose<Isa>(s)(s, 0, 5), testing::KilledBySignal(SIGSEGV), "");
    munmap(pages, 2 * page);
}

TEST(Lines, OfSse) {
    expect_lines<lines::Sse>();
    expect_that_every_line_is_read<lines::Sse>();
}

TEST(Lines, OfAvx2) {
    if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "no AVX2 here";
    expect_lines<lines::Avx2>();
    expect_that_every_line_is_read<lines::Avx2>();
}

TEST(Lines, OfAvx512) {
    if (!__builtin_cpu_supports("avx512f")) GTEST_SKIP() << "no AVX-512 here";
    expect_lines<lines::Avx512>();
    expect_that_every_line_is_read<lines::Avx512>();
}

}  // namespace
}  // namespace fusebn::measure
