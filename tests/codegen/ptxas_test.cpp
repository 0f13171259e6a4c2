// What ptxas makes of the kernels, beside a table that is kept: a change of an algorithm or a schedule that costs
// registers, shared memory or spills shows as a change of it. Alone in its program: Halide numbers names as they come.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <set>
#include <sstream>
#include <thread>

#include "codegen/generated.h"
#include "compiler/device_report.h"
#include "compiler/emit.h"
#include "compiler/job_pool.h"
#include "compiler/variant.h"

using namespace fusebn;
using namespace codegen;

namespace {

const std::string table = FUSEBN_PTXAS_TABLE;
const char* const refresh = "FUSEBN_REFRESH=1 build/venv/bin/ctest --preset release -R PtxasTable";

// Every operation planar (split and staged) and interleaved; the types; residuals; extents known at run time.
std::vector<KernelSpec> kernels() {
    constexpr auto inference = Op::inference, train = Op::train_forward, backward = Op::backward;
    constexpr auto none = Residual::none, add = Residual::add, two = Residual::batch_norm;
    constexpr std::int64_t any = any_extent;
    std::vector<KernelSpec> all;
    for (const DataType dtype : {DataType::f32, DataType::bf16}) {
        for (const Op op : {inference, train, backward}) {
            all.push_back(with(planar(op, 32, 64, 3136), none, dtype));
            if (op != inference) all.push_back(with(planar(op, 64, 64, 64), none, dtype));
            all.push_back(with(interleaved(op, 100352, 64), none, dtype));
        }
    }
    all.push_back(with(interleaved(inference, 100352, 64), none, DataType::f16));
    all.push_back(with(planar(train, 64, 64, 64), none, DataType::f16));
    all.push_back(with(planar(backward, 32, 64, 3136), none, DataType::f16));
    all.push_back(with(planar(backward, 64, 64, 64), add, DataType::f32));
    all.push_back(with(interleaved(backward, 802816, 256, Activation::silu), two, DataType::f32));
    all.push_back(with(planar(backward, any, any, any), none, DataType::f32));
    return all;
}

// A line for each function: "bn_... cuda-sm_80   48 registers ... threads  _kernel_dx_...".
std::vector<std::string> assembled(const std::string& ptxas) {
    const TemporaryDirectory folder;
    std::vector<std::string> names, files;
    std::vector<Job> jobs;
    for (const KernelSpec& k : kernels()) {
        for (const InstructionSet isa :
             {InstructionSet::cuda_sm_80, InstructionSet::cuda_sm_90, InstructionSet::cuda_sm_100}) {
            const ManifestVariant v{isa, default_gpu_schedule(k, gpu_model(isa)), "default",
                                    symbol_name("table", k, isa), 0};
            names.push_back(kernel_name(k) + " " + std::string(to_string(isa)));
            files.push_back(folder / v.symbol);
            jobs.push_back({names.back(), [k, v, ptxas, file = files.back()] {
                                write_file(file, compile({k, needs_large(k), {}}, v, ptxas));
                            }});
        }
    }
    const int at_once = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    const std::string failure = run_jobs(jobs, at_once, [](int, const Job&) {});
    if (!failure.empty()) throw std::runtime_error(failure);
    std::vector<std::string> lines;
    for (std::size_t i = 0; i < files.size(); ++i) {
        for (const DeviceFunction& f : device_functions(read_file(files[i]))) {
            lines.push_back(names[i] + " " + to_text(f));
        }
    }
    return lines;
}

std::string first_line(const std::string& version) {
    return "# ptxas " + version + "; " + refresh + " writes this table again";
}

std::vector<std::string> lines_of(const std::string& path) {
    std::vector<std::string> all;
    std::istringstream in(read_file(path));
    for (std::string line; std::getline(in, line);) all.push_back(line);
    return all;
}

// The lines of `a` that `b` has not.
std::string only_in(const std::vector<std::string>& a, const std::vector<std::string>& b) {
    const std::set<std::string> others(b.begin(), b.end());
    std::string all;
    for (const std::string& line : a) all += others.count(line) ? "" : "\n  " + line;
    return all;
}

TEST(PtxasTable, IsWhatTheKernelsTake) {
    const std::optional<std::string> ptxas = find_ptxas();
    if (!ptxas) GTEST_SKIP() << "no ptxas: a CUDA toolkit's, or FUSEBN_PTXAS";
    const std::string head = first_line(ptxas_version(*ptxas));
    const char* const wanted = std::getenv("FUSEBN_REFRESH");
    if (wanted && *wanted) {
        std::string text = head + "\n";
        for (const std::string& line : assembled(*ptxas)) text += line + "\n";
        write_file(table, text);
        std::cout << table << " is written\n";
        return;
    }
    std::vector<std::string> kept = lines_of(table);
    ASSERT_FALSE(kept.empty()) << table;
    if (kept.front() != head) {
        GTEST_SKIP() << table << " was made with \"" << kept.front() << "\", and here is ptxas "
                     << ptxas_version(*ptxas);
    }
    kept.erase(kept.begin());
    const std::vector<std::string> found = assembled(*ptxas);
    EXPECT_TRUE(kept == found) << "the table has:" << only_in(kept, found)
                               << "\nthe kernels take:" << only_in(found, kept)
                               << "\nwhere that is meant to be: " << refresh;
}

}  // namespace
