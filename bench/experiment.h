// A layer whose mean is far from zero, trained once by fusebn and by oneDNN, and how far a result is from the oracle.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "measure/workload.h"
#include "onednn_contender.h"

namespace fusebn::bench {

using namespace measure;

// What a table's row is about. Each error is the largest of all elements or channels, in a unit that does not depend on
// the data's scale:
//   var      its own true value
//   y        |gamma|: a standard deviation of y
//   dx       |gamma| * inv_std: what a dy of 1 makes
//   dgamma   sum |dy * xhat|         dbeta   sum |dy|
inline constexpr const char* value_names[] = {"var", "y", "dx", "dgamma", "dbeta"};
using Errors = std::map<std::string, double>;

// One layer's results. Tensors are f32 in the case's layout.
struct Results {
    std::vector<double> var, dgamma, dbeta;
    std::vector<float> y, dx;
};

// What is summed over is 25088 values a channel.
inline constexpr std::int64_t experiment_extents[] = {8, 16, 56, 56};  // N, C, H, W

class Experiment {
public:
    // Every channel's mean is `ratio` of its standard deviations, which are 0.5 to 2. dy has a mean, too.
    Experiment(Layout layout, double ratio);

    // Of "fusebn" and, where it is there, "onednn" and "onednn-blocked".
    std::map<std::string, Results> run();
    Errors errors_of(const Results& results) const;

    const LayerCase& layer_case() const { return forward_case_; }
    const Operands& operands() const { return backward_.operands(); }
    const BatchNormState& state() const { return forward_.state(); }
    double eps() const { return forward_.layer().options().eps; }

private:
    oracle::Call call() const;
    Results ours();

    LayerCase forward_case_, backward_case_;
    Workspace forward_space_, backward_space_;
    Workload forward_, backward_;
};

}  // namespace fusebn::bench
