// One call of a generated library on data of a kind, with all that it leaves behind.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fusebn/batch_norm.h"
#include "oracle/oracle.h"

namespace kernels {

// What a row of a table computes.
struct Case {
    fusebn::Op op;
    fusebn::View view;
    fusebn::Activation activation;
    std::int64_t outer, channels, inner;
    std::size_t elements() const { return static_cast<std::size_t>(outer * channels * inner); }
    std::size_t features() const { return static_cast<std::size_t>(channels); }
};
std::string name(const Case& c);

// The rows of a table that have fixed extents.
std::vector<Case> cases(const fusebn::KernelTable& table);

// `offset` channels' worth of mean: what x looks like.
enum class Data { ordinary, mean_1e4, mean_1e6, constant };
std::vector<float> random_x(const Case& c, Data data, unsigned seed = 1);

struct Parameters {
    std::vector<float> gamma, beta, running_mean, running_var;
    oracle::Parameters view(fusebn::Activation activation) const;
};
Parameters random_parameters(const Case& c);

// How a call is made. Gaps are elements between channels (planar) and between samples or rows beyond the dense stride.
struct How {
    fusebn::InstructionSet isa = fusebn::instruction_set();
    int threads = 2;
    bool in_place = false;
    int channel_gap = 0, outer_gap = 0;
    int y_offset = 0;  // elements by which y lies beside a 64-byte line
};

struct Result {
    std::vector<float> y;  // dense
    std::vector<float> mean, inv_std, running_mean, running_var;
    std::string kernel;          // last_kernel()
    bool rest_untouched = true;  // nothing was written beside y: before, after, in its gaps
};

// Fails the test when the call is refused.
Result run(const fusebn::KernelTable& table, const Case& c, const std::vector<float>& x, const Parameters& p,
           const How& how = {});

// Whether two results are the same to the last bit (NaNs by their bits too); "" or what differs first.
std::string difference(const Result& a, const Result& b);

// All that this machine runs.
std::vector<fusebn::InstructionSet> instruction_sets_here();

oracle::Tensor oracle_view(const Case& c, const std::vector<float>& x);

}  // namespace kernels
