#include "compiler/records.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>
#include <stdexcept>

#include "compiler/files.h"
#include "measure/device.h"

namespace fusebn {

namespace {

using nlohmann::ordered_json;

constexpr std::size_t max_line_bytes = 4096;

double rounded(double value) { return std::round(value * 1e6) / 1e6; }

[[noreturn]] void fail(const std::string& path, const char* what) {
    throw std::runtime_error(path + ": " + what + ": " + std::strerror(errno));
}

std::set<std::string> machines_of(const std::vector<Record>& records) {
    std::set<std::string> machines;
    for (const Record& r : records) machines.insert(machine_text(r.key));
    return machines;
}

// The machines whose text has one of `parts` in it; of one whose text is a part, that one alone.
std::set<std::string> only_with(const std::vector<std::string>& parts, const std::set<std::string>& machines) {
    std::set<std::string> some;
    for (const std::string& part : parts) {
        for (const std::string& machine : machines) {
            if (machines.count(part) ? machine == part : machine.find(part) != std::string::npos) some.insert(machine);
        }
    }
    return some;
}

std::string listed(const std::set<std::string>& machines) {
    std::string all;
    for (const std::string& m : machines) all += "\n  " + m;
    return all;
}

}  // namespace

std::string to_json(const Record& r) {
    ordered_json j = {{"record", r.kind == Record::Kind::best ? "best" : "trial"},
                      {"kernel", r.kernel},
                      {"target", to_string(r.isa)},
                      {"machine", r.key.machine}};
    if (!r.key.processor.empty()) j["processor"] = r.key.processor;
    if (r.key.threads > 0) j["threads"] = r.key.threads;
    j["generator"] = r.key.generator;
    j["schedule"] = to_text(r.schedule);
    if (!r.beside.empty()) j["beside"] = r.beside;
    if (!r.failure.empty()) {
        j["failure"] = r.failure.substr(0, max_line_bytes / 4);
    } else {
        j["ms"] = rounded(r.ms);
        j["ratio"] = rounded(r.ratio);
        j["ratio_quartiles"] = {rounded(r.ratio_low), rounded(r.ratio_high)};
        if (r.of_copy > 0) j["of_copy"] = rounded(r.of_copy);
    }
    if (r.kind == Record::Kind::best) j["within_noise"] = r.within_noise;
    j["generation"] = r.generation;
    j["time"] = r.time;
    // A compiler's message need not be UTF-8.
    return j.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

std::optional<Record> record_from_json(const std::string& line) {
    if (line.size() > max_line_bytes) return std::nullopt;
    try {
        const ordered_json j = ordered_json::parse(line);
        Record r;
        const std::string kind = j.at("record");
        if (kind != "best" && kind != "trial") return std::nullopt;
        r.kind = kind == "best" ? Record::Kind::best : Record::Kind::trial;
        r.kernel = j.at("kernel");
        const std::string target = j.at("target");
        bool known = false;
        for (const auto& name : instruction_set_names) {
            if (name.name != target) continue;
            r.isa = name.value;
            known = true;
        }
        if (!known) return std::nullopt;
        // A device's has neither processor nor threads of the host, and a schedule that says how many of its own a
        // block has.
        r.key = {j.at("machine"), is_device(r.isa) ? 0 : j.at("threads").get<int>(), j.at("generator"),
                 is_device(r.isa) ? "" : j.at("processor").get<std::string>()};
        // A symbol is named after it.
        static const std::regex processor_name("[A-Za-z0-9]+ family [0-9]+ model [0-9]+");
        if (!is_device(r.isa) && !std::regex_match(r.key.processor, processor_name)) return std::nullopt;
        r.schedule = parse_schedule(j.at("schedule"), {});
        if (is_device(r.isa) != (r.schedule.threads > 0)) return std::nullopt;
        r.beside = j.value("beside", "");
        r.failure = j.value("failure", "");
        if (r.failure.empty()) {
            r.ms = j.at("ms");
            r.ratio = j.at("ratio");
            r.ratio_low = j.at("ratio_quartiles").at(0);
            r.ratio_high = j.at("ratio_quartiles").at(1);
            r.of_copy = j.value("of_copy", 0.0);
        }
        r.within_noise = j.value("within_noise", false);
        r.generation = j.at("generation");
        r.time = j.at("time");
        return r;
    } catch (const nlohmann::json::exception&) {
        return std::nullopt;
    } catch (const ScheduleError&) {
        return std::nullopt;  // of a version that has other keys
    }
}

RecordFile read_records(const std::string& path) {
    const std::string text = read_file(path, max_text_bytes);
    RecordFile file;
    bool has_beginning = false;
    int number = 0;
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        ++number;
        // A line that is too long for a record is not copied.
        const std::string line = text.substr(begin, std::min(end - begin, max_line_bytes + 1));
        begin = end + 1;
        if (line.empty()) continue;
        has_beginning = has_beginning || line.rfind("{\"record\"", 0) == 0;
        if (auto record = record_from_json(line)) {
            file.records.push_back(std::move(*record));
        } else {
            file.unreadable.push_back(number);
        }
    }
    file.is_foreign = !text.empty() && file.records.empty() && !has_beginning;
    return file;
}

RecordAppender::RecordAppender(const std::string& path)
    : path_(path), descriptor_(open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666)) {
    if (descriptor_ < 0) fail(path, "cannot be written");
    if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
        const bool taken = errno == EWOULDBLOCK;
        const int error = errno;
        close(descriptor_);
        if (taken) throw std::runtime_error(path + ": another `fusebn tune` writes to it");
        errno = error;
        fail(path, "cannot be locked");
    }
    const off_t size = lseek(descriptor_, 0, SEEK_END);
    char last = '\n';
    if (size > 0 && pread(descriptor_, &last, 1, size - 1) == 1 && last != '\n' && write(descriptor_, "\n", 1) != 1) {
        close(descriptor_);
        fail(path, "cannot be written");
    }
}

RecordAppender::~RecordAppender() { close(descriptor_); }

void RecordAppender::append(const Record& record) {
    const std::string line = to_json(record) + "\n";
    const ssize_t written = write(descriptor_, line.data(), line.size());
    if (written < 0) fail(path_, "cannot be written");
    if (written != static_cast<ssize_t>(line.size())) throw std::runtime_error(path_ + ": is full");
}

RecordBook::RecordBook(const std::vector<std::string>& paths, const std::vector<std::string>& tuned_on,
                       const std::string& generator, const std::vector<InstructionSet>& targets) {
    std::vector<Record> all;
    for (const std::string& path : paths) {
        RecordFile file = read_records(path);
        all.insert(all.end(), file.records.begin(), file.records.end());
        if (file.is_foreign || (file.records.empty() && !file.unreadable.empty())) {
            throw std::runtime_error("--records: found no record in " + path +
                                     "; allowed: what `fusebn tune` wrote, or an empty file");
        }
        if (file.unreadable.empty()) continue;
        std::string lines;
        for (int number : file.unreadable) {
            lines += (lines.empty() ? "" : ", ") + std::to_string(number);
            if (lines.size() > 200) break;
        }
        remarks_.push_back(path + ": no records, and passed over: line " + lines.substr(0, 200));
    }
    for (const std::string& text : tuned_on) {
        const std::set<std::string> machines = machines_of(all);
        if (machines.empty() || !only_with({text}, machines).empty()) continue;
        throw std::runtime_error("--tuned-on: no record is of a machine with \"" + text +
                                 "\"; there are:" + listed(machines));
    }
    // One target of each kind: of a kind one device is looked for.
    for (const InstructionSet one : {InstructionSet::x86_64, InstructionSet::cuda_sm_80, InstructionSet::opencl}) {
        const auto is_of_kind = [&](InstructionSet isa) { return measure::device_of(isa) == measure::device_of(one); };
        if (std::none_of(targets.begin(), targets.end(), is_of_kind)) continue;
        std::vector<Record> of_kind;
        std::copy_if(all.begin(), all.end(), std::back_inserter(of_kind),
                     [&](const Record& r) { return is_of_kind(r.isa); });
        if (of_kind.empty()) continue;
        const std::set<std::string> taken = is_device(one) ? device(of_kind, one, tuned_on) : cpus(of_kind, tuned_on);
        for (const Record& r : of_kind) {
            if (r.kind != Record::Kind::best || !taken.count(machine_text(r.key))) continue;
            entries_.push_back({r, r.key.generator != generator});
        }
    }
}

std::set<std::string> RecordBook::cpus(const std::vector<Record>& all, const std::vector<std::string>& tuned_on) {
    const std::set<std::string> named = only_with(tuned_on, machines_of(all));
    std::map<std::string, std::set<std::string>> of_processor;
    for (const Record& r : all) {
        if (named.empty() || named.count(machine_text(r.key)))
            of_processor[r.key.processor].insert(machine_text(r.key));
    }
    const TuningKey here = this_tuning_key();
    std::set<std::string> taken;
    for (const auto& [processor, machines] : of_processor) {
        if (machines.size() == 1) {
            taken.insert(*machines.begin());
        } else if (machines.count(machine_text(here))) {
            taken.insert(machine_text(here));
        } else {
            throw std::runtime_error("--tuned-on: several machines have the processor " + processor +
                                     ", and kernels are tuned for one of them; say which:" + listed(machines));
        }
    }
    if (!named.empty()) return taken;
    const auto same = of_processor.find(here.processor);
    if (same == of_processor.end()) {
        remarks_.push_back("no record is of this machine (" + machine_text(here) +
                           "), where kernels keep their defaults; they are tuned for:" + listed(taken));
    } else if (!taken.count(machine_text(here))) {
        remarks_.push_back("no record is of this machine (" + machine_text(here) +
                           "); of one with its processor there are:" + listed(same->second));
    }
    return taken;
}

std::set<std::string> RecordBook::device(const std::vector<Record>& all, InstructionSet one,
                                         const std::vector<std::string>& tuned_on) {
    const std::set<std::string> machines = machines_of(all), named = only_with(tuned_on, machines);
    if (named.size() > 1) {
        throw std::runtime_error("--tuned-on: it is part of several machines; say which:" + listed(named));
    }
    if (!named.empty()) return named;
    const TargetHere here = target_here(one);
    if (here.key && machines.count(machine_text(*here.key))) return {machine_text(*here.key)};
    remarks_.push_back((here.key ? "no record is of this machine's device (" + machine_text(*here.key) + ")"
                                 : std::string(to_string(one)) + ": " + here.missing) +
                       "; --tuned-on takes another's:" + listed(machines));
    return {};
}

std::optional<RecordBook::Entry> RecordBook::find(const KernelSpec& kernel, InstructionSet isa,
                                                  const std::string& processor) const {
    const std::string name = kernel_name(kernel);
    const Entry* found = nullptr;
    for (const Entry& e : entries_) {
        if (e.record.isa != isa || e.record.kernel != name || e.record.key.processor != processor) continue;
        if (found == nullptr || !e.stale || found->stale) found = &e;
    }
    if (found == nullptr) return std::nullopt;
    return *found;
}

std::set<std::string> RecordBook::processors() const {
    std::set<std::string> names;
    for (const Entry& e : entries_) {
        if (!is_device(e.record.isa)) names.insert(e.record.key.processor);
    }
    return names;
}

}  // namespace fusebn
