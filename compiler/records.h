// What tuning found: a file of JSON lines that is only ever appended to, so files of several machines can be
// concatenated. docs/tuning.md describes the fields.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "compiler/tuning_key.h"
#include "schedules/schedule.h"

namespace fusebn {

struct Record {
    enum class Kind {
        trial,  // one schedule, measured beside the default
        best    // the outcome for a kernel so far: the final between the best schedule and the default
    };
    Kind kind = Kind::trial;
    std::string kernel;  // kernel_name()
    InstructionSet isa = InstructionSet::x86_64;
    TuningKey key;
    Schedule schedule;
    // The default's text, which the ratio is beside: another cache model has another default. "": not known.
    std::string beside;
    std::string failure;  // of a trial: why it was not timed; "" where it was
    double ms = 0;        // median
    double ratio = 0;     // the default's time over this one's: the median of pairs, and its quartiles
    double ratio_low = 0, ratio_high = 0;
    double of_copy = 0;         // a copy's time over this one's, bytes as docs/tuning.md says; 0: not measured
    bool within_noise = false;  // of a best: no schedule was shown to be faster than the default, which this is
    int generation = 0;
    std::string time;  // UTC, "2026-11-26T17:15:29Z"
};

// One line, without its end.
std::string to_json(const Record& record);
// Nothing where the line is none, or one of a later version.
std::optional<Record> record_from_json(const std::string& line);

struct RecordFile {
    std::vector<Record> records;
    std::vector<int> unreadable;  // numbers of the lines that are no records: torn where a tuner was killed, say
    // It has something, but nothing that even begins as a record does: another file, named by mistake.
    bool is_foreign = false;
};
// Throws std::runtime_error where the file cannot be read, or is larger than any that tuning makes.
RecordFile read_records(const std::string& path);

// Appends records to a file, each in one write. One appender at a time to a file.
class RecordAppender {
public:
    // A last line without an end, left by a process that was killed, is ended first. Throws std::runtime_error where
    // the file cannot be written, or another process has it.
    explicit RecordAppender(const std::string& path);
    ~RecordAppender();
    RecordAppender(const RecordAppender&) = delete;
    RecordAppender& operator=(const RecordAppender&) = delete;
    void append(const Record& record);

private:
    std::string path_;
    int descriptor_;
};

// What build takes from record files: of each CPU, by its processor's name (kernel_abi.h), the records of one machine,
// and of each kind of device (CUDA, OpenCL) those of one.
class RecordBook {
public:
    RecordBook() = default;
    // `targets`: those that are built for; records of other kinds are not looked at, nor is a device of theirs.
    // `tuned_on`: parts of machine_text(), for the machines whose records count. Where they name no CPU all count,
    // where they name no device of a kind this machine's does. Of several machines with one processor this one counts.
    // `generator`: what records must be of not to be stale. Throws std::runtime_error where a file cannot be read or
    // has other things than records alone, or `tuned_on` names no machine, or several devices of a kind, or several
    // machines with one processor, none of them this one, are left.
    RecordBook(const std::vector<std::string>& paths, const std::vector<std::string>& tuned_on,
               const std::string& generator, const std::vector<InstructionSet>& targets);

    struct Entry {
        Record record;
        bool stale = false;  // of other versions of fusebn, Halide or LLVM
    };
    // The latest outcome for a kernel; one that is not stale before one that is. `processor`: "" of a device's.
    std::optional<Entry> find(const KernelSpec& kernel, InstructionSet isa, const std::string& processor = "") const;
    // Those of the CPUs' records.
    std::set<std::string> processors() const;

    bool empty() const { return entries_.empty(); }
    // What should be said: lines that could not be read, and that no record is of a machine.
    const std::vector<std::string>& remarks() const { return remarks_; }

private:
    // The machines whose records are taken.
    std::set<std::string> cpus(const std::vector<Record>& all, const std::vector<std::string>& tuned_on);
    std::set<std::string> device(const std::vector<Record>& all, InstructionSet one,
                                 const std::vector<std::string>& tuned_on);

    std::vector<Entry> entries_;
    std::vector<std::string> remarks_;
};

}  // namespace fusebn
