// Tensors of 16 bits: kernels compute as they do for f32, and round on store as fusebn::to_bfloat16 and to_float16 do.

#include <kernels_generic.h>
#include <kernels_wide.h>

#include <cmath>
#include <cstring>
#include <random>

#include "kernels/run.h"

using namespace fusebn;
using namespace kernels;

namespace {

constexpr DataType halves[] = {DataType::bf16, DataType::f16};

Elements converted(const Elements& from, DataType dtype) {
    Elements to(dtype, from.size());
    for (std::size_t i = 0; i < from.size(); ++i) to.set(i, static_cast<float>(from.value(i)));
    return to;
}

float float_of(std::uint32_t bits) {
    float value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

std::uint32_t rounded(DataType dtype, std::uint32_t f32) {
    return dtype == DataType::bf16 ? to_bfloat16(float_of(f32)).bits : to_float16(float_of(f32)).bits;
}

TEST(Rounding, IsThatOfTheF32KernelsResult) {
    int count = 0;
    for (DataType dtype : halves) {
        for (const auto& activation : activation_names) {
            for (const auto& residual : residual_names) {
                for (View view : {View::planar, View::interleaved}) {
                    for (Op op : {Op::inference, Op::train_forward, Op::backward}) {
                        const bool planar = view == View::planar;
                        const Case half{op,
                                        view,
                                        dtype,
                                        activation.value,
                                        residual.value,
                                        planar ? 5 : 150,
                                        planar ? 7 : 37,
                                        planar ? 333 : 1};
                        Case single = half;
                        single.dtype = DataType::f32;
                        if (!has_kernels_for(kernels_generic::kernels(), half) ||
                            !has_kernels_for(kernels_generic::kernels(), single)) {
                            continue;
                        }
                        ++count;
                        const Inputs in16 = random_inputs(half, Data::ordinary);
                        Inputs in32 = in16;
                        for (auto tensor : {&Inputs::x, &Inputs::dy, &Inputs::addend}) {
                            in32.*tensor = converted(in16.*tensor, DataType::f32);
                        }
                        Result wanted = run(kernels_generic::kernels(), single, in32);
                        for (Elements& t : wanted.tensors) {
                            Elements of16(dtype, t.size());
                            for (std::size_t i = 0; i < t.size(); ++i) of16.set_bits(i, rounded(dtype, t.bits(i)));
                            t = of16;
                        }
                        for (InstructionSet isa : instruction_sets_here()) {
                            const Result result = run(kernels_generic::kernels(), half, in16, {.isa = isa});
                            EXPECT_EQ(difference(wanted, result), "") << result.kernel;
                        }
                    }
                }
            }
        }
    }
    EXPECT_GE(count, 6 * 3);
}

// Ties, the ends of the range, subnormals, NaNs with payloads, and any bits at all. x = 0 makes y = beta.
std::vector<std::uint32_t> patterns() {
    std::vector<std::uint32_t> all;
    for (std::uint32_t sign : {0u, 0x80000000u}) {
        for (std::uint32_t exponent :
             {0u, 1u, 100u, 102u, 103u, 110u, 112u, 113u, 114u, 127u, 141u, 142u, 143u, 253u, 254u, 255u}) {
            // About the last bit that either type keeps, and half of it.
            for (std::uint32_t high : {0u, 1u, 2u, 3u, 0x7eu, 0x7fu}) {
                for (std::uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu, 0x0fffu, 0x1000u, 0x1001u,
                                          0x1fffu, 0x2fffu, 0x3000u, 0x3001u}) {
                    all.push_back(sign | exponent << 23 | high << 16 | low);
                }
            }
        }
    }
    std::mt19937 random(3);
    for (int i = 0; i < 20000; ++i) all.push_back(static_cast<std::uint32_t>(random()));
    return all;
}

TEST(Rounding, OfTiesEndsAndNaNs) {
    const std::vector<std::uint32_t> betas = patterns();
    const auto channels = static_cast<std::int64_t>(betas.size());
    const Case single{
        Op::inference, View::interleaved, DataType::f32, Activation::none, Residual::none, 1, channels, 1};
    Inputs in = random_inputs(single, Data::ordinary);
    in.x = Elements(DataType::f32, in.x.size());
    in.p.gamma.assign(betas.size(), 1.f);
    in.p.running_mean.assign(betas.size(), 0.f);
    in.p.running_var.assign(betas.size(), 1.f);
    std::memcpy(in.p.beta.data(), betas.data(), betas.size() * sizeof(float));
    const Result f32 = run(kernels_generic::kernels(), single, in);
    for (std::size_t i = 0; i < betas.size(); ++i) {
        constexpr std::uint32_t nan = 0x7fc00000;  // whatever the payload
        const std::uint32_t got = f32.tensors[0].bits(i);
        const bool zero = (betas[i] & 0x7fffffff) == 0;  // 0 + -0 is 0
        const std::uint32_t wanted = zero ? 0 : std::isnan(float_of(betas[i])) ? nan : betas[i];
        ASSERT_EQ(got, wanted) << "the test rests on y being beta";
    }
    for (DataType dtype : halves) {
        Case half = single;
        half.dtype = dtype;
        Inputs in16 = in;
        in16.x = Elements(dtype, in.x.size());
        for (InstructionSet isa : instruction_sets_here()) {
            const Result result = run(kernels_generic::kernels(), half, in16, {.isa = isa});
            for (std::size_t i = 0; i < betas.size(); ++i) {
                ASSERT_EQ(result.tensors[0].bits(i), rounded(dtype, f32.tensors[0].bits(i)))
                    << result.kernel << " of " << std::hex << f32.tensors[0].bits(i);
            }
        }
    }
}

// Every value of a type, subnormals too, is loaded as it is.
TEST(Rounding, LoadsEveryValueExactly) {
    constexpr std::int64_t values = 1 << 16;
    for (DataType dtype : halves) {
        const Case half{Op::inference, View::interleaved, dtype, Activation::none, Residual::none, values / 64, 64, 1};
        Inputs in16 = random_inputs(half, Data::ordinary);
        for (std::size_t i = 0; i < in16.x.size(); ++i) in16.x.set_bits(i, static_cast<std::uint32_t>(i));
        Case single = half;
        single.dtype = DataType::f32;
        Inputs in32 = in16;
        in32.x = converted(in16.x, DataType::f32);
        const Result f32 = run(kernels_generic::kernels(), single, in32);
        for (InstructionSet isa : instruction_sets_here()) {
            const Result result = run(kernels_generic::kernels(), half, in16, {.isa = isa});
            for (std::size_t i = 0; i < in16.x.size(); ++i) {
                const std::uint32_t got = result.tensors[0].bits(i), wanted = rounded(dtype, f32.tensors[0].bits(i));
                // A NaN meets nothing but numbers on its way: it is stored as it came, made quiet.
                const std::uint32_t quiet = dtype == DataType::bf16 ? 0x0040 : 0x0200;
                const bool nan = std::isnan(f32.tensors[0].value(i));
                ASSERT_EQ(got, nan ? in16.x.bits(i) | quiet : wanted) << result.kernel << " of " << std::hex << i;
            }
        }
    }
}

// In turns of several registers, which are widened, made a ReLU of and narrowed in other instructions: of every value,
// a NaN and -0 among them.
TEST(Rounding, OfAReluInWideTurns) {
    constexpr std::int64_t rows = 1024, channels = 64;
    for (DataType dtype : halves) {
        const Case half{Op::inference, View::interleaved, dtype, Activation::relu, Residual::none, rows, channels, 1};
        Case single = half;
        single.dtype = DataType::f32;
        Inputs in16 = random_inputs(half, Data::ordinary);
        for (std::size_t i = 0; i < in16.x.size(); ++i) in16.x.set_bits(i, static_cast<std::uint32_t>(i));
        for (std::size_t c = 0; c < channels; c += 2) {  // y has the sign of its zero
            in16.p.running_mean[c] = 0;
            in16.p.beta[c] = -0.f;
        }
        Inputs in32 = in16;
        in32.x = converted(in16.x, DataType::f32);
        const Result f32 = run(kernels_wide::kernels(), single, in32);
        std::size_t nans = 0, negative_zeros = 0;
        for (InstructionSet isa : instruction_sets_here()) {
            const Result result = run(kernels_wide::kernels(), half, in16, {.isa = isa});
            ASSERT_NE(result.kernel.find("_r1024_c64_"), std::string::npos) << result.kernel;
            for (std::size_t i = 0; i < in16.x.size(); ++i) {
                if (std::isnan(f32.tensors[0].value(i))) {
                    ASSERT_TRUE(std::isnan(result.tensors[0].value(i))) << result.kernel << " of " << std::hex << i;
                    ++nans;
                    continue;
                }
                const std::uint32_t got = result.tensors[0].bits(i);
                ASSERT_EQ(got, rounded(dtype, f32.tensors[0].bits(i))) << result.kernel << " of " << std::hex << i;
                negative_zeros += got == 0x8000;
            }
        }
        EXPECT_GT(nans, 0u);
        EXPECT_GT(negative_zeros, 0u);
    }
}

}  // namespace
