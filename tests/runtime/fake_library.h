// A library of kernels written by hand, as plain loops in double, that note what they were given; and oracles for what
// a layer does with them.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "fusebn/batch_norm.h"

namespace fusebn::test {

// An argument as a kernel was given it.
struct FakeArgument {
    const char* name = "";       // as in kernel_abi.h
    const void* data = nullptr;  // of a buffer: its place; of a scalar: its address
    bool on_device = false;      // of a buffer
    double value = 0;            // of a scalar
    int type_code = 0, type_bits = 0, dimensions = 0;
    std::int32_t extent[3] = {}, stride[3] = {};

    std::vector<std::int32_t> extents() const { return {extent, extent + dimensions}; }
    std::vector<std::int32_t> strides() const { return {stride, stride + dimensions}; }
    std::string type() const { return std::to_string(type_code) + ":" + std::to_string(type_bits); }
};

// What the fake kernels saw in this thread's last run. Fixed in size: noting it allocates nothing.
struct FakeRun {
    int runs = 0;
    bool unaligned_entry = false;
    int count = 0;
    FakeArgument arguments[32];

    bool has(const std::string& name) const;
    const FakeArgument& operator[](const std::string& name) const;  // fails the test where there is none
    std::string names() const;                                      // "x gamma beta ..", in their order
};
extern thread_local FakeRun fake_run;

enum class Kind {
    working,
    no_op,          // writes nothing
    out_of_memory,  // writes the results of a channel, then says that it has no memory
    stops,          // writes those and the mask, then fails with a code of its own
};

struct FakeVariant {
    InstructionSet isa = InstructionSet::x86_64;
    int y_alignment = 4;
    bool has_unaligned = false;
    Kind kind = Kind::working;
    const char* processor = nullptr;
    bool dense = false;
};

// What a row is for, but for its extents.
struct FakeRow {
    Op op = Op::inference;
    View view = View::planar;
    Activation activation = Activation::none;
    Residual residual = Residual::none;
    DataType dtype = DataType::f32;
    bool large = false;
};

class FakeLibrary {
public:
    // Extents as in fusebn_kernel: n, c, s or r, c, 1.
    FakeLibrary& add(const FakeRow& row, std::vector<std::int32_t> extents, std::vector<FakeVariant> variants = {{}});
    FakeLibrary& add(Op op, View view, std::vector<std::int32_t> extents, std::vector<FakeVariant> variants = {{}},
                     Activation activation = Activation::none, bool large = false) {
        return add({op, view, activation, Residual::none, DataType::f32, large}, std::move(extents),
                   std::move(variants));
    }
    // Generic rows for all operations, both views and all residuals.
    FakeLibrary& add_generic(Activation activation = Activation::none, std::vector<FakeVariant> variants = {{}},
                             DataType dtype = DataType::f32);
    const KernelTable& table();
    fusebn_kernel& row(int i) { return rows_[static_cast<std::size_t>(i)]; }

private:
    std::deque<std::string> names_;
    std::deque<std::vector<fusebn_variant>> variants_;
    std::vector<fusebn_kernel> rows_;
    KernelTable table_{};
};

// A library of generic kernels.
FakeLibrary generic_library(Activation activation = Activation::none, std::vector<FakeVariant> variants = {{}},
                            DataType dtype = DataType::f32);

double activate(Activation activation, double v, double slope);

// x[i] = mean + noise, without a library's generator, so that a test is the same everywhere.
std::vector<float> noise(std::size_t size, float mean = 0.0f, std::uint32_t seed = 1);

std::size_t size_of(const Extents& extents);
// Of the element at `i` of a dense tensor.
std::size_t channel_of(std::size_t i, Layout layout, const Extents& extents);

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
