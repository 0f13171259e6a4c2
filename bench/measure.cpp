#include "measure.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "check.h"
#include "copy.h"
#include "onednn_contender.h"

namespace fusebn::bench {
namespace {

// Whether a peer computes what fusebn does. It is not its correctness that is in question, so a sample of y and a loose
// bound will do.
class Sample {
public:
    Sample(const float* y, std::int64_t elements) : elements_(elements) {
        for (std::int64_t i = 0; i < elements; i += step) values_.push_back(y[i]);
    }
    bool is_like(const float* y) const {
        for (std::int64_t i = 0; i < elements_; i += step) {
            // Negated, so that a NaN is not like anything.
            if (!(std::abs(y[i] - values_[static_cast<std::size_t>(i / step)]) <= 1e-3f)) return false;
        }
        return true;
    }

private:
    static constexpr std::int64_t step = 997;  // a prime: all channels and all places in a row
    std::int64_t elements_;
    std::vector<float> values_;
};

void add_peers(std::vector<Contender>& contenders, const LayerCase& c, const float* x, float* y,
               const BatchNormState& state, double eps, int threads, std::string& warning) {
    const Sample sample(y, c.elements());
    try {
        for (const Peer& peer : onednn_peers(c, x, y, state, eps, threads)) {
            peer.run();
            peer.fetch(y);
            if (sample.is_like(y)) {
                contenders.push_back({peer.name, peer.run});
            } else {
                warning = peer.name + " is left out: its result is another";
            }
        }
    } catch (const std::exception& e) {
        warning = std::string("oneDNN is left out: ") + e.what();
    }
}

}  // namespace

Outcome measure(const LayerCase& c, const Machine& machine, const Budget& budget, Workspace& workspace) {
    Outcome outcome;
    float* const x = workspace.x.at_least(c.elements());
    float* const y = workspace.y.at_least(c.elements());
    fill(c, x);

    // The whole table for a kernel with a shape of its own, so that the choice is tested too; a generic one alone,
    // since another might be preferred for the shape.
    fusebn_kernel_table alone = *c.table;
    alone.kernel_count = 1;
    alone.kernels = c.kernel;
    BatchNormOptions options;
    options.activation = c.activation();
    BatchNorm2d layer(static_cast<int>(c.C), c.fixed ? *c.table : alone, options);
    layer.train(c.op() == Op::train_forward);
    const BatchNormState state = random_state(c.C);
    Status status = layer.set_state(state);
    const ConstTensor from = tensor(static_cast<const float*>(x), c.layout, c.extents());
    const Tensor to = tensor(y, c.layout, c.extents());
    if (status.ok()) status = layer.forward(from, to);
    if (!status.ok()) {
        outcome.complaint = status.message();
        return outcome;
    }
    const std::string ran = BatchNorm::last_kernel();
    if (ran.substr(0, ran.find(' ')) != c.kernel->name) {
        outcome.complaint = "another kernel was chosen: " + ran;
        return outcome;
    }
    const Verdict verdict = check(c, x, y, layer, state);
    outcome.complaint = verdict.complaint;
    if (!outcome.complaint.empty() || !c.fixed) return outcome;

    std::vector<Contender> contenders;
    contenders.push_back({"fusebn", [&] {
                              if (const Status s = layer.forward(from, to); !s.ok()) {
                                  std::fprintf(stderr, "%s: %s\n", c.kernel->name, s.message().c_str());
                                  std::exit(1);
                              }
                          }});
    const bool in_cache = c.bytes() <= machine.l3;
    contenders.push_back({"copy", make_copy(in_cache ? Copy::plain : Copy::streaming, x, y, c.elements())});
    add_peers(contenders, c, x, y, state, options.eps, machine.threads, outcome.warning);
    outcome.row = Row{c, verdict.worst, in_cache, race(contenders, budget)};
    return outcome;
}

}  // namespace fusebn::bench
