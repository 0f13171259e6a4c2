// One call of a generated library, with all that it leaves behind.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/case.h"

namespace kernels {

// Where an output lies: in memory of its own, or exactly on an input.
enum class Place { apart, x, dy, addend };

// How a call is made. All tensors have the same strides; gaps are elements between channels (planar) and between
// samples or rows beyond the dense ones.
struct How {
    fusebn::InstructionSet isa = fusebn::instruction_set();  // on the CPU
    fusebn::Device device = {};
    int threads = 2;
    Place out = Place::apart;         // y, dx
    Place addend_out = Place::apart;  // dresidual, dx2
    int channel_gap = 0, outer_gap = 0;
    bool room_behind = true;       // false: a tensor's memory ends with its last element
    int offset = 0;                // elements by which tensors lie beside a 64-byte line
    bool frozen = false;           // backward: by the running statistics, as constants
    bool without_tensors = false;  // backward: the parameters' gradients alone
};

struct Result {
    std::vector<Elements> tensors;  // dense: y; dx [and dresidual or dx2]
    std::vector<double> mean, inv_std, mean2, inv_std2;
    std::vector<float> running_mean, running_var, running_mean2, running_var2;
    std::vector<float> dgamma, dbeta, dgamma2, dbeta2;
    std::size_t saved_bytes = 0;
    std::string kernel;          // last_kernel()
    bool rest_untouched = true;  // nothing was written but the outputs: not before, after, in their gaps, or to inputs
};

// Fails the test when a call is refused. backward: of a forward call by the same table, which comes first.
Result run(const fusebn::KernelTable& table, const Case& c, const Inputs& inputs, const How& how = {});

// Whether the kernel's variant is for this instruction set, for any processor or one.
bool ran_on(const Result& result, fusebn::InstructionSet isa);

// Whether two results are the same to the last bit (NaNs by their bits too); "" or what differs first.
std::string difference(const Result& a, const Result& b);

// All that this machine runs.
std::vector<fusebn::InstructionSet> instruction_sets_here();

// Adds a test failure for every number of `result` that the oracle does not agree with (the first few of a tensor).
void expect_oracle(const Case& c, const Inputs& inputs, const Result& result, bool frozen = false);

}  // namespace kernels
