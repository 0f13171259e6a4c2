// What a row of a table computes, and inputs for it.
#pragma once

#include <string>
#include <vector>

#include "fusebn/batch_norm.h"
#include "kernels/elements.h"
#include "oracle/oracle.h"

namespace kernels {

struct Case {
    fusebn::Op op;
    fusebn::View view;
    fusebn::DataType dtype;
    fusebn::Activation activation;
    fusebn::Residual residual;
    std::int64_t outer, channels, inner;

    std::size_t elements() const { return static_cast<std::size_t>(outer * channels * inner); }
    std::size_t features() const { return static_cast<std::size_t>(channels); }
    std::size_t channel_of(std::size_t i) const { return i / static_cast<std::size_t>(inner) % features(); }
    bool has_two_branches() const { return residual == fusebn::Residual::batch_norm; }
    bool has_mask() const { return fusebn::saves_mask(activation, residual); }
};
std::string name(const Case& c);

// The rows of a table that have fixed extents.
std::vector<Case> cases(const fusebn::KernelTable& table);
// Whether a table has a row, a generic one at least, for all that running the case takes.
bool has_kernels_for(const fusebn::KernelTable& table, const Case& c);

// What x looks like: how many of its standard deviations its mean is from zero. uneven: every chunk's first step, which
// the pivot is made of, is far from all the rest of it. drifting: so is every chunk from the one before it.
enum class Data { ordinary, mean_1e2, mean_1e4, mean_1e6, constant, uneven, drifting };
const char* name(Data data);
// What a type can hold: 16 bits have no room for a spread beside a mean 1e4 times as large.
std::vector<Data> data_of(fusebn::DataType dtype);

struct Parameters {
    std::vector<float> gamma, beta, running_mean, running_var;
};
constexpr float slope = 0.3f;

struct Inputs {
    Elements x, dy;
    Elements addend;  // what is added, or the second branch's x
    Parameters p, p2;
};
Inputs random_inputs(const Case& c, Data data, unsigned seed = 1);

oracle::Tensor oracle_view(const Case& c, const Elements& values);
// `inputs` must outlive it.
oracle::Call oracle_call(const Case& c, const Inputs& inputs, bool batch_statistics);

}  // namespace kernels
