#include "tuner/heats.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compiler/files.h"
#include "compiler/load.h"
#include "compiler/variant.h"
#include "measure/check.h"
#include "measure/copy.h"
#include "measure/device.h"
#include "measure/machine.h"
#include "measure/timing.h"

namespace fusebn {

namespace {

// Rounds of all candidates, of the better half, and of the finalists.
constexpr int qualifying_rounds = 3, semifinal_rounds = 4, final_rounds = 9;
constexpr std::size_t finalists = 2;
// All contenders share a pool, which needs no bringing back.
constexpr double warm_up_ms = 2;

std::uint64_t mixed(std::uint64_t h, std::uint64_t word) {
    h = (h ^ word) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

std::uint64_t digest_of(std::uint64_t h, const void* data, std::int64_t bytes) {
    const auto* const from = static_cast<const unsigned char*>(data);
    std::int64_t i = 0;
    for (; i + 8 <= bytes; i += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, from + i, 8);
        h = mixed(h, word);
    }
    for (; i < bytes; ++i) h = mixed(h, from[i]);
    return h;
}

template <class T>
std::uint64_t digest_of(std::uint64_t h, const std::vector<T>& values) {
    return digest_of(h, values.data(), static_cast<std::int64_t>(values.size() * sizeof(T)));
}

// Of all that a call gives, one call after the layer was prepared.
std::uint64_t digest_of(const measure::LayerCase& c, const measure::Workload& w) {
    const measure::Operands& o = w.operands();
    std::uint64_t h = digest_of(0, o.out, c.tensor_bytes());
    if (o.addend_out) h = digest_of(h, o.addend_out, c.tensor_bytes());
    for (const BatchNorm* layer : {&w.layer(), w.other()}) {
        if (layer == nullptr) continue;
        if (c.op() == Op::train_forward) {
            h = digest_of(digest_of(h, layer->saved_mean()), layer->saved_inv_std());
            h = digest_of(digest_of(h, layer->state().running_mean), layer->state().running_var);
        }
        if (c.op() == Op::backward) h = digest_of(digest_of(h, layer->grad_gamma()), layer->grad_beta());
    }
    return h;
}

// A variant in this process, as a row of a table has it.
struct LoadedVariant {
    LoadedObject object;
    std::string schedule;
    fusebn_variant row{};

    LoadedVariant(const ManifestKernel& kernel, const CompiledVariant& v)
        : object(read_file(v.object)), schedule(to_text(v.variant.schedule)) {
        const Demands demands = demands_of(kernel, v.variant);
        const auto entry = [&](const std::string& symbol) {
            return reinterpret_cast<fusebn_entry>(object.address(symbol));
        };
        row.isa = static_cast<std::int32_t>(v.variant.isa);
        row.y_alignment = demands.alignment > 0 ? demands.alignment : element_bytes(kernel.kernel.dtype);
        row.dense = demands.dense;
        row.schedule = schedule.c_str();
        row.entry = entry(v.variant.symbol);
        if (demands.any()) row.entry_unaligned = entry(v.variant.symbol + "_unaligned");
    }
};

fusebn_kernel row_of(const ManifestKernel& k, const std::string& name, const fusebn_variant* variant) {
    const KernelSpec& s = k.kernel;
    return {name.c_str(),
            static_cast<std::int32_t>(s.op),
            static_cast<std::int32_t>(s.view),
            static_cast<std::int32_t>(s.dtype),
            static_cast<std::int32_t>(s.activation),
            static_cast<std::int32_t>(s.residual),
            {static_cast<std::int32_t>(s.outer), static_cast<std::int32_t>(s.channels),
             static_cast<std::int32_t>(s.view == View::planar ? s.inner : 1)},
            k.large,
            1,
            variant};
}

// A table with the kernel, whose variant is the candidate of the moment.
class Stage {
public:
    explicit Stage(const Batch& b) : name_(kernel_name(b.kernel.kernel)) {
        for (const CompiledVariant& v : b.candidates) {
            candidates_.push_back(std::make_unique<LoadedVariant>(b.kernel, v));
        }
        current_ = candidates_.front()->row;
        rows_.push_back(row_of(b.kernel, name_, &current_));
        if (b.forward) {
            ManifestKernel forward = b.kernel;
            forward.kernel.op = Op::train_forward;
            forward_name_ = kernel_name(forward.kernel);
            forward_ = std::make_unique<LoadedVariant>(forward, *b.forward);
            rows_.push_back(row_of(forward, forward_name_, &forward_->row));
        }
        table_ = {FUSEBN_ABI_VERSION, static_cast<std::int32_t>(rows_.size()), "tuned", "", rows_.data()};
    }
    measure::LayerCase layer_case() const { return measure::case_of(table_, rows_.front()); }
    void use(std::size_t candidate) { current_ = candidates_[candidate]->row; }

private:
    std::string name_, forward_name_;
    std::vector<std::unique_ptr<LoadedVariant>> candidates_;
    std::unique_ptr<LoadedVariant> forward_;
    fusebn_variant current_{};
    std::vector<fusebn_kernel> rows_;
    fusebn_kernel_table table_{};
};

class Batches {
public:
    Batches(const Batch& batch, const std::function<void(std::size_t)>& begin)
        : batch_(batch),
          begin_(begin),
          stage_(batch),
          case_(stage_.layer_case()),
          workload_(case_, workspace_, batch.device) {}

    BatchResult run() {
        result_.trials.resize(batch_.candidates.size());
        begin_(0);
        if (!verify_default()) return result_;
        std::vector<std::size_t> field;
        for (std::size_t i = 1; i < batch_.candidates.size(); ++i) {
            begin_(i);
            if (verify(i)) field.push_back(i);
        }
        const bool champion = batch_.has_champion && !field.empty() && field.front() == 1;
        if (champion) field.erase(field.begin());
        heat(field, qualifying_rounds, false);
        keep_best(field, std::max(finalists, (field.size() + 1) / 2));
        if (field.size() > finalists) {
            heat(field, semifinal_rounds, false);
            keep_best(field, finalists);
        }
        if (champion) field.push_back(1);
        heat(field, final_rounds, true);
        return result_;
    }

private:
    // The results of one call after preparation, with every byte of the output spoilt before it.
    std::string once() {
        Status s = workload_.prepare();
        if (s.ok()) s = workload_.spoil();
        if (s.ok()) s = workload_.run();
        if (s.ok()) s = workload_.fetch();
        if (s.code() == ErrorCode::launch_failed) throw DeviceFailure(s.message());
        return s.message();
    }

    bool verify_default() {
        result_.complaint = once();
        if (!result_.complaint.empty()) return false;
        result_.digest = digest_of(case_, workload_);
        if (batch_.expected) {
            if (result_.digest == *batch_.expected) return true;
            result_.complaint = on_device() ? "the default schedule: its bits are not the CPU's"
                                            : "two runs of the default schedule differ in their bits";
            return false;
        }
        result_.complaint = measure::check(case_, workload_).complaint;
        return result_.complaint.empty();
    }

    bool verify(std::size_t i) {
        stage_.use(i);
        std::string& failure = result_.trials[i].failure;
        failure = once();
        if (failure.empty() && digest_of(case_, workload_) != result_.digest) {
            failure = "wrong: its bits are not the default's";
        }
        return failure.empty();
    }

    void heat(const std::vector<std::size_t>& field, int rounds, bool final) {
        std::vector<std::size_t> all = {0};
        all.insert(all.end(), field.begin(), field.end());
        std::vector<measure::Contender> contenders;
        for (const std::size_t i : all) {
            const auto run = [this, i] {
                stage_.use(i);
                workload_.run_or_exit();
            };
            contenders.push_back({"", run, finish()});
        }
        const std::optional<measure::Contender> beside = final ? copy() : std::nullopt;
        if (beside) contenders.push_back(*beside);
        measure::Budget budget{0, rounds, rounds};
        budget.warm_up_ms = warm_up_ms;
        const std::vector<measure::Samples> samples = measure::race(contenders, budget);
        for (std::size_t at = 0; at < all.size(); ++at) {
            Trial& t = result_.trials[all[at]];
            const measure::Quartiles ratio = measure::paired_ratio(samples[0], samples[at]);
            t.ms = measure::quartiles(samples[at].ms).median;
            t.ratio = ratio.median;
            t.ratio_low = ratio.low;
            t.ratio_high = ratio.high;
            t.finalist = final;
            if (beside) t.of_copy = measure::paired_ratio(samples.back(), samples[at]).median;
        }
    }

    void keep_best(std::vector<std::size_t>& field, std::size_t count) const {
        std::sort(field.begin(), field.end(),
                  [&](std::size_t a, std::size_t b) { return result_.trials[a].ratio > result_.trials[b].ratio; });
        if (field.size() > count) field.resize(count);
    }

    bool on_device() const { return !(batch_.device == Device::cpu()); }

    std::function<void()> finish() {
        if (!on_device()) return nullptr;
        return [this] { workload_.finish_or_exit(); };
    }

    // Of half the bytes that must move. Nothing where a device has no room for it.
    std::optional<measure::Contender> copy() {
        const std::int64_t half = case_.floor_bytes() / 2;
        if (on_device()) {
            const auto bytes = static_cast<std::size_t>((half + 15) / 16 * 16);
            copy_from_ = DeviceMemory(batch_.device, bytes);
            copy_to_ = DeviceMemory(batch_.device, bytes);
            const auto copy = std::make_shared<measure::DeviceCopy>(batch_.device, copy_from_, copy_to_);
            if (!copy->status().ok()) return std::nullopt;
            const auto run = [copy] { copy->run_or_exit(); };
            return measure::Contender{"copy", run, finish()};
        }
        const bool in_cache = case_.floor_bytes() <= batch_.usable_l3;
        const auto how = in_cache ? measure::Copy::plain : measure::Copy::streaming;
        return measure::Contender{"copy", measure::make_copy(how, workspace_.copy_from.at_least(half),
                                                             workspace_.copy_to.at_least(half), half)};
    }

    const Batch& batch_;
    const std::function<void(std::size_t)>& begin_;
    Stage stage_;
    measure::LayerCase case_;
    measure::Workspace workspace_;
    measure::Workload workload_;
    DeviceMemory copy_from_, copy_to_;  // on a device
    BatchResult result_;
};

}  // namespace

BatchResult run_heats(const Batch& batch, const std::function<void(std::size_t)>& begin) {
    return Batches(batch, begin).run();
}

}  // namespace fusebn
