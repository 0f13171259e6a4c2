// The fusebn command.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iomanip>
#include <iostream>
#include <map>

#include "compiler/arguments.h"
#include "compiler/device_report.h"
#include "compiler/doctor.h"
#include "compiler/import.h"
#include "compiler/inspect.h"
#include "compiler/library_files.h"
#include "compiler/python.h"
#include "compiler/spec.h"
#include "compiler/spec_names.h"
#include "compiler/spec_schedule.h"
#include "compiler/variant.h"
#include "fusebn/parallel.h"
#include "tuner/tune.h"

namespace {

using namespace fusebn;

struct BuildArguments {
    std::string spec, name;
    std::vector<std::string> targets, records, tuned_on;
    BuildOptions options;
    bool verbose = false;
};

struct TuneArguments {
    std::string spec, report;
    std::vector<std::string> targets;
    TuneOptions options;
};

// Where the schedules came from: a line for each variant, if records were given.
void print_origins(const Manifest& m) {
    std::map<std::string, int> counts;
    for (const ManifestKernel& k : m.kernels) {
        for (const ManifestVariant& v : k.variants) {
            ++counts[v.origin];
            std::cout << std::left << std::setw(9) << (v.origin == "default" ? "defaulted" : v.origin) << ' '
                      << kernel_name(k.kernel) << ' ' << to_string(v.isa)
                      << (v.processor.empty() ? "" : " on " + v.processor) << "\n";
        }
    }
    std::cout << "schedules: " << counts["tuned"] << " tuned, " << counts["stale"] << " stale, " << counts["default"]
              << " defaulted, " << counts["spec"] << " given by the spec\n";
}

void say_unused(const LibrarySpec& spec, const std::string& file) {
    for (const std::string& remark : unused_schedules(spec, file)) std::cerr << "fusebn: " << remark << "\n";
}

int run_build(const BuildArguments& a) {
    const auto start = std::chrono::steady_clock::now();
    check_caches(a.options.caches);
    LibrarySpec spec = read_spec(a.spec, a.name);
    if (!a.targets.empty()) spec.targets = parse_targets(a.targets, "--targets");
    check_types(spec, a.spec);
    check_schedules(spec, a.spec, a.options.caches);
    say_unused(spec, a.spec);
    check_output(a.options.directory, spec.name);
    BuildOptions options = a.options;
    options.records = RecordBook(a.records, a.tuned_on, generator_version(), spec.targets);
    for (const std::string& remark : options.records.remarks()) std::cerr << "fusebn: " << remark << "\n";
    const BuildResult result = build_files(spec, options);
    if (a.options.quiet) return 0;
    if (!a.records.empty()) print_origins(result.manifest);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::cout << "lib" << spec.name << ".a: " << result.manifest.kernels.size() << " kernels for "
              << spec.targets.size() << " target" << (spec.targets.size() == 1 ? "" : "s") << ", "
              << result.manifest.library_bytes / 1024 << " KB";
    if (result.up_to_date) {
        std::cout << ", up to date\n";
    } else {
        std::cout << "; " << result.compiled << " objects compiled, " << result.reused << " reused, " << std::fixed
                  << std::setprecision(1) << seconds.count() << " s\n";
    }
    if (a.verbose || !result.up_to_date) report_functions(std::cout, result.manifest, a.verbose);
    if (result.ptx_alone) {
        std::cout
            << "no ptxas was found: the CUDA kernels hold PTX alone, which the driver compiles when they are first "
               "used; FUSEBN_PTXAS or a CUDA toolkit's bin on PATH gives them machine code\n";
    }
    return 0;
}

int run_tune(const TuneArguments& a) {
    check_caches(a.options.caches);
    LibrarySpec spec = read_spec(a.spec);
    TuneOptions options = a.options;
    // Records would be of a processor that this is not.
    if (const char* other = std::getenv("FUSEBN_PROCESSOR"); other != nullptr && *other != '\0') {
        throw std::runtime_error("FUSEBN_PROCESSOR: found " + std::string(other) +
                                 "; allowed while tuning: none, as what is measured is this processor's");
    }
    options.caches = model_for(processor(), options.caches);
    if (!a.targets.empty()) {
        spec.targets = parse_targets(a.targets, "--targets");
        options.all_targets = true;
    }
    check_types(spec, a.spec);
    check_schedules(spec, a.spec, a.options.caches);
    say_unused(spec, a.spec);
    check_apart("--records", options.records, a.spec, "the spec");
    if (!a.report.empty()) {
        // Before a search that takes minutes.
        check_writable("--report", a.report);
        check_apart("--report", a.report, a.spec, "the spec");
        check_apart("--report", a.report, options.records, "the records");
    }
    const TuneResult result = tune(spec, options, std::cout);
    print(std::cout, result);
    if (options.quiet) {
        for (const std::string& remark : result.remarks) std::cout << remark << "\n";
    }
    if (!a.report.empty()) {
        std::vector<std::string> arguments = {options.records, "-o", a.report};
        for (const TuningKey& key : result.keys) {
            arguments.insert(arguments.end(), {"--machine", machine_text(key)});
        }
        const int status = run_python("fusebn tune", "tune_report.py", "matplotlib", arguments);
        if (status != 0) return status;
        std::cout << "the report is in " << a.report << "\n";
    }
    for (const Tuned& k : result.kernels) {
        if (!k.complaint.empty()) return 1;
    }
    return 0;
}

// For what cannot be nothing, though a shell's empty variable is.
CLI::Validator not_empty() {
    return CLI::Validator(
        [](std::string& text) { return text.empty() ? std::string("found \"\"; allowed: a text") : std::string(); },
        "");
}

CLI::Validator parts_of_names() {
    return CLI::Validator(
        [](std::string& text) {
            const bool part_is_empty = ("," + text + ",").find(",,") != std::string::npos;
            return part_is_empty ? "found \"" + text + "\"; allowed: parts of names, separated by commas"
                                 : std::string();
        },
        "");
}

CLI::Validator seconds() {
    return CLI::Validator(
        [](std::string& text) {
            double value = 0;
            const bool is_time = CLI::detail::lexical_cast(text, value) && value > 0 && value <= 1e7;  // not NaN either
            return is_time ? std::string() : "found " + text + " s; allowed: more than 0, 10000000 s at most";
        },
        "");
}

std::string all_targets() { return listed(target_words(), false); }

// What the defaults are made for.
void add_caches(CLI::App& command, CacheModel& caches) {
    const auto add = [&](const char* name, std::int64_t& size, const char* what) {
        command.add_option(name, size, what)
            ->transform(CLI::AsSizeValue(false))
            ->check(CLI::Range(std::int64_t{1024}, std::int64_t{1} << 40))
            ->capture_default_str();
    };
    add("--l1", caches.l1, "Cache model: L1 data cache of a core");
    add("--l2", caches.l2, "Cache model: L2 cache of a core");
    add("--l3", caches.l3, "Cache model: L3 cache, shared");
}

// The parser would say that there is no command.
int refuse_command(const std::string& found, const Words& commands) {
    const bool is_option = found[0] == '-';
    std::cerr << "fusebn: found " << (is_option ? "an option before the command: " : "an unknown command ")
              << in_quotes(found) << "; allowed: " << listed(commands, false) << suggestion(found, commands) << "\n";
    return 1;
}

int run(int argc, char** argv) {
    // `import` has a parser of its own; its arguments pass through as they are.
    if (argc >= 2 && std::string(argv[1]) == "import") return run_import({argv + 2, argv + argc});

    CLI::App app("fusebn: batch-norm kernels, compiled ahead of time for the shapes of a model");
    app.set_version_flag("--version", generator_version());
    app.require_subcommand(1);

    BuildArguments b;
    auto* build_command = app.add_subcommand("build", "Build a library of kernels from a spec");
    build_command->add_option("spec", b.spec, "The spec (TOML)")->required();
    build_command->add_option("-o,--output", b.options.directory, "Folder for lib<name>.a, <name>.h and <name>.json")
        ->required();
    build_command->add_option("--name", b.name, "Library name, instead of the spec's")->check(not_empty());
    build_command->add_option("--targets", b.targets, "Targets, instead of the spec's: " + all_targets())
        ->delimiter(',');
    build_command->add_option("-j,--jobs", b.options.jobs, "Kernels compiled at once (default: one a CPU)")
        ->check(CLI::Range(1, 1024));
    auto* records_option = build_command->add_option(
        "--records", b.records, "Schedules that `fusebn tune` found, for the processors it ran on");
    records_option->check(CLI::ExistingFile);
    build_command
        ->add_option("--tuned-on", b.tuned_on,
                     "Take the records of those machines and devices alone that have this in what they are called")
        ->allow_extra_args(false)
        ->check(not_empty())
        ->needs(records_option);
    build_command->add_flag("--strict", b.options.strict, "Fail where a record is of another version")
        ->needs(records_option);
    add_caches(*build_command, b.options.caches);
    build_command->add_flag("--allow-spills", b.options.allow_spills,
                            "Take CUDA kernels whose functions spill registers to memory");
    auto* quiet_flag = build_command->add_flag("-q,--quiet", b.options.quiet, "Print errors and warnings only");
    build_command->add_flag("-v,--verbose", b.verbose, "Print what every function of the CUDA kernels takes")
        ->excludes(quiet_flag);

    TuneArguments t;
    auto* tune_command =
        app.add_subcommand("tune", "Find faster schedules for a spec's kernels on this machine and its devices");
    tune_command->add_option("spec", t.spec, "The spec (TOML)")->required();
    tune_command
        ->add_option("--records", t.options.records,
                     "What was found, a JSON object a line; an earlier search in it goes on")
        ->required()
        ->check(not_empty());
    tune_command->add_option("--budget", t.options.budget_seconds, "Time for all of it: 90s, 10m, 2h")
        ->transform(CLI::AsNumberWithUnit(std::map<std::string, double>{{"s", 1}, {"m", 60}, {"min", 60}, {"h", 3600}},
                                          CLI::AsNumberWithUnit::DEFAULT, "TIME"))
        ->check(seconds())
        ->default_str("10m");
    tune_command->add_option("--kernels", t.options.kernels, "Parts of kernels' names, separated by commas")
        ->check(parts_of_names());
    tune_command
        ->add_option("--targets", t.targets,
                     "Targets to tune, instead of the best of the spec's that this machine and its devices run: " +
                         all_targets())
        ->delimiter(',');
    tune_command->add_option("--threads", t.options.threads, "Threads of a kernel (default: one a CPU)")
        ->check(CLI::Range(1, 1024));
    tune_command->add_option("-j,--jobs", t.options.jobs, "Schedules compiled at once (default: one a CPU)")
        ->check(CLI::Range(1, 1024));
    tune_command->add_option("--report", t.report, "Write a page (HTML) of the search")->check(not_empty());
    add_caches(*tune_command, t.options.caches);
    tune_command->add_flag("-q,--quiet", t.options.quiet, "Print the outcome only");

    app.add_subcommand("import", "Write a spec from an ONNX model (`fusebn import --help`)");

    InspectOptions i;
    bool statement = false, assembly = false;
    auto* inspect_command = app.add_subcommand("inspect", "Print a library's kernels, or the code of one");
    inspect_command->add_option("library", i.library, "lib<name>.a or <name>.json")->required();
    inspect_command->add_option("--kernel", i.kernel, "A kernel's name, or a part that only one has")
        ->check(not_empty());
    inspect_command->add_option("--target", i.target, "Which target's code (default: the highest built)")
        ->check(not_empty());
    inspect_command
        ->add_option("--processor", i.processor,
                     "Of a kernel's variants the one that this processor takes (default: the one for any), "
                     "such as \"GenuineIntel family 6 model 167\"")
        ->check(not_empty());
    auto* statement_flag = inspect_command->add_flag("--stmt", statement, "Print the kernel's loops");
    inspect_command->add_flag("--asm", assembly, "Print the kernel's assembly")->excludes(statement_flag);

    auto* doctor_command =
        app.add_subcommand("doctor", "Whether a kernel compiles here for each target; processor, caches, threads");
    std::vector<std::string> commands;
    for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
        commands.push_back(command->get_name());
    }
    const std::vector<std::string> answered = {"-h", "--help", "--version"};  // without a command
    const auto has = [&](const std::vector<std::string>& words) {
        return std::find(words.begin(), words.end(), argv[1]) != words.end();
    };
    if (argc >= 2 && !has(commands) && !has(answered)) {
        return refuse_command(argv[1], Words(commands.begin(), commands.end()));
    }
    CLI11_PARSE(app, argc, argv);

    try {
        if (*build_command) return run_build(b);
        if (*tune_command) return run_tune(t);
        if (*inspect_command) {
            if (statement) i.show = InspectOptions::Show::statement;
            if (assembly) i.show = InspectOptions::Show::assembly;
            std::cout << inspect(i);
            return 0;
        }
        if (*doctor_command) return doctor(std::cout);
    } catch (const std::exception& e) {
        std::cerr << "fusebn: " << e.what() << "\n";
        return 1;
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const int status = run(argc, argv);
    // Once for all that was printed: a disk may be full.
    errno = 0;
    if (std::cout.flush() || status != 0) return status;
    std::cerr << "fusebn: standard output: cannot be written" << (errno != 0 ? ": " : "")
              << (errno != 0 ? std::strerror(errno) : "") << "\n";
    return 1;
}
