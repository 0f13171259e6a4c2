// Runs every kernel of the libraries that it is built with: checks each against the double-precision oracle, then times
// it beside a copy of the same bytes and beside oneDNN.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "cases.h"
#include "contest.h"
#include "onednn_contender.h"
#include "onednn_module.h"
#include "scaling.h"

namespace {

using namespace fusebn::bench;

struct Arguments {
    std::string kernels = "all", library, onednn, json, markdown;
    Budget budget;
    int rounds = 0, threads = 0;
    double build_seconds = 0;
    bool quick = false, list = false, scaling = false, reader = false;
};

void say_progress(std::size_t done, std::size_t all, const std::string& name) {
    if (isatty(STDERR_FILENO)) std::fprintf(stderr, "\r\033[K[%zu/%zu] %s", done, all, name.c_str());
}

int run_scaling(const Arguments& a, const std::vector<LayerCase>& cases) {
    const Machine machine = this_machine();
    Workspace workspace, other_workspace;
    std::vector<Scaling> all;
    for (std::size_t i = 0; i < cases.size(); ++i) {
        say_progress(i + 1, cases.size(), cases[i].kernel->name);
        if (!cases[i].fixed) continue;
        all.push_back(measure_scaling(cases[i], machine.threads, a.budget, workspace, other_workspace));
    }
    say_progress(cases.size(), cases.size(), "done\n");
    print_scaling(std::cout, all, machine, false);
    if (a.markdown.empty()) return 0;
    std::ofstream out(a.markdown);
    print_scaling(out, all, machine, true);
    if (out.flush()) return 0;
    std::cerr << a.markdown << " cannot be written\n";
    return 1;
}

int run(const Arguments& a) {
    if (a.threads > 0) {
        if (const fusebn::Status s = fusebn::set_num_threads(a.threads); !s.ok()) {
            std::cerr << s.message() << "\n";
            return 2;
        }
    }
    if (!a.library.empty()) use_library(a.library);
    const std::vector<LayerCase> cases = chosen_cases(a.kernels);
    if (cases.empty()) {
        std::cerr << "no kernel has a name with \"" << a.kernels << "\" in it; --list prints the names\n";
        return 2;
    }
    if (!a.onednn.empty()) load_onednn(a.onednn);
    if (a.list) {
        for (const LayerCase& c : cases) std::cout << c.kernel->name << "\n";
        return 0;
    }
    if (a.scaling) return run_scaling(a, cases);
    Report report;
    report.machine = this_machine();
    report.reader = a.reader;
    measure_caches(report.machine);
    report.onednn = onednn_version();
    report.onednn3 = loaded_onednn_version();
    report.generator = cases.front().table->generator;
    if (a.build_seconds > 0) report.build_seconds = a.build_seconds;
    print_machine(std::cout, report);
    std::cout.flush();

    Workspace workspace, twin_workspace;
    int wrong = 0;
    for (std::size_t i = 0; i < cases.size(); ++i) {
        say_progress(i + 1, cases.size(), cases[i].kernel->name);
        Outcome outcome = contest(cases[i], report.machine, a.budget, a.reader, workspace, twin_workspace);
        if (outcome.row) report.rows.push_back(std::move(*outcome.row));
        if (!outcome.warning.empty()) std::cerr << cases[i].kernel->name << ": " << outcome.warning << "\n";
        if (outcome.complaint.empty()) continue;
        say_progress(i + 1, cases.size(), "");
        std::cout << "WRONG " << cases[i].kernel->name << ": " << outcome.complaint << "\n";
        ++wrong;
    }
    say_progress(cases.size(), cases.size(), "done\n");
    if (a.library.empty()) report.overheads = measure_overheads(cases, workspace);

    sort(report.rows);
    print_table(std::cout, report, false);
    std::cout << cases.size() - static_cast<std::size_t>(wrong) << " of " << cases.size()
              << " kernels agree with the oracle; " << report.rows.size() << " timed\n";
    print_summary(std::cout, report);
    bool written = true;
    if (!a.json.empty() && !write_json(a.json, report)) {
        std::cerr << a.json << " cannot be written\n";
        written = false;
    }
    if (!a.markdown.empty()) {
        std::ofstream out(a.markdown);
        print_machine(out, report);
        print_table(out, report, true);
        print_summary(out, report);
        if (!out.flush()) {
            std::cerr << a.markdown << " cannot be written\n";
            written = false;
        }
    }
    return wrong == 0 && written ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    Arguments a;
    CLI::App app("Checks and times the kernels of ResNet-50 and a few more");
    app.add_option("--kernels", a.kernels,
                   "all, or parts of kernel names, separated by commas: bn_backward_f32_planar, _add_")
        ->capture_default_str();
    app.add_option("--library", a.library,
                   "The kernels of lib<name>.so instead: g++ -shared -o lib<name>.so -Wl,--whole-archive lib<name>.a "
                   "-Wl,--no-whole-archive")
        ->check(CLI::ExistingFile);
    app.add_option("--onednn", a.onednn,
                   "Beside a second oneDNN too: bench/libfusebn_onednn3.so (scripts/bench.sh --onednn3)")
        ->check(CLI::ExistingFile);
    app.add_option("--seconds", a.budget.seconds, "Time for the rounds of one kernel")
        ->check(CLI::Range(0.0, 1e6))
        ->capture_default_str();
    app.add_option("--rounds", a.rounds, "Exactly so many rounds, instead")->check(CLI::Range(1, 100000));
    app.add_option("--threads", a.threads, "Of every contender (default: fusebn's own choice)")
        ->check(CLI::Range(1, 1024));
    app.add_option("--json", a.json, "Write the rows to this file, a JSON object a line");
    app.add_option("--markdown", a.markdown, "Write the table to this file");
    app.add_option("--build-seconds", a.build_seconds, "What building the model's library took, for the report")
        ->check(CLI::Range(0.0, 1e6));
    app.add_flag("--quick", a.quick, "Three rounds a kernel: whether everything works, not how fast it is");
    app.add_flag("--reader", a.reader,
                 "Each call, a copy too, is followed by a reading of what it has written, as by the next layer");
    app.add_flag("--list", a.list, "Print the names of the kernels and end");
    app.add_flag("--scaling", a.scaling, "Instead: what threads and two callers at once gain, into a table of its own")
        ->excludes("--json");
    CLI11_PARSE(app, argc, argv);
    if (a.quick) a.rounds = 3;
    if (a.rounds > 0) a.budget = {0, a.rounds, a.rounds};
    try {
        return run(a);
    } catch (const std::exception& e) {
        std::cerr << "\n" << e.what() << "\n";
        return 1;
    }
}
