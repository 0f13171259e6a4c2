// What a layer says of its own use; see Diagnostics. None of it runs where nobody listens.
#include <algorithm>
#include <cmath>

#include "layer.h"
#include "text.h"

namespace fusebn {

using namespace detail;

namespace {

constexpr std::int64_t first_batch_for_drift = 10;

}  // namespace

Status detail::check_diagnostics(const Diagnostics& diagnostics) {
    if (diagnostics.min_values < 0) {
        return Status(ErrorCode::invalid_argument, sentence("diagnostics.min_values: it is ", diagnostics.min_values,
                                                            "; expected a number of values, at least 0"));
    }
    // Nothing is at most NaN: every batch would be reported.
    if (!(diagnostics.max_drift_sigmas >= 0)) {
        return Status(ErrorCode::invalid_argument,
                      sentence("diagnostics.max_drift_sigmas: it is ", exact(diagnostics.max_drift_sigmas),
                               "; expected a number of at least 0, such as 3, or infinity"));
    }
    return Status();
}

void BatchNorm::Impl::diagnose(const BatchNorm& layer) {
    if (!diagnostics.report) return;
    if (!by_batch()) return diagnose_evaluation(layer);
    if (!training) return;
    const std::int64_t values = last.shape.outer * last.shape.inner;
    if (values < diagnostics.min_values) {
        diagnostics.report({Diagnostic::Kind::few_values,
                            sentence("batch: it has ", values, " values per channel (", to_string(last.shape.view), " ",
                                     extents_text(last.shape), "), and statistics of fewer than ",
                                     diagnostics.min_values, " are noisy; take larger batches, or freeze_statistics()"),
                            &layer});
    }
    if (options.track_running_stats) diagnose_drift(layer);
}

// From evaluation mode several threads may come at once; one of them reports.
void BatchNorm::Impl::diagnose_evaluation(const BatchNorm& layer) {
    if (state_is_known || reported_eval.test_and_set(std::memory_order_relaxed)) return;
    diagnostics.report(
        {Diagnostic::Kind::eval_before_training,
         sentence("running statistics: they are used (", training ? "frozen" : "evaluation mode",
                  ") as they were at the start, mean 0 and variance 1, as no training batch was seen and "
                  "no state set or loaded; train first, or load()"),
         &layer});
}

// Finds the channel that is farthest off. Before the update, which would draw the running statistics near to the
// batch's of itself: with a momentum of 0.1 no standard deviation could stay more than 3.2 times too small. Standard
// deviations are with eps, as calls divide by them: so a constant channel has one too.
void BatchNorm::Impl::measure_drift(const std::vector<double>& batch_mean, const std::vector<double>& batch_inv_std) {
    drift = Drift();
    if (!diagnostics.report || state.num_batches_tracked + 1 < first_batch_for_drift) return;
    for (std::size_t c = 0; c < batch_mean.size(); ++c) {
        const double sigma = 1 / batch_inv_std[c];
        const double running_sigma = std::sqrt(static_cast<double>(state.running_var[c]) + options.eps);
        const double of_mean = std::abs(state.running_mean[c] - batch_mean[c]) / sigma;
        const double of_sigma = std::max(running_sigma / sigma, sigma / running_sigma) - 1;
        const bool is_nan = std::isnan(of_mean) || std::isnan(of_sigma);
        const double far = is_nan ? NAN : std::max(of_mean, of_sigma);
        if (!is_nan && !(far > drift.far)) continue;
        drift = {c, far, state.running_mean[c], running_sigma, batch_mean[c], sigma};
    }
}

void BatchNorm::Impl::diagnose_drift(const BatchNorm& layer) const {
    if (drift.far <= diagnostics.max_drift_sigmas) return;  // a NaN is not
    diagnostics.report(
        {Diagnostic::Kind::drift,
         sentence("running statistics: those of channel ", drift.channel, " (mean ", drift.running_mean,
                  ", standard deviation ", drift.running_sigma, ") were far from this batch's (mean ", drift.mean,
                  ", standard deviation ", drift.sigma, "), by ", drift.far, ", more than ",
                  diagnostics.max_drift_sigmas,
                  ": evaluation mode would give other results than training; look at the data's order and at momentum"),
         &layer});
}

}  // namespace fusebn
