// Runs jobs in child processes, a few at a time. Halide keeps global state, and a compiler that fails must not take the
// build with it: a process a job gives both isolation and parallelism.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace fusebn {

struct Job {
    std::string name;
    std::function<void()> run;  // in a child process; reports failure by an exception
};

// Returns "" when all succeeded, or "<name>: <reason>" of the first job that failed (no further job is started then).
// `done` is called in this process after each job with the number of finished ones.
std::string run_jobs(const std::vector<Job>& jobs, int at_once, const std::function<void(int, const Job&)>& done);

// Runs all of them, whatever becomes of the others, and returns the reasons of those that failed, "" for the rest.
std::vector<std::string> run_all_jobs(const std::vector<Job>& jobs, int at_once);

}  // namespace fusebn
