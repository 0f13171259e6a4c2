#include "compiler/job_pool.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <map>

namespace fusebn {

namespace {

struct Child {
    size_t job;
    int report;  // read end of the pipe that carries the reason of a failure
};

[[noreturn]] void run_in_child(const Job& job, int report) {
    int status = 0;
    std::string reason;
    try {
        job.run();
    } catch (const std::exception& e) {
        status = 1;
        reason = e.what();
    } catch (...) {
        status = 1;
        reason = "an unknown exception";
    }
    // One write of less than a pipe's buffer: the parent reads it after the child has gone.
    reason.resize(std::min<size_t>(reason.size(), 16384));
    if (!reason.empty() && write(report, reason.data(), reason.size()) < 0) status = 1;
    std::fflush(nullptr);
    _exit(status);
}

std::string read_all(int fd) {
    std::string text;
    char buffer[4096];
    for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<size_t>(n));
    close(fd);
    return text;
}

// Why a process failed; "" where it did not.
std::string failure_of(int status, const std::string& reason) {
    if (WIFSIGNALED(status)) {
        return "the compiler was killed by signal " + std::to_string(WTERMSIG(status)) + " (" +
               strsignal(WTERMSIG(status)) + ")" + (reason.empty() ? "" : ": " + reason);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return "";
    return reason.empty() ? "failed without a reason" : reason;
}

// Calls ended(job, reason) as each ends; starts no further one once it has returned false. Returns "", or why the
// system did not let it go on.
std::string run(const std::vector<Job>& jobs, int at_once,
                const std::function<bool(size_t, const std::string&)>& ended) {
    std::map<pid_t, Child> running;
    std::string failure;
    size_t next = 0;
    bool go_on = true;
    while (!running.empty() || (next < jobs.size() && go_on)) {
        while (go_on && next < jobs.size() && static_cast<int>(running.size()) < at_once) {
            int ends[2];
            if (pipe(ends) != 0) {
                failure = std::string("cannot make a pipe: ") + std::strerror(errno);
                go_on = false;
                break;
            }
            std::fflush(nullptr);
            const pid_t pid = fork();
            if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);  // not to compile for a process that is gone
                close(ends[0]);
                run_in_child(jobs[next], ends[1]);
            }
            close(ends[1]);
            if (pid < 0) {
                close(ends[0]);
                failure = std::string("cannot start a process: ") + std::strerror(errno);
                go_on = false;
                break;
            }
            running[pid] = {next++, ends[0]};
        }
        if (running.empty()) break;
        int status = 0;
        const pid_t pid = waitpid(-1, &status, 0);
        if (pid < 0) {
            if (errno == EINTR) continue;
            return std::string("cannot wait for a process: ") + std::strerror(errno);
        }
        const auto child = running.find(pid);
        if (child == running.end()) continue;
        const std::string reason = read_all(child->second.report);
        const size_t job = child->second.job;
        running.erase(child);
        if (!ended(job, failure_of(status, reason))) go_on = false;
    }
    return failure;
}

}  // namespace

std::string run_jobs(const std::vector<Job>& jobs, int at_once, const std::function<void(int, const Job&)>& done) {
    std::string first;
    int finished = 0;
    const std::string system = run(jobs, at_once, [&](size_t job, const std::string& failure) {
        if (failure.empty()) {
            done(++finished, jobs[job]);
        } else if (first.empty()) {
            first = jobs[job].name + ": " + failure;
        }
        return first.empty();
    });
    return first.empty() ? system : first;
}

std::vector<std::string> run_all_jobs(const std::vector<Job>& jobs, int at_once) {
    std::vector<std::string> reasons(jobs.size(), "was not started");
    const std::string system = run(jobs, at_once, [&](size_t job, const std::string& failure) {
        reasons[job] = failure;
        return true;
    });
    for (std::string& reason : reasons) {
        if (reason == "was not started" && !system.empty()) reason = system;
    }
    return reasons;
}

}  // namespace fusebn
