// A library of kernels written by hand, as plain loops in double, and an oracle for what a layer does with them.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "fusebn/batch_norm.h"

namespace fusebn::test {

// What the fake kernels saw in this thread's last run.
struct FakeRun {
    int runs = 0;
    bool unaligned_entry = false;
    double momentum = -1;
    std::int32_t ddof = -1;
    std::vector<std::int32_t> extents, strides;  // of y, as the kernel was given them
};
extern thread_local FakeRun fake_run;

enum class Kind {
    working,
    no_op,          // writes nothing
    out_of_memory,  // writes the running statistics, then says that it has no memory
};

struct FakeVariant {
    InstructionSet isa = InstructionSet::x86_64;
    int y_alignment = 4;
    bool has_unaligned = false;
    Kind kind = Kind::working;
};

class FakeLibrary {
public:
    // A row; extents as in fusebn_kernel: n, c, s or r, c, 1.
    FakeLibrary& add(Op op, View view, std::vector<std::int32_t> extents, std::vector<FakeVariant> variants = {{}},
                     Activation activation = Activation::none, bool large = false);
    // Generic rows for both operations and views.
    FakeLibrary& add_generic(Activation activation = Activation::none, std::vector<FakeVariant> variants = {{}});
    const KernelTable& table();
    fusebn_kernel& row(int i) { return rows_[static_cast<std::size_t>(i)]; }

private:
    std::deque<std::string> names_;
    std::deque<std::vector<fusebn_variant>> variants_;
    std::vector<fusebn_kernel> rows_;
    KernelTable table_{};
};

// A library of generic kernels.
FakeLibrary generic_library(Activation activation = Activation::none, std::vector<FakeVariant> variants = {{}});

// x[i] = mean + noise, without a library's generator, so that a test is the same everywhere.
std::vector<float> noise(std::size_t size, float mean = 0.0f, std::uint32_t seed = 1);

struct Statistics {
    std::vector<double> mean, var;  // var biased
    double count = 0;
};
// Over all axes but the channels', of a dense tensor.
Statistics statistics(const std::vector<float>& x, Layout layout, const Extents& extents);
std::vector<float> normalised(const std::vector<float>& x, Layout layout, const Extents& extents, const Statistics& s,
                              const std::vector<float>& gamma, const std::vector<float>& beta, double eps, bool relu);

void expect_near(const std::vector<float>& actual, const std::vector<float>& expected, double tolerance = 1e-5);

}  // namespace fusebn::test
