// The fusebn command.

#include <CLI/CLI.hpp>
#include <chrono>
#include <iomanip>
#include <iostream>

#include "compiler/build.h"
#include "compiler/doctor.h"
#include "compiler/import.h"
#include "compiler/inspect.h"
#include "compiler/spec.h"

namespace {

using namespace fusebn;

struct BuildArguments {
    std::string spec, name;
    std::vector<std::string> targets;
    BuildOptions options;
};

int run_build(const BuildArguments& a) {
    const auto start = std::chrono::steady_clock::now();
    LibrarySpec spec = read_spec(a.spec, a.name);
    if (!a.targets.empty()) spec.targets = parse_targets(a.targets, "--targets");
    const BuildResult result = build(spec, a.options);
    if (a.options.quiet) return 0;
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
    if (result.ptx_alone) {
        std::cout
            << "no ptxas was found: the CUDA kernels hold PTX alone, which the driver compiles when they are first "
               "used; FUSEBN_PTXAS or a CUDA toolkit's bin on PATH gives them machine code\n";
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
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
    build_command->add_option("--name", b.name, "Library name, instead of the spec's");
    build_command
        ->add_option("--targets", b.targets,
                     "Targets, instead of the spec's: x86-64, x86-64-avx2, "
                     "x86-64-avx512, host")
        ->delimiter(',');
    build_command->add_option("-j,--jobs", b.options.jobs, "Kernels compiled at once (default: one a CPU)")
        ->check(CLI::Range(1, 1024));
    build_command->add_option("--l1", b.options.caches.l1, "Cache model: L1 data cache of a core")
        ->transform(CLI::AsSizeValue(false))
        ->check(CLI::Range(std::int64_t{1024}, std::int64_t{1} << 40))
        ->capture_default_str();
    build_command->add_option("--l2", b.options.caches.l2, "Cache model: L2 cache of a core")
        ->transform(CLI::AsSizeValue(false))
        ->check(CLI::Range(std::int64_t{1024}, std::int64_t{1} << 40))
        ->capture_default_str();
    build_command->add_option("--l3", b.options.caches.l3, "Cache model: L3 cache, shared")
        ->transform(CLI::AsSizeValue(false))
        ->check(CLI::Range(std::int64_t{1024}, std::int64_t{1} << 40))
        ->capture_default_str();
    build_command->add_flag("-q,--quiet", b.options.quiet, "Print errors only");

    app.add_subcommand("import", "Write a spec from an ONNX model (`fusebn import --help`)");

    InspectOptions i;
    bool statement = false, assembly = false;
    auto* inspect_command = app.add_subcommand("inspect", "Print a library's kernels, or the code of one");
    inspect_command->add_option("library", i.library, "lib<name>.a or <name>.json")->required();
    inspect_command->add_option("--kernel", i.kernel, "A kernel's name, or a part that only one has");
    inspect_command->add_option("--target", i.target, "Which target's code (default: the highest built)");
    auto* statement_flag = inspect_command->add_flag("--stmt", statement, "Print the kernel's loops");
    inspect_command->add_flag("--asm", assembly, "Print the kernel's assembly")->excludes(statement_flag);

    auto* doctor_command = app.add_subcommand("doctor", "Check what fusebn needs on this machine");
    CLI11_PARSE(app, argc, argv);

    try {
        if (*build_command) return run_build(b);
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
