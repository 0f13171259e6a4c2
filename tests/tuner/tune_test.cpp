// `fusebn tune` and what build makes of its records, end to end.
#include "tuner/tune.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <thread>

#include "compiler/build.h"
#include "compiler/files.h"
#include "compiler/plan.h"
#include "compiler/variant.h"
#include "fusebn/parallel.h"
#include "tuner/subjects.h"

using namespace fusebn;

namespace {

KernelSpec planar(Op op) { return {op, View::planar, DataType::f32, Activation::relu, Residual::none, 2, 8, 64}; }
KernelSpec rows(Op op) { return {op, View::interleaved, DataType::f32, Activation::none, Residual::none, 64, 16, 1}; }

LibrarySpec library(std::vector<SpecKernel> kernels = {{planar(Op::train_forward), "", 0},
                                                       {rows(Op::backward), "", 0}}) {
    return {"tuned_lib", {InstructionSet::x86_64}, std::move(kernels)};
}

class Tune : public testing::Test {
protected:
    TemporaryFolder directory;
    std::string records = directory / "records.jsonl";

    TuneResult run(double seconds, const LibrarySpec& spec = library()) {
        TuneOptions options;
        options.records = records;
        options.budget_seconds = seconds;
        options.quiet = true;
        std::ostringstream out;
        return tune(spec, options, out);
    }
    BuildResult built(bool strict = false) {
        BuildOptions options;
        options.directory = directory / "library";
        options.quiet = true;
        options.records = RecordBook({records}, {}, generator_version(), library().targets);
        options.strict = strict;
        return build(library(), options);
    }
    // An outcome of this machine for x86-64, appended to the records.
    void append_best(const KernelSpec& kernel, const std::string& schedule,
                     const std::string& generator = generator_version()) {
        Record r;
        r.kind = Record::Kind::best;
        r.kernel = kernel_name(kernel);
        r.isa = InstructionSet::x86_64;
        r.key = this_tuning_key();
        r.key.generator = generator;
        r.schedule = parse_schedule(schedule, {});
        RecordAppender(records).append(r);
    }
    // The variant that this processor takes.
    static const ManifestVariant& own(const ManifestKernel& kernel) {
        const ManifestVariant* variant = nullptr;
        for (const ManifestVariant& v : kernel.variants) {
            if (is_for_processor(v.processor, processor())) variant = &v;
        }
        return *variant;
    }
    static std::string origin(const Manifest& m, const KernelSpec& k) {
        for (const ManifestKernel& kernel : m.kernels) {
            if (kernel.kernel == k) return own(kernel).origin;
        }
        return "";
    }
};

TEST_F(Tune, FindsSomethingForEveryKernelOfKnownExtents) {
    const TuneResult result = run(0.1);  // a batch is ended, so the first kernel has one
    ASSERT_EQ(result.kernels.size(), 2u);
    EXPECT_FALSE(result.remarks.empty());  // of the generic kernels
    int tuned = 0;
    for (const Tuned& k : result.kernels) {
        EXPECT_EQ(k.complaint, "");
        tuned += k.best.has_value();
    }
    EXPECT_GE(tuned, 1);
    EXPECT_TRUE(read_records(records).unreadable.empty());
}

TEST_F(Tune, GoesOnWhereItStoppedAndEnds) {
    run(0.1);
    const std::size_t first = read_records(records).records.size();
    ASSERT_GT(first, 0u);
    const TuneResult result = run(600);
    for (const Tuned& k : result.kernels) {
        EXPECT_TRUE(k.over) << k.kernel;
        ASSERT_TRUE(k.best);
        EXPECT_GT(k.best->of_copy, 0);
    }
    // No schedule of a kernel is tried twice, but for the best one so far, which takes part in every generation.
    std::map<std::string, std::set<int>> generations;
    std::map<std::string, int> times;
    for (const Record& r : read_records(records).records) {
        if (r.kind == Record::Kind::trial) ++times[r.kernel + to_text(r.schedule) + std::to_string(r.generation)];
    }
    for (const auto& [what, count] : times) EXPECT_EQ(count, 1) << what;
    const std::size_t all = read_records(records).records.size();
    EXPECT_GT(all, first);
    run(600);
    EXPECT_EQ(read_records(records).records.size(), all);  // the search is over
}

TEST_F(Tune, TrialsBesideAnotherDefaultAreNotTakenUp) {
    Record r;
    r.kernel = kernel_name(planar(Op::train_forward));
    r.isa = InstructionSet::x86_64;
    r.key = this_tuning_key();
    r.schedule = parse_schedule("vector=4 unroll=2", {});
    r.beside = "vector=8 unroll=1 parallel=none task=1 block=0 prefetch=0 ahead=0 store=cached";
    r.ratio = 100;
    RecordAppender(records).append(r);
    std::vector<std::string> remarks;
    TuneOptions options;
    std::vector<Subject> subjects = subjects_of(library(), options, remarks);
    EXPECT_EQ(resume(subjects, records, remarks), 0);
    r.beside = to_text(default_schedule(planar(Op::train_forward)));
    RecordAppender(records).append(r);
    EXPECT_EQ(resume(subjects, records, remarks), 1);
}

TEST_F(Tune, AFileOfOtherThingsIsNotAppendedTo) {
    const std::string other = "[[kernel]]\nop = \"inference\"";
    write_file(records, other);
    try {
        run(0.1);
        ADD_FAILURE() << "it was taken for records";
    } catch (const std::runtime_error& e) {
        EXPECT_EQ(std::string(e.what()).rfind("--records: found no record in " + records + "; allowed: ", 0), 0u)
            << e.what();
    }
    EXPECT_EQ(read_file(records), other);
}

TEST_F(Tune, BuildTakesWhatWasFound) {
    append_best(planar(Op::train_forward), "vector=4 unroll=2");
    const Manifest m = built(true).manifest;
    EXPECT_EQ(origin(m, planar(Op::train_forward)), "tuned");
    EXPECT_EQ(origin(m, rows(Op::backward)), "default");
    for (const ManifestKernel& k : m.kernels) {
        if (!(k.kernel == planar(Op::train_forward))) continue;
        EXPECT_TRUE(own(k).schedule == parse_schedule("vector=4 unroll=2", {}));
        EXPECT_EQ(own(k).processor, this_tuning_key().processor);
        EXPECT_EQ(k.variants.front().origin, "default") << "any other processor's";
    }
    EXPECT_EQ(origin(manifest_from_json(read_file(directory / "library/tuned_lib.json")), planar(Op::train_forward)),
              "tuned");
}

TEST_F(Tune, AStaleRecordIsUsedAndSaidAndRefusedWhenStrict) {
    append_best(rows(Op::backward), "vector=4 unroll=2", "fusebn 0.0.1, Halide 1.0.0, LLVM 1.0.0");
    EXPECT_EQ(origin(built().manifest, rows(Op::backward)), "stale");
    try {
        built(true);
        FAIL() << "--strict let a stale record pass";
    } catch (const std::runtime_error& e) {
        EXPECT_NE(std::string(e.what()).find("--strict"), std::string::npos);
        EXPECT_NE(std::string(e.what()).find(kernel_name(rows(Op::backward))), std::string::npos) << e.what();
    }
}

TEST_F(Tune, AScheduleThatIsNotLegalIsNotUsed) {
    append_best(rows(Op::backward), "parallel=channels");
    const Manifest m = built().manifest;
    EXPECT_EQ(origin(m, rows(Op::backward)), "stale");
    for (const ManifestKernel& k : m.kernels) {
        if (!(k.kernel == rows(Op::backward))) continue;
        EXPECT_TRUE(own(k).schedule == default_schedule(k.kernel));
    }
}

TEST_F(Tune, SaysWhatCannotBeTuned) {
    const KernelSpec any{Op::inference, View::interleaved, DataType::f32, Activation::none, Residual::none, -1, 16, 1};
    EXPECT_THROW(run(1, library({{any, "", 0}})), std::runtime_error);
    EXPECT_THROW(run(1, library({{rows(Op::inference), "vector=4", 0}})), std::runtime_error);
    LibrarySpec device = library();
    device.targets = {InstructionSet::cuda_sm_90};
    EXPECT_THROW(run(1, device), std::runtime_error);
    KernelSpec huge = planar(Op::inference);
    huge.outer = 1 << 20;
    huge.channels = 1 << 10;
    huge.inner = 1 << 10;
    const TuneResult result = run(1, library({{huge, "", 0}}));
    EXPECT_EQ(result.kernels.at(0).complaint, "its tensors do not fit this machine's memory");
}

TEST_F(Tune, ADeviceThatIsNotHereIsSaid) {
    setenv("FUSEBN_LIBCUDA", "/nowhere/libcuda.so.1", 1);
    LibrarySpec spec = library();
    spec.targets = {InstructionSet::x86_64, InstructionSet::cuda_sm_90};
    std::vector<std::string> remarks;
    EXPECT_EQ(subjects_of(spec, {}, remarks).size(), 2u);
    const std::string absent = "cuda-sm_90: no device here (the CUDA driver cannot be loaded (/nowhere/libcuda.so.1";
    EXPECT_EQ(remarks.at(0).find(absent), 0u) << remarks[0];
    EXPECT_NE(remarks[0].find("; not tuned"), std::string::npos);
    spec.targets = {InstructionSet::cuda_sm_90};
    try {
        run(1, spec);
        FAIL() << "there was nothing to tune";
    } catch (const std::runtime_error& e) {
        EXPECT_NE(std::string(e.what()).find("--targets"), std::string::npos) << e.what();
        EXPECT_NE(std::string(e.what()).find(absent), std::string::npos) << e.what();
    }
    unsetenv("FUSEBN_LIBCUDA");
}

TEST_F(Tune, OfCudasTargetsTheBestThatTheDeviceRunsIsTuned) {
    setenv("FUSEBN_LIBCUDA", FAKE_CUDA, 1);  // of compute capability 9.0
    LibrarySpec spec = library();
    spec.targets = {InstructionSet::x86_64, InstructionSet::cuda_sm_80, InstructionSet::cuda_sm_90,
                    InstructionSet::cuda_sm_100};
    std::vector<std::string> remarks;
    std::multiset<InstructionSet> tuned;
    for (const Subject& s : subjects_of(spec, {}, remarks)) {
        tuned.insert(s.isa);
        EXPECT_EQ(s.key.threads == 0, is_device(s.isa));
        EXPECT_EQ(machine_text(s.key) == "Fake GPU", is_device(s.isa));
    }
    EXPECT_EQ(tuned.count(InstructionSet::x86_64), 2u);
    EXPECT_EQ(tuned.count(InstructionSet::cuda_sm_90), 2u);
    EXPECT_EQ(tuned.size(), 4u);
    EXPECT_EQ(remarks.at(0), "cuda-sm_100: no device here (Fake GPU does not run kernels of cuda-sm_100); not tuned");
    TuneOptions all;
    all.all_targets = true;
    EXPECT_EQ(subjects_of(spec, all, remarks).size(), 6u);
    unsetenv("FUSEBN_LIBCUDA");
}

TEST_F(Tune, ADevicesSchedulesAreSearchedRecordedResumedAndBuilt) {
    const TargetHere here = target_here(InstructionSet::opencl);
    if (!here.key) GTEST_SKIP() << here.missing;
    LibrarySpec spec = library({{rows(Op::backward), "", 0}});
    spec.targets = {InstructionSet::opencl};
    const TuneResult first = run(0.1, spec);  // a batch is ended
    ASSERT_EQ(first.keys.size(), 1u);
    EXPECT_EQ(machine_text(first.keys[0]), machine_text(*here.key));
    EXPECT_EQ(first.kernels.at(0).complaint, "");
    run(0.1, spec);
    Schedule best;
    std::map<std::string, int> first_tries;
    for (const Record& r : read_records(records).records) {
        EXPECT_EQ(r.isa, InstructionSet::opencl);
        EXPECT_EQ(machine_text(r.key), machine_text(*here.key));
        EXPECT_TRUE(is_legal(r.schedule, rows(Op::backward)));
        EXPECT_GT(r.schedule.threads, 0);
        EXPECT_EQ(r.failure, "");
        if (r.kind == Record::Kind::best) best = r.schedule;
        if (r.kind == Record::Kind::trial) first_tries.try_emplace(to_text(r.schedule), r.generation);
    }
    // The second call has gone on with others.
    for (const int generation : {0, 1}) {
        EXPECT_EQ(std::count_if(first_tries.begin(), first_tries.end(),
                                [&](const auto& tried) { return tried.second == generation; }),
                  7)
            << generation;
    }

    const RecordBook book({records}, {}, generator_version(), spec.targets);
    EXPECT_TRUE(book.remarks().empty());
    for (const ManifestKernel& k : plan(spec, {}, book)) {
        if (!(k.kernel == rows(Op::backward))) continue;
        EXPECT_EQ(k.variants.at(0).origin, "tuned");
        EXPECT_TRUE(k.variants[0].schedule == best);
    }
}

TEST_F(Tune, KilledItLosesTheTrialsUnderWayAlone) {
    const std::string spec = directory / "tuned_lib.toml";
    write_file(
        spec, "[[kernel]]\nop = [\"inference\", \"train_forward\", \"backward\"]\nlayout = \"NC\"\nshape = [64, 16]\n");
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
        execl(FUSEBN_TOOL, FUSEBN_TOOL, "tune", spec.c_str(), "--records", records.c_str(), "--budget", "10m", "-q",
              static_cast<char*>(nullptr));
        _exit(127);
    }
    std::size_t before = 0;
    for (int i = 0; i < 600 && before < 12; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        std::ifstream in(records);
        before = 0;
        for (std::string line; std::getline(in, line);) ++before;
    }
    kill(pid, SIGKILL);
    int status = 0;
    waitpid(pid, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "it ended by itself, with " << before << " records";
    ASSERT_GE(before, 12u);
    const RecordFile file = read_records(records);
    EXPECT_GE(file.records.size(), before - 1);
    EXPECT_LE(file.unreadable.size(), 1u);
    // Its processes have gone with it: nobody holds the file.
    bool free = false;
    for (int i = 0; i < 100 && !free; ++i) {
        try {
            RecordAppender appender(records);
            free = true;
        } catch (const std::runtime_error&) {
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
        }
    }
    EXPECT_TRUE(free);
}

}  // namespace
