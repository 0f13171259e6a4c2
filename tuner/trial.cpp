#include "tuner/trial.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "fusebn/parallel.h"
#include "tuner/heats.h"

namespace fusebn {

namespace {

using nlohmann::json;

// A process that says nothing for so long hangs.
constexpr int patience_ms = 300'000;

json to_json(const BatchResult& r) {
    json trials = json::array();
    for (const Trial& t : r.trials) {
        trials.push_back({t.failure, t.ms, t.ratio, t.ratio_low, t.ratio_high, t.of_copy, t.finalist});
    }
    return {{"complaint", r.complaint}, {"digest", r.digest}, {"trials", trials}};
}

BatchResult result_from(const json& j) {
    BatchResult r;
    r.complaint = j.at("complaint");
    r.digest = j.at("digest");
    for (const json& t : j.at("trials")) {
        r.trials.push_back({t.at(0), t.at(1), t.at(2), t.at(3), t.at(4), t.at(5), t.at(6)});
    }
    return r;
}

void say(int fd, const std::string& line) {
    std::size_t done = 0;
    while (done < line.size()) {
        const ssize_t n = write(fd, line.data() + done, line.size() - done);
        if (n < 0 && errno != EINTR) _exit(1);
        if (n > 0) done += static_cast<std::size_t>(n);
    }
}

[[noreturn]] void child(const Batch& batch, int fd) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // not to go on timing when the tuner is gone
    const auto say_json = [fd](const json& j) {
        say(fd, j.dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
    };
    BatchResult result;
    try {
        if (const Status s = set_num_threads(batch.threads); !s.ok()) throw std::runtime_error(s.message());
        result = run_heats(batch, [&](std::size_t i) { say(fd, std::to_string(i) + "\n"); });
    } catch (const DeviceFailure& e) {
        say_json({{"death", e.what()}});
        _exit(1);
    } catch (const std::bad_alloc&) {
        result = {"the tensors do not fit this machine's memory", 0, {}};
    } catch (const std::exception& e) {
        result = {e.what(), 0, {}};
    }
    say_json(to_json(result));
    std::fflush(nullptr);
    _exit(0);
}

struct Heard {
    json result;         // the last line, where it is the result; else null
    std::size_t at = 0;  // the candidate that was begun last
    std::string death;   // how the process ended without one
};

Heard listen(int fd, pid_t pid) {
    std::string text;
    char buffer[65536];
    bool hung = false;
    for (;;) {
        pollfd p{fd, POLLIN, 0};
        const int ready = poll(&p, 1, patience_ms);
        if (ready < 0 && errno == EINTR) continue;
        if (ready == 0) {
            hung = true;
            kill(pid, SIGKILL);
        }
        const ssize_t n = read(fd, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        text.append(buffer, static_cast<std::size_t>(n));
    }
    close(fd);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    Heard heard;
    std::size_t start = 0;
    for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', start)) {
        const std::string line = text.substr(start, end - start);
        start = end + 1;
        if (line.front() != '{') {
            heard.at = std::stoul(line);
            continue;
        }
        json j = json::parse(line);
        if (j.contains("death")) {
            heard.death = j.at("death");
        } else {
            heard.result = std::move(j);
        }
    }
    if (!heard.death.empty()) return heard;
    if (hung) {
        heard.death = "it hung";
    } else if (WIFSIGNALED(status)) {
        heard.death = std::string("killed by ") + strsignal(WTERMSIG(status));
    } else {
        heard.death = "it ended the process";
    }
    return heard;
}

}  // namespace

BatchResult run_batch(const Batch& batch) {
    Batch now = batch;
    std::vector<std::size_t> original(batch.candidates.size());  // of now's candidates in batch
    std::iota(original.begin(), original.end(), std::size_t{0});
    BatchResult all;
    all.trials.resize(batch.candidates.size());
    for (;;) {
        int ends[2];
        if (pipe(ends) != 0) throw std::runtime_error(std::string("cannot make a pipe: ") + std::strerror(errno));
        std::fflush(nullptr);
        const pid_t pid = fork();
        if (pid < 0) throw std::runtime_error(std::string("cannot start a process: ") + std::strerror(errno));
        if (pid == 0) {
            close(ends[0]);
            child(now, ends[1]);
        }
        close(ends[1]);
        const Heard heard = listen(ends[0], pid);
        if (!heard.result.is_null()) {
            const BatchResult r = result_from(heard.result);
            all.complaint = r.complaint;
            all.digest = r.digest;
            for (std::size_t i = 0; i < r.trials.size(); ++i) all.trials[original[i]] = r.trials[i];
            return all;
        }
        if (heard.at == 0) {
            all.complaint = "the default schedule: " + heard.death;
            return all;
        }
        // The others, without the one that was being run. (One that ends the process later, in its timing, is the last
        // one begun, so in the end the field is empty.)
        all.trials[original[heard.at]].failure = heard.death;
        now.candidates.erase(now.candidates.begin() + static_cast<std::ptrdiff_t>(heard.at));
        if (heard.at == 1) now.has_champion = false;
        original.erase(original.begin() + static_cast<std::ptrdiff_t>(heard.at));
    }
}

}  // namespace fusebn
