#include "contest.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "cases.h"
#include "measure/check.h"
#include "measure/copy.h"
#include "onednn_contender.h"
#include "onednn_module.h"

namespace fusebn::bench {
namespace {

// Whether a peer computes what fusebn does. It is not its correctness that is in question, so a sample of y or dx and
// loose bounds will do.
class Sample {
public:
    Sample(const LayerCase& c, const Workload& workload)
        : case_(c), dgamma_(workload.layer().grad_gamma()), dbeta_(workload.layer().grad_beta()) {
        for (std::int64_t i = 0; i < c.elements(); i += step) {
            values_.push_back(oracle::element(workload.operands().out, c.dtype(), i));
        }
    }
    // Where the peer's result is another, or "".
    std::string difference(const void* out, const Peer& peer) const {
        const double unit = oracle::storage(case_.dtype()).unit;
        for (std::int64_t i = 0; i < case_.elements(); i += step) {
            const double wanted = values_[static_cast<std::size_t>(i / step)];
            const double got = oracle::element(out, case_.dtype(), i);
            // Two values that are nearly the same may be stored as neighbours, and sums of a channel in floats are off
            // by 1e-4 and more. `agrees` is false for a NaN.
            if (!oracle::agrees(got, wanted, 1e-3 + (1e-3 + 2 * unit) * std::abs(wanted))) {
                return text("element", i, got, wanted);
            }
        }
        const std::string dgamma = difference("dgamma of channel", peer.dgamma, dgamma_);
        return dgamma.empty() ? difference("dbeta of channel", peer.dbeta, dbeta_) : dgamma;
    }

private:
    static std::string text(const char* what, std::int64_t i, double got, double wanted) {
        return std::string(what) + " " + std::to_string(i) + " is " + std::to_string(got) + ", fusebn's " +
               std::to_string(wanted);
    }
    std::string difference(const char* what, const float* got, const std::vector<float>& wanted) const {
        if (got == nullptr) return "";
        // A sum of values around one, to which oneDNN's mean adds its own error once for each; and a ReLU may open on
        // the other side where its argument is next to zero, for an element or two.
        const auto count = static_cast<double>(case_.elements() / case_.C);
        const double elements = case_.activation() == Activation::none ? 0 : 32;
        for (std::size_t c = 0; c < wanted.size(); ++c) {
            const auto value = static_cast<double>(wanted[c]), peers = static_cast<double>(got[c]);
            if (!oracle::agrees(peers, value, elements + 1e-4 * (count + std::abs(value)))) {
                return text(what, static_cast<std::int64_t>(c), peers, value);
            }
        }
        return "";
    }

    static constexpr std::int64_t step = 997;  // a prime: all channels and all places in a row
    const LayerCase& case_;
    std::vector<double> values_;
    std::vector<float> dgamma_, dbeta_;
};

std::function<void()> both(const std::function<void()>& first, const std::function<void()>& second) {
    return [first, second] {
        first();
        second();
    };
}

// Those of one library, of which `find` makes a list. `sample` is of fusebn's results.
template <class Find>
void add_peers(std::vector<Contender>& contenders, const LayerCase& c, const Workload& workload, const Sample& sample,
               int threads, bool reader, const Find& find, std::string& warning) {
    void* const out = workload.operands().out;
    const auto warn = [&](const std::string& text) { warning += (warning.empty() ? "" : "; ") + text; };
    try {
        for (const Peer& peer :
             find(c, workload.operands(), workload.state(), workload.layer().options().eps, threads)) {
            peer.run();
            peer.fetch(out);
            const std::string difference = sample.difference(out, peer);
            if (!difference.empty()) {
                warn(peer.name + " is left out: " + difference);
            } else if (reader && !peer.read) {
                warn(peer.name + " is left out: a reader on its threads is not known");
            } else {
                contenders.push_back({peer.name, reader ? both(peer.run, peer.read) : peer.run});
            }
        }
    } catch (const std::exception& e) {
        warn(std::string("a oneDNN is left out: ") + e.what());
    }
}

// What a workload's last run has written, read by the layers' threads.
std::function<void()> reading(const LayerCase& c, const Operands& operands) {
    const std::function<void()> out = make_read(operands.out, c.tensor_bytes());
    return operands.addend_out == nullptr ? out : both(out, make_read(operands.addend_out, c.tensor_bytes()));
}

// Prepared and run once; empty, or what is wrong.
std::string first_run(const LayerCase& c, Workload& workload) {
    Status status = workload.prepare();
    if (status.ok()) status = workload.run();
    if (!status.ok()) return status.message();
    const std::string ran = BatchNorm::last_kernel();
    return ran.substr(0, ran.find(' ')) == c.kernel->name ? "" : "another kernel was chosen: " + ran;
}

}  // namespace

Outcome contest(const LayerCase& c, const Machine& machine, const Budget& budget, bool reader, Workspace& workspace,
                Workspace& twin_workspace) {
    Outcome outcome;
    Workload workload(c, workspace);
    outcome.complaint = first_run(c, workload);
    if (!outcome.complaint.empty()) return outcome;
    const Verdict verdict = check(c, workload);
    outcome.complaint = verdict.complaint;
    if (!outcome.complaint.empty() || !c.fixed) return outcome;

    const Sample sample(c, workload);  // before anything else writes where the results are
    std::vector<Contender> contenders;
    const auto then = [&](const std::function<void()>& run, const auto& make) {
        return reader ? both(run, make()) : run;
    };
    const auto results = [&] { return reading(c, workload.operands()); };
    contenders.push_back({"fusebn", then([&] { workload.run_or_exit(); }, results)});
    const bool in_cache = c.floor_bytes() <= machine.l3_usable;
    const std::int64_t half = c.floor_bytes() / 2;
    const std::int64_t limit = c.limit_bytes(machine.l3_usable), again = limit - c.floor_bytes();
    const void* const from = workspace.copy_from.at_least(std::max(half, again));
    void* const to = workspace.copy_to.at_least(half);
    const auto fastest = [](const auto& make) {
        const std::function<void()> plain = make(Copy::plain), streaming = make(Copy::streaming);
        const Copy stores = faster(plain, streaming);
        return std::pair(stores, stores == Copy::plain ? plain : streaming);
    };
    const auto [copy_stores, copy] = fastest(
        [&](Copy stores) { return then(make_copy(stores, from, to, half), [&] { return make_read(to, half); }); });
    contenders.push_back({"copy", copy});
    if (again > 0) contenders.push_back({"read", make_read(from, again)});
    if (c.op() != Op::inference) {
        const auto make = [&](Copy stores) {
            return then(make_passes(c, workload.operands(), stores, machine.l3_usable), results);
        };
        contenders.push_back({"passes", fastest(make).second});
    }
    std::optional<Workload> twin;
    if (const std::optional<LayerCase> f32 = f32_twin(c)) {
        twin.emplace(*f32, twin_workspace);
        if (const std::string complaint = first_run(*f32, *twin); complaint.empty()) {
            contenders.push_back(
                {"fusebn-f32", then([&] { twin->run_or_exit(); }, [&] { return reading(*f32, twin->operands()); })});
        } else {
            outcome.warning = "the f32 kernel is left out: " + complaint;
        }
    }
    add_peers(contenders, c, workload, sample, machine.threads, reader, onednn_peers, outcome.warning);
    add_peers(contenders, c, workload, sample, machine.threads, reader, loaded_onednn_peers, outcome.warning);
    outcome.row = Row{c, verdict.worst, limit, in_cache, copy_stores, race(contenders, budget)};
    return outcome;
}

}  // namespace fusebn::bench
