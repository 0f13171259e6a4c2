#include "tuner/tune.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <iomanip>
#include <ostream>
#include <sstream>
#include <stdexcept>

#include "compiler/files.h"
#include "compiler/job_pool.h"
#include "fusebn/parallel.h"
#include "measure/device.h"
#include "measure/machine.h"
#include "measure/usable_cache.h"
#include "tuner/candidates.h"
#include "tuner/subjects.h"
#include "tuner/trial.h"

namespace fusebn {

namespace {

using Clock = std::chrono::steady_clock;

// New schedules of a generation.
constexpr int generation_size = 7;

std::string utc_now() {
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    gmtime_r(&now, &parts);
    char text[32];
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text;
}

std::string minutes(double seconds) {
    const auto whole = static_cast<long>(std::max(0.0, std::ceil(seconds)));
    std::ostringstream text;
    text << whole / 60 << ':' << std::setw(2) << std::setfill('0') << whole % 60;
    return text.str();
}

std::string fixed(double value, int digits = 2) {
    std::ostringstream text;
    text << std::fixed << std::setprecision(digits) << value;
    return text.str();
}

std::string of_copy(const Record& r) { return r.of_copy > 0 ? fixed(r.of_copy) + " of a copy" : "no copy beside it"; }

class Tuner {
public:
    Tuner(const LibrarySpec& spec, const TuneOptions& options, std::ostream& out)
        : options_(options), out_(out), candidates_(options.caches, options.jobs) {
        subjects_ = subjects_of(spec, options, result_.remarks);
        for (const Subject& s : subjects_) {
            const auto is_its = [&](const TuningKey& key) { return machine_text(key) == machine_text(s.key); };
            if (std::none_of(result_.keys.begin(), result_.keys.end(), is_its)) result_.keys.push_back(s.key);
        }
        resumed_ = resume(subjects_, options.records, result_.remarks);
    }

    TuneResult run() {
        RecordAppender appender(options_.records);
        appender_ = &appender;
        start_ = Clock::now();
        for (const std::string& remark : result_.remarks) say(remark);
        std::string machines;
        for (const TuningKey& key : result_.keys) machines += (machines.empty() ? "" : " and ") + machine_text(key);
        say("tuning " + std::to_string(subjects_.size()) + " kernels on " + machines + ", " +
            minutes(options_.budget_seconds) + " at most");
        if (resumed_ > 0)
            say("going on from " + options_.records + ", which has " + std::to_string(resumed_) + " of them");
        for (bool worked = true; worked && !out_of_time();) {
            worked = false;
            int generation = INT32_MAX;
            for (const Subject& s : subjects_) {
                if (open(s)) generation = std::min(generation, s.search.generation());
            }
            // The kernels that are behind first, so that all of them have something soon.
            std::size_t at = 0;
            for (Subject& s : subjects_) {
                ++at;
                if (!open(s) || s.search.generation() != generation) continue;
                if (out_of_time()) break;
                show(s, at);
                try_batch(s);
                worked = true;
            }
            clear_line();
            if (worked) say_generation(generation);
        }
        clear_line();
        for (Subject& s : subjects_) {
            s.outcome.tried = static_cast<int>(s.search.tried());
            s.outcome.space = static_cast<int>(s.search.space_size());
            s.outcome.over = s.search.over();
            result_.kernels.push_back(s.outcome);
        }
        return result_;
    }

private:
    // A search that ended with its process may lack its last final.
    bool open(const Subject& s) const { return s.outcome.complaint.empty() && (!s.search.over() || !s.outcome.best); }

    void try_batch(Subject& s) {
        std::vector<Schedule> schedules = {s.search.base()};
        const bool has_champion = s.outcome.best && !s.outcome.best->within_noise;
        if (has_champion) schedules.push_back(s.outcome.best->schedule);
        if (std::find(schedules.begin(), schedules.end(), s.search.best()) == schedules.end()) {
            schedules.push_back(s.search.best());
        }
        const std::size_t known = schedules.size();
        for (const Schedule& next : s.search.next(generation_size)) schedules.push_back(next);
        try {
            if (is_device(s.isa) && !s.digest) s.digest = digest_of_cpu(s);
            std::vector<std::string> failures;
            Batch batch = candidates_.batch(s.kernel, s.isa, schedules, failures);
            batch.device = measure::device_of(s.isa);
            batch.threads = num_threads();
            if (!is_device(s.isa)) batch.usable_l3 = usable_l3();
            batch.expected = s.digest;
            batch.has_champion = has_champion && failures[1].empty();
            std::vector<Schedule> compiled;
            for (std::size_t i = 0; i < schedules.size(); ++i) {
                if (failures[i].empty()) {
                    compiled.push_back(schedules[i]);
                } else {
                    record_failure(s, schedules[i], failures[i]);
                }
            }
            const BatchResult measured = run(batch);
            s.digest = measured.digest;
            take(s, compiled, measured, known);
        } catch (const KernelError& e) {
            s.outcome.complaint = e.what();
        }
    }

    // Measured by a process of its own, as everything else is: this one is to be forked from, so it starts no threads.
    std::int64_t usable_l3() {
        if (usable_l3_ == 0) {
            const TemporaryFile found;
            const Job look{"measuring the cache", [&] {
                               const std::int64_t bytes = measure::usable_l3(measure::this_machine());
                               write_file(found.path(), std::to_string(bytes));
                           }};
            const std::string failure = run_jobs({look}, 1, [](int, const Job&) {});
            if (!failure.empty()) throw KernelError("the cache could not be measured: " + failure);
            usable_l3_ = std::stoll(read_file(found.path()));
        }
        return usable_l3_;
    }

    // A device's kernel gives the bits of the CPU's, which the oracle knows.
    std::uint64_t digest_of_cpu(const Subject& s) {
        const InstructionSet isa = instruction_set();
        std::vector<std::string> failures;
        Batch batch = candidates_.batch(s.kernel, isa, {candidates_.default_of(s.kernel.kernel, isa)}, failures);
        batch.threads = num_threads();
        return run(batch).digest;
    }

    static BatchResult run(const Batch& batch) {
        BatchResult result = run_batch(batch);
        if (!result.complaint.empty()) throw KernelError(result.complaint);
        return result;
    }

    void take(Subject& s, const std::vector<Schedule>& schedules, const BatchResult& measured, std::size_t known) {
        for (std::size_t i = 1; i < schedules.size(); ++i) {
            const Trial& t = measured.trials[i];
            if (!t.failure.empty()) {
                record_failure(s, schedules[i], t.failure);
                continue;
            }
            s.search.measured(schedules[i], t.ratio);
            if (i >= known || t.finalist) appender_->append(record(s, Record::Kind::trial, schedules[i], t));
        }
        // The final: the fastest of the finalists beside the default.
        std::size_t best = 0;
        for (std::size_t i = 1; i < schedules.size(); ++i) {
            const Trial& t = measured.trials[i];
            if (t.failure.empty() && t.finalist && t.ratio > measured.trials[best].ratio) best = i;
        }
        const bool within_noise = best == 0 || measured.trials[best].ratio_low <= 1;
        if (within_noise) best = 0;
        Record r = record(s, Record::Kind::best, schedules[best], measured.trials[best]);
        r.within_noise = within_noise;
        appender_->append(r);
        s.outcome.best = r;
        s.search.end_generation();
    }

    Record record(const Subject& s, Record::Kind kind, const Schedule& schedule, const Trial& t) const {
        Record r;
        r.kind = kind;
        r.kernel = s.name();
        r.isa = s.isa;
        r.key = s.key;
        r.schedule = schedule;
        r.beside = to_text(s.search.base());
        r.failure = t.failure;
        r.ms = t.ms;
        r.ratio = t.ratio;
        r.ratio_low = t.ratio_low;
        r.ratio_high = t.ratio_high;
        r.of_copy = t.of_copy;
        r.generation = s.search.generation();
        r.time = utc_now();
        return r;
    }

    void record_failure(Subject& s, const Schedule& schedule, const std::string& reason) {
        s.search.failed(schedule);
        Trial t;
        t.failure = reason;
        appender_->append(record(s, Record::Kind::trial, schedule, t));
    }

    double elapsed() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
    bool out_of_time() const { return elapsed() >= options_.budget_seconds; }

    void say(const std::string& text) {
        if (!options_.quiet) out_ << text << std::endl;
    }

    void say_generation(int generation) {
        double logs = 0, limit = 0;
        int count = 0, copies = 0, over = 0;
        for (const Subject& s : subjects_) {
            over += s.search.over();
            if (!s.outcome.best) continue;
            logs += std::log(s.outcome.best->ratio);
            ++count;
            if (s.outcome.best->of_copy <= 0) continue;
            limit += std::log(s.outcome.best->of_copy);
            ++copies;
        }
        if (count == 0) return;
        say(minutes(elapsed()) + "  generation " + std::to_string(generation + 1) + ": " +
            fixed(std::exp(logs / count)) + " times the defaults' speed" +
            (copies > 0 ? " and " + fixed(std::exp(limit / copies)) + " of a copy's" : "") + " (geometric means of " +
            std::to_string(count) + "); " + std::to_string(over) + " of " + std::to_string(subjects_.size()) +
            " searches are over");
    }

    void show(const Subject& s, std::size_t at) {
        if (options_.quiet || !isatty(STDERR_FILENO)) return;
        constexpr int width = 20;
        const double share = std::min(1.0, elapsed() / options_.budget_seconds);
        const int filled = static_cast<int>(share * width);
        std::string best;
        if (s.outcome.best) {
            best = "  best " + fixed(s.outcome.best->ratio) + "x, " + of_copy(*s.outcome.best);
        }
        std::string line = "[" + std::string(static_cast<std::size_t>(filled), '#') +
                           std::string(static_cast<std::size_t>(width - filled), '.') + "] " +
                           minutes(options_.budget_seconds - elapsed()) + " left, generation " +
                           std::to_string(s.search.generation() + 1) + ", " + std::to_string(at) + "/" +
                           std::to_string(subjects_.size()) + best + "  " + s.name() + " " +
                           std::string(to_string(s.isa));
        winsize size{};
        if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1) {
            line.resize(std::min<std::size_t>(line.size(), size.ws_col - 1u));
        }
        std::fprintf(stderr, "\r\033[K%s", line.c_str());
        std::fflush(stderr);
        shown_ = true;
    }

    void clear_line() {
        if (shown_) std::fprintf(stderr, "\r\033[K");
        shown_ = false;
    }

    const TuneOptions& options_;
    std::ostream& out_;
    Clock::time_point start_;
    Candidates candidates_;
    std::vector<Subject> subjects_;
    TuneResult result_;
    RecordAppender* appender_ = nullptr;
    int resumed_ = 0;
    std::int64_t usable_l3_ = 0;  // 0: not measured yet
    bool shown_ = false;
};

}  // namespace

TuneResult tune(const LibrarySpec& spec, const TuneOptions& options, std::ostream& out) {
    if (options.threads > 0) {
        if (const Status s = set_num_threads(options.threads); !s.ok()) throw std::runtime_error(s.message());
    }
    return Tuner(spec, options, out).run();
}

void print(std::ostream& out, const TuneResult& result) {
    for (const Tuned& k : result.kernels) {
        out << k.kernel << " " << to_string(k.isa) << ": ";
        if (!k.complaint.empty()) {
            out << "NOT TUNED: " << k.complaint << "\n";
            continue;
        }
        if (!k.best) {
            out << "not tried: the budget was over\n";
            continue;
        }
        const Record& r = *k.best;
        out << (r.ms < 0.1 ? fixed(1e3 * r.ms) + " us, " : fixed(r.ms, 3) + " ms, ");
        if (r.within_noise) {
            out << "the default; nothing was shown to be faster";
        } else {
            out << fixed(r.ratio) << " (" << fixed(r.ratio_low) << "-" << fixed(r.ratio_high)
                << ") times as fast as the default";
        }
        out << ", " << of_copy(r) << "; " << k.tried << " of " << k.space << " schedules tried"
            << (k.over ? "" : ", the search is not over") << "\n    " << to_text(r.schedule) << "\n";
    }
}

}  // namespace fusebn
