// Runs every kernel of the libraries that it is built with: checks each against the double-precision oracle, then times
// it beside a copy of the same bytes and beside oneDNN.
#include <bench_shapes.h>
#include <resnet50_bn.h>
#include <resnet50_bn_nhwc.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "measure.h"
#include "onednn_contender.h"

namespace {

using namespace fusebn::bench;

struct Arguments {
    std::string kernels = "all", json, markdown;
    Budget budget;
    int rounds = 0, threads = 0;
    double build_seconds = 0;
    bool quick = false, list = false;
};

// The kernels whose name has one of the words, each once, those with a shape of their own first.
std::vector<LayerCase> chosen_cases(const std::string& words) {
    const fusebn_kernel_table* const tables[] = {&resnet50_bn::kernels(), &resnet50_bn_nhwc::kernels(),
                                                 &bench_shapes::kernels()};
    std::vector<std::string> wanted;
    std::istringstream stream(words);
    for (std::string word; std::getline(stream, word, ',');) wanted.push_back(word);
    std::vector<LayerCase> cases;
    std::set<std::string> names;
    for (const bool fixed : {true, false}) {
        for (const fusebn_kernel_table* table : tables) {
            for (int i = 0; i < table->kernel_count; ++i) {
                const LayerCase c = case_of(*table, table->kernels[i]);
                const std::string name = c.kernel->name;
                const bool is_wanted =
                    words == "all" || std::any_of(wanted.begin(), wanted.end(), [&](const auto& word) {
                        return name.find(word) != std::string::npos;
                    });
                if (c.fixed == fixed && is_wanted && names.insert(name).second) cases.push_back(c);
            }
        }
    }
    return cases;
}

void say_progress(std::size_t done, std::size_t all, const std::string& name) {
    if (isatty(STDERR_FILENO)) std::fprintf(stderr, "\r\033[K[%zu/%zu] %s", done, all, name.c_str());
}

// For each operation, the kernels of the fewest and of the most channels.
std::vector<Overhead> overheads(const std::vector<LayerCase>& cases, Workspace& workspace) {
    std::vector<Overhead> all;
    for (const fusebn::Op op : {fusebn::Op::inference, fusebn::Op::train_forward}) {
        const LayerCase *fewest = nullptr, *most = nullptr;
        for (const LayerCase& c : cases) {
            if (!c.fixed || c.op() != op) continue;
            if (fewest == nullptr || c.C < fewest->C) fewest = &c;
            if (most == nullptr || c.C > most->C) most = &c;
        }
        for (const LayerCase* c : {fewest, most}) {
            if (c == nullptr || (c == most && most->C == fewest->C)) continue;
            all.push_back(
                measure_overhead(*c, workspace.x.at_least(c->elements()), workspace.y.at_least(c->elements())));
        }
    }
    return all;
}

int run(const Arguments& a) {
    if (a.threads > 0) {
        if (const fusebn::Status s = fusebn::set_num_threads(a.threads); !s.ok()) {
            std::cerr << s.message() << "\n";
            return 2;
        }
    }
    const std::vector<LayerCase> cases = chosen_cases(a.kernels);
    if (cases.empty()) {
        std::cerr << "no kernel has a name with \"" << a.kernels << "\" in it; --list prints the names\n";
        return 2;
    }
    if (a.list) {
        for (const LayerCase& c : cases) std::cout << c.kernel->name << "\n";
        return 0;
    }
    Report report;
    report.machine = this_machine();
    report.onednn = onednn_version();
    report.generator = cases.front().table->generator;
    if (a.build_seconds > 0) report.build_seconds = a.build_seconds;
    print_machine(std::cout, report);
    std::cout.flush();

    Workspace workspace;
    int wrong = 0;
    for (std::size_t i = 0; i < cases.size(); ++i) {
        say_progress(i + 1, cases.size(), cases[i].kernel->name);
        Outcome outcome = measure(cases[i], report.machine, a.budget, workspace);
        if (outcome.row) report.rows.push_back(std::move(*outcome.row));
        if (!outcome.warning.empty()) std::cerr << cases[i].kernel->name << ": " << outcome.warning << "\n";
        if (outcome.complaint.empty()) continue;
        say_progress(i + 1, cases.size(), "");
        std::cout << "WRONG " << cases[i].kernel->name << ": " << outcome.complaint << "\n";
        ++wrong;
    }
    say_progress(cases.size(), cases.size(), "done\n");
    report.overheads = overheads(cases, workspace);

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
    CLI::App app("Checks and times the kernels of ResNet-50");
    app.add_option("--kernels", a.kernels, "all, or parts of kernel names, separated by commas")->capture_default_str();
    app.add_option("--seconds", a.budget.seconds, "Time for the rounds of one kernel")->capture_default_str();
    app.add_option("--rounds", a.rounds, "Exactly so many rounds, instead")->check(CLI::Range(1, 100000));
    app.add_option("--threads", a.threads, "Of every contender (default: fusebn's own choice)")
        ->check(CLI::Range(1, 1024));
    app.add_option("--json", a.json, "Write the rows to this file, a JSON object a line");
    app.add_option("--markdown", a.markdown, "Write the table to this file");
    app.add_option("--build-seconds", a.build_seconds, "What building the model's library took, for the report");
    app.add_flag("--quick", a.quick, "Three rounds a kernel: whether everything works, not how fast it is");
    app.add_flag("--list", a.list, "Print the names of the kernels and end");
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
