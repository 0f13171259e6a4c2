// The bit an element that training keeps where backward is not given the residual.

#include <kernels_generic.h>
#include <kernels_plain.h>
#include <kernels_split.h>
#include <kernels_stream.h>

#include <cstring>
#include <tuple>

#include "kernels/direct.h"
#include "kernels/run.h"

using namespace fusebn;
using namespace kernels;

namespace {

// What y, before it is rounded to 16 bits, says of what passed.
bool passed(Activation activation, double y) { return activation == Activation::relu6 ? y > 0 && y < 6 : y > 0; }

const KernelTable* const tables[] = {&kernels_plain::kernels(), &kernels_split::kernels(), &kernels_stream::kernels(),
                                     &kernels_generic::kernels()};

// Every row that writes a mask, on every instruction set: bit by bit, up to the row's extent. What lies behind in the
// row's last word means nothing; what lies behind that is not touched.
TEST(Mask, SaysWhatPassedInEveryKernelThatWritesIt) {
    int count = 0;
    for (const KernelTable* table : tables) {
        for (int k = 0; k < table->kernel_count; ++k) {
            const fusebn_kernel& row = table->kernels[k];
            if (row.op != FUSEBN_OP_TRAIN_FORWARD || !FUSEBN_SAVES_MASK(row.activation, row.residual)) continue;
            const bool planar = row.view == FUSEBN_VIEW_PLANAR;
            const auto extent = [&](int axis, std::int64_t otherwise) {
                return row.extents[axis] == FUSEBN_ANY ? otherwise : std::int64_t{row.extents[axis]};
            };
            const Case c{Op::train_forward,
                         static_cast<View>(row.view),
                         static_cast<DataType>(row.dtype),
                         static_cast<Activation>(row.activation),
                         Residual::add,
                         extent(0, planar ? 3 : 131),
                         extent(1, planar ? 5 : 77),
                         planar ? extent(2, 101) : 1};
            const Inputs inputs = random_inputs(c, Data::ordinary);
            // From f32: what is rounded to 16 bits may be rounded onto a kink.
            const oracle::Call call = oracle_call(c, inputs, true);
            const oracle::Channels channels = oracle::channels_of(call);
            for (InstructionSet isa : instruction_sets_here()) {
                SCOPED_TRACE(std::string(row.name) + " " + std::string(to_string(isa)));
                const Direct result = train_forward_add(row, isa, c, inputs);
                ASSERT_EQ(result.code, 0);
                EXPECT_TRUE(result.rest_of_mask_untouched);
                ++count;
                std::size_t i = 0, wrong = 0;
                oracle::for_each_element(call.x, [&](std::int64_t o, std::int64_t ch, std::int64_t s) {
                    const bool from_y = passed(c.activation, result.y.value(i));
                    const double v = oracle::before_activation(call, channels, o, ch, s);
                    const bool at_kink = c.dtype != DataType::f32 && from_y != passed(c.activation, v);
                    if (!at_kink) wrong += result.bit(o, ch, s) != from_y;
                    ++i;
                });
                EXPECT_EQ(wrong, 0u);
            }
        }
    }
    EXPECT_GT(count, 40);
}

// A residual of zeros changes no bit of v, so the gradient from the mask must be that of the kernel that has none and
// makes v again.
TEST(Mask, GivesTheGradientOfTheValueItStandsFor) {
    for (Activation activation : {Activation::relu, Activation::relu6, Activation::leaky_relu}) {
        for (const auto& [outer, channels, inner] :
             {std::tuple(3, 5, 101), std::tuple(33, 7, 1), std::tuple(70, 100, 1)}) {
            const View view = inner == 1 ? View::interleaved : View::planar;
            Case c{Op::backward, view, DataType::f32, activation, Residual::add, outer, channels, inner};
            if (!has_kernels_for(kernels_generic::kernels(), c)) continue;
            Case alone = c;
            alone.residual = Residual::none;
            if (!has_kernels_for(kernels_generic::kernels(), alone)) continue;
            Inputs inputs = random_inputs(c, Data::ordinary);
            for (std::size_t i = 0; i < inputs.addend.size(); ++i) inputs.addend.set(i, 0.f);
            for (bool frozen : {false, true}) {
                const Result wanted = run(kernels_generic::kernels(), alone, inputs, {.frozen = frozen});
                Result result = run(kernels_generic::kernels(), c, inputs, {.frozen = frozen});
                const Elements dresidual = result.tensors.at(1);
                result.tensors.pop_back();
                EXPECT_EQ(difference(wanted, result), "") << result.kernel << " frozen " << frozen;
                // And what passes it by is dy itself, or none of it.
                for (std::size_t i = 0; i < dresidual.size(); ++i) {
                    const std::uint32_t bits = dresidual.bits(i);
                    const float slow = static_cast<float>(inputs.dy.value(i)) * slope;
                    std::uint32_t stopped = 0;
                    if (activation == Activation::leaky_relu) std::memcpy(&stopped, &slow, sizeof stopped);
                    ASSERT_TRUE(bits == inputs.dy.bits(i) || bits == stopped) << i;
                }
            }
        }
    }
}

// 16 bytes a channel, and a bit an element in rows of whole 32-bit words where there is a mask.
TEST(Mask, IsAllThatIsKeptBesideTheStatistics) {
    for (const Case& kernel : cases(kernels_plain::kernels())) {
        if (kernel.op != Op::train_forward) continue;
        const std::int64_t row = kernel.view == View::planar ? kernel.inner : kernel.channels;
        const std::int64_t rows = kernel.outer * (kernel.view == View::planar ? kernel.channels : 1);
        const std::int64_t mask = kernel.has_mask() ? rows * ((row + 31) / 32 * 4) : 0;
        EXPECT_EQ(run(kernels_plain::kernels(), kernel, random_inputs(kernel, Data::ordinary)).saved_bytes,
                  static_cast<std::size_t>(16 * kernel.channels + mask))
            << name(kernel);
    }
}

}  // namespace
