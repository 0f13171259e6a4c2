// Record files: what is written is read back, and what is damaged, foreign or old is told from what is not.
#include "compiler/records.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "compiler/files.h"
#include "compiler/variant.h"

using namespace fusebn;

namespace {

KernelSpec kernel() {
    return {Op::inference, View::planar, DataType::f32, Activation::relu, Residual::none, 4, 16, 256};
}

Record record(const std::string& schedule = "vector=8") {
    Record r;
    r.kind = Record::Kind::best;
    r.kernel = kernel_name(kernel());
    r.isa = InstructionSet::x86_64_avx2;
    r.key = this_tuning_key();
    r.schedule = parse_schedule(schedule, {});
    r.ms = 0.125;
    r.ratio = 1.5;
    r.ratio_low = 1.25;
    r.ratio_high = 1.75;
    r.of_copy = 0.5;
    r.generation = 3;
    r.time = "2026-11-26T17:15:29Z";
    return r;
}

Record of_machine(const std::string& machine, const std::string& processor = this_tuning_key().processor) {
    Record r = record();
    r.key.machine = machine;
    r.key.processor = processor;
    return r;
}

constexpr char bulldozer[] = "AuthenticAMD family 21 model 2", skylake[] = "GenuineIntel family 6 model 85";

class Records : public testing::Test {
protected:
    TemporaryFile file;
    std::string path = file.path();
    void write(const std::string& text) { write_file(path, text); }
    void append(const std::vector<Record>& records) {
        RecordAppender appender(path);
        for (const Record& r : records) appender.append(r);
    }
    static auto found(const RecordBook& book, InstructionSet isa = InstructionSet::x86_64_avx2) {
        return book.find(kernel(), isa, this_tuning_key().processor);
    }
    RecordBook book(const std::vector<std::string>& tuned_on = {}) {
        return RecordBook({path}, tuned_on, generator_version(),
                          {InstructionSet::x86_64_avx2, InstructionSet::cuda_sm_90});
    }
};

TEST_F(Records, ARecordIsReadBackAsItWas) {
    Record failed = record("vector=4 threads=0 store=stream");
    failed.kind = Record::Kind::trial;
    failed.failure = "wrong: its \"bits\" are not\nthe default's";
    append({record(), failed});
    const RecordFile read = read_records(path);
    EXPECT_TRUE(read.unreadable.empty());
    ASSERT_EQ(read.records.size(), 2u);
    EXPECT_EQ(to_json(read.records[0]), to_json(record()));
    EXPECT_EQ(to_json(read.records[1]), to_json(failed));
    EXPECT_EQ(read.records[1].failure, failed.failure);
    EXPECT_EQ(read.records[0].ratio_low, 1.25);
}

TEST_F(Records, ALineThatWasTornCostsItselfAlone) {
    append({record()});
    const std::string whole = read_file(path);
    write(whole + whole.substr(0, whole.size() / 2));
    append({record("vector=4")});
    const RecordFile read = read_records(path);
    EXPECT_EQ(read.unreadable, std::vector<int>{2});
    ASSERT_EQ(read.records.size(), 2u);
    EXPECT_EQ(read.records[1].schedule.vector, 4);
    ASSERT_EQ(book().remarks().size(), 1u);
    EXPECT_NE(book().remarks()[0].find("line 2"), std::string::npos);
}

TEST_F(Records, WhatIsNoRecordIsPassedOver) {
    const std::string good = to_json(record());
    const auto with = [&](const std::string& from, const std::string& to) {
        std::string line = good;
        line.replace(line.find(from), from.size(), to);
        return line;
    };
    for (const std::string& bad :
         {std::string("{}"), std::string("[1, 2]"), std::string("x"), with("\"best\"", "\"worst\""),
          with("x86-64-avx2", "z80"), with("vector=8", "vector=eight"), with("vector=8", "wings=2"),
          with("\"threads\":", "\"threads\":\"two\",\"t\":"), with("\"processor\":", "\"p\":"),
          with(" family ", " tribe "), with(this_tuning_key().processor, ""), std::string(10000, '[')}) {
        EXPECT_FALSE(record_from_json(bad)) << bad.substr(0, 200);
    }
    EXPECT_TRUE(record_from_json(good));
}

TEST_F(Records, AFileOfOtherThingsIsToldFromRecordsThatWereTorn) {
    const auto is_foreign = [&](const std::string& text) {
        write(text);
        return read_records(path).is_foreign;
    };
    EXPECT_TRUE(is_foreign("[[kernel]]\nop = \"inference\"\n"));
    EXPECT_TRUE(is_foreign("\n\n"));
    EXPECT_TRUE(is_foreign(std::string("\0\xff\x7f", 3)));
    EXPECT_TRUE(is_foreign(std::string(100000, '[')));
    EXPECT_FALSE(is_foreign(""));
    EXPECT_FALSE(is_foreign(to_json(record()).substr(0, 30)));  // all that a tuner that was killed has left
    EXPECT_FALSE(is_foreign("other\n" + to_json(record()) + "\n"));
}

TEST_F(Records, ABookOfAFileWithoutARecordIsRefused) {
    const auto said = [&](const std::string& text) -> std::string {
        write(text);
        try {
            book();
        } catch (const std::runtime_error& e) {
            return e.what();
        }
        return "";
    };
    const std::string none =
        "--records: found no record in " + path + "; allowed: what `fusebn tune` wrote, or an empty file";
    EXPECT_EQ(said("name = \"x\"\n"), none);
    EXPECT_EQ(said("\n"), none);
    EXPECT_EQ(said(to_json(record()).substr(0, 30)), none);
    EXPECT_EQ(said(""), "");
}

TEST_F(Records, AFileWithoutAnEndIsRefused) {
    try {
        read_records("/dev/zero");
        FAIL() << "it has an end";
    } catch (const std::runtime_error& e) {
        EXPECT_EQ(std::string(e.what()), "/dev/zero: found more than 268435456 bytes; allowed: that many at most");
    }
}

TEST_F(Records, OneTunerAtATimeWritesToAFile) {
    RecordAppender first(path);
    try {
        RecordAppender second(path);
        FAIL() << "a second appender was let in";
    } catch (const std::runtime_error& e) {
        EXPECT_EQ(std::string(e.what()), path + ": another `fusebn tune` writes to it");
    }
}

TEST_F(Records, AFileThatCannotBeReadOrWrittenIsNamed) {
    const auto message = [](const auto& f) -> std::string {
        try {
            f();
        } catch (const std::runtime_error& e) {
            return e.what();
        }
        return "";
    };
    EXPECT_EQ(message([] { read_records("/no/such/file"); }),
              "/no/such/file: cannot be read: No such file or directory");
    EXPECT_EQ(message([] { RecordAppender("/no/such/file"); }),
              "/no/such/file: cannot be written: No such file or directory");
}

TEST_F(Records, TheBookGivesTheLatestOutcomeForAKernelAndTarget) {
    Record trial = record("vector=32");
    trial.kind = Record::Kind::trial;
    Record other_target = record("vector=16 unroll=8");
    other_target.isa = InstructionSet::x86_64;
    append({record("vector=4"), record("vector=8"), other_target, trial});
    const auto latest = found(book());
    ASSERT_TRUE(latest);
    EXPECT_EQ(latest->record.schedule.vector, 8);
    EXPECT_FALSE(latest->stale);
    EXPECT_FALSE(found(book(), InstructionSet::x86_64_avx512));
    KernelSpec other = kernel();
    other.outer = 5;
    EXPECT_FALSE(book().find(other, InstructionSet::x86_64_avx2, this_tuning_key().processor));
}

TEST_F(Records, RecordsOfOtherVersionsAreStaleAndComeSecond) {
    Record old = record("vector=4");
    old.key.generator = "fusebn 0.0.1, Halide 20.0.0, LLVM 21.0.0";
    append({old});
    ASSERT_TRUE(found(book()));
    EXPECT_TRUE(found(book())->stale);
    append({record("vector=8"), old});
    const auto latest = found(book());
    ASSERT_TRUE(latest);
    EXPECT_FALSE(latest->stale);
    EXPECT_EQ(latest->record.schedule.vector, 8);
}

TEST_F(Records, ThoseOfEveryProcessorCountForIt) {
    append({of_machine("Bulldozer 8, L1 16 KB", bulldozer), of_machine("Skylake, L1 32 KB", skylake)});
    const RecordBook both = book();
    EXPECT_EQ(both.processors(), (std::set<std::string>{bulldozer, skylake}));
    ASSERT_TRUE(both.find(kernel(), InstructionSet::x86_64_avx2, skylake));
    EXPECT_EQ(both.find(kernel(), InstructionSet::x86_64_avx2, skylake)->record.key.machine, "Skylake, L1 32 KB");
    EXPECT_TRUE(both.find(kernel(), InstructionSet::x86_64_avx2, bulldozer));
    EXPECT_FALSE(found(both));
    ASSERT_EQ(both.remarks().size(), 1u);
    EXPECT_NE(both.remarks()[0].find("no record is of this machine"), std::string::npos);
    EXPECT_NE(both.remarks()[0].find("Bulldozer 8"), std::string::npos);
    // Those that are named, and no others.
    EXPECT_EQ(book({"dozer"}).processors(), std::set<std::string>{bulldozer});
    EXPECT_EQ(book({"dozer", "Sky"}).processors().size(), 2u);
    EXPECT_THROW(book({"8086"}), std::runtime_error);
}

TEST_F(Records, OfMachinesWithOneProcessorOneCounts) {
    append({of_machine("Bulldozer 8, L1 16 KB", bulldozer), of_machine("Bulldozer 8, L1 32 KB", bulldozer)});
    try {
        book();
        FAIL() << "which of the two?";
    } catch (const std::runtime_error& e) {
        const std::string said = e.what();
        EXPECT_EQ(said.find("--tuned-on: several machines have the processor " + std::string(bulldozer)), 0u) << said;
        EXPECT_NE(said.find("Bulldozer 8, L1 32 KB"), std::string::npos) << said;
    }
    ASSERT_TRUE(book({"L1 32"}).find(kernel(), InstructionSet::x86_64_avx2, bulldozer));
    EXPECT_EQ(book({"L1 32"}).find(kernel(), InstructionSet::x86_64_avx2, bulldozer)->record.key.machine,
              "Bulldozer 8, L1 32 KB");
}

TEST_F(Records, ThisMachineComesBeforeOthersWithItsProcessor) {
    Record other = of_machine("Twin");
    other.schedule.vector = 4;
    append({other});
    ASSERT_TRUE(found(book()));
    EXPECT_EQ(found(book())->record.schedule.vector, 4);
    ASSERT_EQ(book().remarks().size(), 1u);
    EXPECT_NE(book().remarks()[0].find("of one with its processor there are:\n  Twin"), std::string::npos)
        << book().remarks()[0];
    append({record("vector=16"), other});
    EXPECT_EQ(found(book())->record.schedule.vector, 16);
    EXPECT_TRUE(book().remarks().empty());
    EXPECT_EQ(found(book({"Twin"}))->record.schedule.vector, 4);
}

TEST(ShippedRecords, AreOutcomesThatCanBeRead) {
    int files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(SHIPPED_RECORDS)) {
        const RecordFile read = read_records(entry.path());
        EXPECT_TRUE(read.unreadable.empty()) << entry.path();
        EXPECT_FALSE(read.records.empty()) << entry.path();
        for (const Record& r : read.records) {
            EXPECT_EQ(r.kind, Record::Kind::best) << r.kernel;
            EXPECT_EQ(machine_text(r.key), machine_text(read.records.front().key)) << "a file a machine";
            EXPECT_EQ(r.key.processor, read.records.front().key.processor);
        }
        ++files;
    }
    EXPECT_GT(files, 0);
}

TEST_F(Records, ThreadsArePartOfTheMachine) {
    Record r = record();
    r.key.threads += 1;
    append({r, record()});
    EXPECT_EQ(found(book())->record.key.threads, this_tuning_key().threads);
}

Record of_device(const std::string& name, InstructionSet isa = InstructionSet::cuda_sm_90) {
    Record r = record("vector=4 parallel=rows threads=256");
    r.isa = isa;
    r.key.machine = name;
    r.key.threads = 0;
    r.key.processor = "";
    return r;
}

TEST_F(Records, ADevicesHaveNoThreadsOfTheHostAndAScheduleOfADevice) {
    const std::string line = to_json(of_device("NVIDIA H100 80GB HBM3"));
    EXPECT_EQ(line.find("\"threads\""), std::string::npos) << line;
    const auto read = record_from_json(line);
    ASSERT_TRUE(read);
    EXPECT_EQ(to_json(*read), line);
    EXPECT_EQ(machine_text(read->key), "NVIDIA H100 80GB HBM3");
    const auto with_target = [](const std::string& json, const std::string& from, const std::string& to) {
        std::string other = json;
        return other.replace(other.find(from), from.size(), to);
    };
    EXPECT_FALSE(record_from_json(with_target(line, "cuda-sm_90", "x86-64-avx2")));
    EXPECT_FALSE(record_from_json(with_target(to_json(record()), "x86-64-avx2", "cuda-sm_90")));
}

TEST_F(Records, OfEachKindOfDeviceOneCounts) {
    setenv("FUSEBN_LIBCUDA", "/nowhere/libcuda.so.1", 1);
    append({record(), of_device("GPU 4070"), of_device("GPU 4070 Ti"), of_device("Bulldozer")});
    const auto cuda = [&](const std::vector<std::string>& tuned_on) {
        return book(tuned_on).find(kernel(), InstructionSet::cuda_sm_90);
    };
    // No GPU is this machine's.
    EXPECT_FALSE(cuda({}));
    ASSERT_EQ(book().remarks().size(), 1u);
    EXPECT_NE(book().remarks()[0].find("no device here"), std::string::npos) << book().remarks()[0];
    EXPECT_NE(book().remarks()[0].find("GPU 4070 Ti"), std::string::npos);
    // A GPU that is named, and all CPUs.
    ASSERT_TRUE(cuda({"4070 Ti"}));
    EXPECT_EQ(cuda({"4070 Ti"})->record.key.machine, "GPU 4070 Ti");
    EXPECT_TRUE(found(book({"4070 Ti"})));
    EXPECT_TRUE(book({"4070 Ti"}).remarks().empty());
    // A whole name is no part of another.
    ASSERT_TRUE(cuda({"GPU 4070"}));
    EXPECT_EQ(cuda({"GPU 4070"})->record.key.machine, "GPU 4070");
    EXPECT_THROW(cuda({"4070"}), std::runtime_error);
    EXPECT_THROW(cuda({"4070 Ti", "Bulldozer"}), std::runtime_error);
    // A CPU and a GPU.
    append({of_machine("Bulldozer 8", bulldozer)});
    ASSERT_TRUE(cuda({"Bulldozer 8", "4070 Ti"}));
    EXPECT_EQ(book({"Bulldozer 8", "4070 Ti"}).processors(), std::set<std::string>{bulldozer});
    // A library for CPUs has no device to be asked about.
    EXPECT_TRUE(RecordBook({path}, {}, generator_version(), {InstructionSet::x86_64_avx2}).remarks().empty());
    unsetenv("FUSEBN_LIBCUDA");
}

}  // namespace
