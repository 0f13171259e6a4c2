// The algorithms as Halide's own autoschedulers would loop them, beside fusebn's default schedules: through the same
// code generation, the same checks and the same calls (tuner/trial.h).
#include <CLI/CLI.hpp>
#include <cmath>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "compiler/emit.h"
#include "compiler/files.h"
#include "compiler/job_pool.h"
#include "compiler/lower.h"
#include "compiler/plan.h"
#include "compiler/variant.h"
#include "fusebn/parallel.h"
#include "tuner/trial.h"

namespace {

using namespace fusebn;

const std::pair<const char*, const char*> autoschedulers[] = {
    {"Mullapudi2016", "mullapudi2016"}, {"Li2018", "li2018"}, {"Adams2019", "adams2019"}};

struct Arguments {
    std::string spec, kernels, json;
};

CompiledVariant variant_in(const TemporaryFolder& folder, const std::string& name, const KernelSpec& spec,
                           InstructionSet isa, const Schedule& schedule) {
    CompiledVariant v;
    v.variant = {isa, schedule, "", symbol_name("autoscheduled", spec, isa), 0};
    v.object = folder / (name + ".o");
    return v;
}

nlohmann::ordered_json compare(const ManifestKernel& kernel, InstructionSet isa) {
    const TemporaryFolder folder;
    const KernelSpec& spec = kernel.kernel;
    Batch batch;
    batch.kernel = kernel;
    batch.threads = num_threads();
    std::vector<std::string> names = {"fusebn"};
    std::vector<Job> jobs;
    const auto by_schedule = [&](const CompiledVariant& v, const ManifestKernel& k) {
        return Job{k.kernel.op == spec.op ? "default" : "forward",
                   [v, k] { write_file(v.object, compile(k, v.variant, std::nullopt)); }};
    };
    const CacheModel caches = model_for(processor(), {});
    const CompiledVariant ours = variant_in(folder, "fusebn", spec, isa, default_schedule(spec, caches));
    jobs.push_back(by_schedule(ours, kernel));
    if (spec.op == Op::backward) {
        ManifestKernel forward = kernel;
        forward.kernel.op = Op::train_forward;
        batch.forward = variant_in(folder, "forward", forward.kernel, isa, default_schedule(forward.kernel, caches));
        jobs.push_back(by_schedule(*batch.forward, forward));
    }
    const std::size_t first = jobs.size();
    std::vector<CompiledVariant> theirs;
    for (const auto& [name, plugin] : autoschedulers) {
        const CompiledVariant v = variant_in(folder, plugin, spec, isa, {});
        theirs.push_back(v);
        names.push_back(name);
        const Autoscheduler autoscheduler{name, std::string(HALIDE_PLUGINS) + "/libautoschedule_" + plugin + ".so",
                                          batch.threads};
        jobs.push_back({name, [v, autoscheduler, spec, isa, large = kernel.large] {
                            write_file(v.object, emit_kernel(lower_autoscheduled(spec, autoscheduler, isa, large), isa,
                                                             v.variant.symbol, Emit::object)
                                                     .bytes);
                        }});
    }
    const std::vector<std::string> failures =
        run_all_jobs(jobs, static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
    for (std::size_t i = 0; i < first; ++i) {
        if (!failures[i].empty()) throw std::runtime_error(jobs[i].name + ": " + failures[i]);
    }
    batch.candidates = {ours};
    std::vector<std::string> timed = {"fusebn"};
    nlohmann::ordered_json row = {{"kernel", kernel_name(spec)}, {"target", to_string(isa)}};
    for (std::size_t i = 0; i < theirs.size(); ++i) {
        const std::string& failure = failures[first + i];
        if (failure.empty()) {
            batch.candidates.push_back(theirs[i]);
            timed.push_back(names[i + 1]);
        } else {
            row["autoschedulers"][names[i + 1]] = {{"failure", failure}};
        }
    }
    const BatchResult measured = run_batch(batch);
    if (!measured.complaint.empty()) throw std::runtime_error(measured.complaint);
    row["ms"] = measured.trials[0].ms;
    for (std::size_t i = 1; i < timed.size(); ++i) {
        const Trial& t = measured.trials[i];
        row["autoschedulers"][timed[i]] = t.failure.empty() ? nlohmann::ordered_json{{"ms", t.ms}, {"ratio", t.ratio}}
                                                            : nlohmann::ordered_json{{"failure", t.failure}};
    }
    return row;
}

void print(const nlohmann::ordered_json& row) {
    std::cout << row["kernel"].get<std::string>() << ": fusebn " << row["ms"].get<double>() << " ms\n";
    for (const auto& [name, result] : row["autoschedulers"].items()) {
        std::cout << "    " << name << ": ";
        if (result.contains("failure")) {
            std::cout << result["failure"].get<std::string>().substr(0, 200) << "\n";
        } else {
            std::cout << result["ms"].get<double>() << " ms, " << result["ratio"].get<double>()
                      << " of fusebn's speed\n";
        }
    }
    std::cout.flush();
}

int run(const Arguments& a) {
    LibrarySpec spec = read_spec(a.spec);
    spec.targets = {instruction_set()};
    std::ofstream json(a.json);
    bool any = false;
    for (const ManifestKernel& k : plan(spec, {})) {
        const KernelSpec& s = k.kernel;
        if (s.outer == any_extent || s.channels == any_extent || s.inner == any_extent) continue;
        if (kernel_name(s).find(a.kernels) == std::string::npos) continue;
        const nlohmann::ordered_json row = compare({s, k.large, {}}, instruction_set());
        print(row);
        json << row.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n" << std::flush;
        any = true;
    }
    if (!any) throw std::runtime_error("no kernel of known extents has a name with \"" + a.kernels + "\" in it");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    Arguments a;
    CLI::App app("Times Halide's autoschedulers on the kernels of a spec, beside fusebn's default schedules");
    app.add_option("spec", a.spec, "The spec (TOML)")->required()->check(CLI::ExistingFile);
    app.add_option("--kernels", a.kernels, "A part of kernels' names");
    app.add_option("--json", a.json, "Write the rows to this file, a JSON object a line");
    CLI11_PARSE(app, argc, argv);
    try {
        return run(a);
    } catch (const std::exception& e) {
        std::cerr << "fusebn_autoschedulers: " << e.what() << "\n";
        return 1;
    }
}
