#include "compiler/job_pool.h"

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

}  // namespace

std::string run_jobs(const std::vector<Job>& jobs, int at_once, const std::function<void(int, const Job&)>& done) {
    std::map<pid_t, Child> running;
    std::string failure;
    size_t next = 0;
    int finished = 0;
    while (!running.empty() || (next < jobs.size() && failure.empty())) {
        while (failure.empty() && next < jobs.size() && static_cast<int>(running.size()) < at_once) {
            int ends[2];
            if (pipe(ends) != 0) {
                failure = std::string("cannot make a pipe: ") + std::strerror(errno);
                break;
            }
            std::fflush(nullptr);
            const pid_t pid = fork();
            if (pid == 0) {
                close(ends[0]);
                run_in_child(jobs[next], ends[1]);
            }
            close(ends[1]);
            if (pid < 0) {
                close(ends[0]);
                failure = std::string("cannot start a process: ") + std::strerror(errno);
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
        const Job& job = jobs[child->second.job];
        std::string reason = read_all(child->second.report);
        running.erase(child);
        if (WIFSIGNALED(status)) {
            reason = "the compiler was killed by signal " + std::to_string(WTERMSIG(status)) + " (" +
                     strsignal(WTERMSIG(status)) + ")" + (reason.empty() ? "" : ": " + reason);
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            if (failure.empty()) failure = job.name + ": " + (reason.empty() ? "failed without a reason" : reason);
            continue;
        }
        done(++finished, job);
    }
    return failure;
}

}  // namespace fusebn
