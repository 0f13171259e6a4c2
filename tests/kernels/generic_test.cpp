// Every kind of kernel (operation, view, type, activation, residual), on the generic kernel and every instruction set,
// against the oracle: extents, strides, threads and places drawn at random. FUSEBN_TEST_SEED sets the seed, which a
// failure prints.

#include <kernels_generic.h>

#include <cstdlib>
#include <random>

#include "kernels/run.h"

using namespace fusebn;
using namespace kernels;

namespace {

unsigned seed_of_tests() {
    const char* given = std::getenv("FUSEBN_TEST_SEED");
    return given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : 20150211u;
}

struct Kind {
    View view;
    DataType dtype;
    Activation activation;
    Residual residual;
};
const std::vector<Kind>& kinds() {
    static const std::vector<Kind> all = [] {
        std::vector<Kind> of;
        const KernelTable& table = kernels_generic::kernels();
        for (int i = 0; i < table.kernel_count; ++i) {
            const fusebn_kernel& k = table.kernels[i];
            if (k.op != FUSEBN_OP_BACKWARD) continue;
            of.push_back({static_cast<View>(k.view), static_cast<DataType>(k.dtype),
                          static_cast<Activation>(k.activation), static_cast<Residual>(k.residual)});
        }
        return of;
    }();
    return all;
}

class Draw {
public:
    explicit Draw(unsigned seed) : random_(seed) {}
    std::int64_t from(std::int64_t least, std::int64_t most) {
        return std::uniform_int_distribution<std::int64_t>(least, most)(random_);
    }
    template <class T>
    T one_of(std::initializer_list<T> values) {
        return values.begin()[from(0, static_cast<std::int64_t>(values.size()) - 1)];
    }

    // Around vectors, steps, chunks and rows of several of each; two values a channel at least, and few enough for the
    // oracle.
    Case case_of(Op op, const Kind& kind) {
        Case c{op, kind.view, kind.dtype, kind.activation, kind.residual, 1, 1, 1};
        do {
            c.channels = one_of({from(1, 5), from(6, 40), from(60, 70)});
            if (c.view == View::planar) {
                c.outer = one_of({from(1, 3), from(4, 40)});
                c.inner = one_of({from(1, 20), from(21, 300), from(2000, 2200), from(4000, 4200)});
            } else {
                c.outer = one_of({from(2, 10), from(50, 140), from(1000, 1100)});
            }
        } while (c.outer * c.inner < 2 || c.elements() > 30000);
        return c;
    }

    How how_of(const Case& c, InstructionSet isa) {
        How how;
        how.isa = isa;
        how.threads = static_cast<int>(from(1, 3));
        if (from(0, 2) == 0) {
            how.outer_gap = static_cast<int>(from(1, 40));
            how.channel_gap = static_cast<int>(from(0, 20));
            how.offset = static_cast<int>(from(0, 15));
        }
        if (c.op == Op::backward) {
            how.frozen = from(0, 3) == 0;
            how.without_tensors = from(0, 7) == 0;
            how.out = one_of({Place::apart, Place::x, Place::dy});
            if (c.residual != Residual::none) {
                how.addend_out = one_of({Place::apart, how.out == Place::dy ? Place::x : Place::dy, Place::addend});
            }
        } else {
            how.out = one_of({Place::apart, Place::x});
            if (c.residual == Residual::add && from(0, 2) == 0) how.out = Place::addend;
        }
        return how;
    }

private:
    std::mt19937 random_;
};

using Generic = testing::TestWithParam<std::size_t>;

TEST_P(Generic, IsWithinTheDerivedBoundsForRandomExtentsAndCalls) {
    const unsigned seed = seed_of_tests();
    SCOPED_TRACE("FUSEBN_TEST_SEED=" + std::to_string(seed));
    Draw draw(seed + static_cast<unsigned>(GetParam()));
    for (Op op : {Op::inference, Op::train_forward, Op::backward}) {
        for (Data data : data_of(kinds()[GetParam()].dtype)) {
            const Case c = draw.case_of(op, kinds()[GetParam()]);
            SCOPED_TRACE(name(c) + " of " + name(data));
            const Inputs inputs = random_inputs(c, data, seed);
            for (InstructionSet isa : instruction_sets_here()) {
                const How how = draw.how_of(c, isa);
                const Result result = run(kernels_generic::kernels(), c, inputs, how);
                SCOPED_TRACE(result.kernel);
                EXPECT_NE(result.kernel.find("any"), std::string::npos);
                EXPECT_TRUE(ran_on(result, isa));
                expect_oracle(c, inputs, result, how.frozen);
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Generic, testing::Range<std::size_t>(0, kinds().size()), [](const auto& test) {
    const Kind& k = kinds()[test.param];
    std::string text;
    for (std::string_view part :
         {to_string(k.view), to_string(k.dtype), to_string(k.residual), to_string(k.activation)}) {
        text += (text.empty() ? "" : "_") + std::string(part);
    }
    return text;
});

// The whole table is walked: a kind that is missing in generic.toml would not be noticed otherwise.
TEST(Generic, LibraryHasEveryActivationWithEveryResidual) {
    for (const auto& activation : activation_names) {
        for (const auto& residual : residual_names) {
            for (Op op : {Op::inference, Op::train_forward, Op::backward}) {
                const Case c{op, View::interleaved, DataType::f32, activation.value, residual.value, 2, 3, 1};
                EXPECT_TRUE(has_kernels_for(kernels_generic::kernels(), c)) << name(c);
            }
        }
    }
}

}  // namespace
