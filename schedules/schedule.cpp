#include "schedules/schedule.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <sstream>
#include <vector>

#include "generators/numerics.h"

namespace fusebn {

namespace {

constexpr NamedValue<Schedule::Parallel> parallel_names[] = {{Schedule::Parallel::none, "none"},
                                                             {Schedule::Parallel::channels, "channels"},
                                                             {Schedule::Parallel::rows, "rows"},
                                                             {Schedule::Parallel::chunks, "chunks"},
                                                             {Schedule::Parallel::samples, "samples"}};
constexpr NamedValue<Schedule::Store> store_names[] = {{Schedule::Store::cached, "cached"},
                                                       {Schedule::Store::stream, "stream"}};

template <class E, size_t N>
std::string name_of(E value, const NamedValue<E> (&names)[N]) {
    return std::string(names[static_cast<int>(value)].name);
}

template <class E, size_t N>
E named(const std::string& key, const std::string& text, const NamedValue<E> (&names)[N]) {
    std::string allowed;
    for (const auto& n : names) {
        if (n.name == text) return n.value;
        allowed += (allowed.empty() ? "" : ", ") + std::string(n.name);
    }
    throw ScheduleError("schedule." + key + ": found \"" + text + "\"; allowed: " + allowed);
}

int number(const std::string& key, const std::string& text, int least, int most = 1 << 20) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
        throw ScheduleError("schedule." + key + ": found \"" + text + "\"; allowed: a number from " +
                            std::to_string(least) + " to " + std::to_string(most));
    }
    return value;
}

}  // namespace

bool operator==(const Schedule& a, const Schedule& b) { return to_text(a) == to_text(b); }

std::string to_text(const Schedule& s) {
    std::ostringstream out;
    out << "vector=" << s.vector << " unroll=" << s.unroll << " parallel=" << name_of(s.parallel, parallel_names)
        << " task=" << s.task << " block=" << s.block << " prefetch=" << s.prefetch << " ahead=" << s.ahead
        << " store=" << name_of(s.store, store_names);
    if (s.steps > 0) out << " steps=" << s.steps;
    if (s.repeat > 1) out << " repeat=" << s.repeat;
    if (s.join) out << " join=1";
    if (s.threads > 0) out << " threads=" << s.threads;
    return out.str();
}

Schedule parse_schedule(const std::string& text, const Schedule& base) {
    Schedule s = base;
    std::istringstream in(text);
    for (std::string item; in >> item;) {
        const size_t equals = item.find('=');
        const std::string key = item.substr(0, equals);
        const std::string value = equals == std::string::npos ? "" : item.substr(equals + 1);
        if (key == "vector") {
            s.vector = number(key, value, 1);
        } else if (key == "unroll") {
            s.unroll = number(key, value, 1);
        } else if (key == "threads") {
            s.threads = number(key, value, 0);
        } else if (key == "parallel") {
            s.parallel = named(key, value, parallel_names);
        } else if (key == "task") {
            s.task = number(key, value, 1, longest_task);
        } else if (key == "block") {
            s.block = number(key, value, 0);
        } else if (key == "prefetch") {
            s.prefetch = number(key, value, 0);
        } else if (key == "steps") {
            s.steps = number(key, value, 0);
        } else if (key == "ahead") {
            s.ahead = number(key, value, 0);
        } else if (key == "repeat") {
            s.repeat = number(key, value, 1);
        } else if (key == "join") {
            s.join = number(key, value, 0, 1) == 1;
        } else if (key == "store") {
            s.store = named(key, value, store_names);
        } else {
            throw ScheduleError(
                "schedule: found \"" + item +
                "\"; allowed: vector=, unroll=, parallel=, task=, block=, prefetch=, steps=, ahead=, repeat=, "
                "join=, store=, threads=");
        }
    }
    return s;
}

Schedule spec_schedule(const std::string& text, const KernelSpec& spec, const Schedule& fallback) {
    try {
        Schedule s = parse_schedule(text, fallback);
        if (is_legal(s, spec)) return s;
        std::vector<std::string> offs;  // of the fallback's keys: one will do, or several
        for (const std::string off :
             {"steps=0", "prefetch=0", "ahead=0", "repeat=1", "block=0", "join=0", "store=cached", "unroll=1"}) {
            if (text.find(off.substr(0, off.find('=') + 1)) == std::string::npos) offs.push_back(off);
        }
        for (const std::string& off : offs) {
            const Schedule without = parse_schedule(off, s);
            if (is_legal(without, spec)) return without;
        }
        for (const std::string& off : offs) {
            s = parse_schedule(off, s);
            if (is_legal(s, spec)) return s;
        }
        check_legal(s, spec);
        return s;
    } catch (const ScheduleError& e) {
        const std::string name = kernel_name(spec);
        const std::string what = e.what();
        throw ScheduleError(what.find(name) == std::string::npos ? name + ": " + what : what);
    }
}

Traffic traffic(const KernelSpec& spec) {
    const int extra = spec.residual == Residual::none ? 0 : 1;
    const int branches = spec.residual == Residual::batch_norm ? 2 : 1;
    switch (spec.op) {
        case Op::inference: return {1 + extra, 0, 1};
        case Op::train_forward: return {1 + extra, branches, 1};
        case Op::backward: {
            // A mask is a bit an element: nothing beside the rest.
            const int read = 2 + (saves_mask(spec.activation, spec.residual) ? 0 : extra);
            return {read, read, 1 + extra};
        }
    }
    return {};
}

std::int64_t row_of(const KernelSpec& spec, const Schedule& schedule) {
    if (spec.view == View::interleaved) return spec.channels;
    return schedule.join ? spec.inner * schedule.task : spec.inner;
}

int stream_alignment(const KernelSpec& spec, const Schedule& schedule) {
    const std::int64_t row = row_of(spec, schedule);
    if (row == any_extent) return 0;
    const auto bytes = static_cast<int>(std::gcd(row * element_bytes(spec.dtype), std::int64_t{64}));
    return bytes >= 16 ? bytes : 0;
}

Schedule apart(const Schedule& joined, const KernelSpec& spec) {
    Schedule s = joined;
    s.join = false;
    if (spec.op == Op::inference && s.parallel == Schedule::Parallel::channels) s.parallel = Schedule::Parallel::rows;
    s.store = Schedule::Store::cached;
    return s;
}

std::int64_t planar_chunks(const KernelSpec& spec) {
    using namespace numerics::planar;
    const std::int64_t per_row = (spec.inner + chunk_elements - 1) / chunk_elements;
    const std::int64_t rows = std::clamp<std::int64_t>(chunk_elements / spec.inner, 1, chunk_rows);
    return per_row * ((spec.outer + rows - 1) / rows);
}

bool has_chunks_side_by_side(const Schedule& schedule) {
    return schedule.parallel == Schedule::Parallel::chunks || schedule.parallel == Schedule::Parallel::samples;
}

bool is_legal(const Schedule& schedule, const KernelSpec& spec) {
    try {
        check_legal(schedule, spec);
        return true;
    } catch (const ScheduleError&) {
        return false;
    }
}

namespace {

[[noreturn]] void refuse_for(const KernelSpec& spec, const std::string& key, const std::string& found,
                             const std::string& why) {
    throw ScheduleError("schedule." + key + ": found " + found + " for " + kernel_name(spec) + "; " + why);
}

void check_gpu(const Schedule& s, const KernelSpec& spec) {
    const auto refuse = [&](const char* key, const std::string& found, const std::string& why) {
        refuse_for(spec, key, found, why);
    };
    const int widest = 16 / element_bytes(spec.dtype);
    const std::int64_t row = spec.view == View::planar ? spec.inner : spec.channels;
    if (s.vector != 1 && s.vector != 2 && s.vector != 4 && s.vector != 8) {
        refuse("vector", std::to_string(s.vector), "allowed on a GPU: 1, 2, 4, 8");
    }
    if (s.vector > widest) refuse("vector", std::to_string(s.vector), "more than 16 bytes");
    if (s.vector > 1 && (row == any_extent || row % s.vector != 0)) {
        refuse("vector", std::to_string(s.vector), "a row must be whole vectors");
    }
    if (s.threads < 32 || s.threads > 1024) refuse("threads", std::to_string(s.threads), "allowed: 32 to 1024");
    if (s.unroll > 16) refuse("unroll", std::to_string(s.unroll), "allowed: 1 to 16");
    if (s.task > longest_task) refuse("task", std::to_string(s.task), "allowed: 1 to " + std::to_string(longest_task));
    if (s.prefetch != 0 || s.steps != 0 || s.ahead != 0 || s.repeat != 1 || s.join ||
        s.store != Schedule::Store::cached) {
        refuse("threads", std::to_string(s.threads),
               "a GPU's schedule has prefetch=0, steps=0, ahead=0, repeat=1, join=0 and store=cached");
    }
    if (s.parallel != Schedule::Parallel::channels && s.parallel != Schedule::Parallel::rows) {
        refuse("parallel", name_of(s.parallel, parallel_names), "allowed on a GPU: channels, rows");
    }
    if (s.parallel == Schedule::Parallel::channels && staged_bytes(spec) == 0) {
        refuse("parallel", "channels",
               "only planar train_forward and backward of known extents go by channels on a GPU; allowed: rows");
    }
    if (spec.view == View::planar) {
        if (s.block > 64 || (s.block > 1 && (spec.channels == any_extent || spec.channels % s.block != 0))) {
            refuse("block", std::to_string(s.block),
                   "allowed in the planar view: 0, 1, and divisors of the number of channels up to 64");
        }
        return;
    }
    const int longest = longest_statistics_block(spec, s.vector);
    if (s.block < 1 || s.block % s.vector != 0 || s.block > longest) {
        refuse("block", std::to_string(s.block),
               "allowed on a GPU: multiples of vector up to " + std::to_string(longest));
    }
    if (s.task < 2 * s.threads / (s.block / s.vector)) {
        refuse("task", std::to_string(s.task),
               "a thread must have two rows at least: allowed from " +
                   std::to_string(2 * s.threads / (s.block / s.vector)) + " on");
    }
    if (s.threads % (s.block / s.vector) != 0) {
        refuse("threads", std::to_string(s.threads), "allowed: multiples of block / vector");
    }
}

void check_joined(const Schedule& s, const KernelSpec& spec) {
    const auto refuse = [&](const std::string& why) { refuse_for(spec, "join", "1", why + "; allowed: 0"); };
    const bool masked = saves_mask(spec.activation, spec.residual);
    if (spec.view != View::planar) refuse("only rows of the planar view are joined");
    if (s.parallel != Schedule::Parallel::channels && s.parallel != Schedule::Parallel::none) {
        refuse("only a task that is a run of channels has rows to join (parallel=channels, none)");
    }
    if (needs_large(spec)) refuse("N, C and S must be fixed, and their product below 2^31");
    if (spec.op == Op::train_forward && masked) refuse("each row's mask begins with a byte of its own");
    if (spec.op == Op::backward && masked && spec.inner < 8) refuse("a row of a mask has less than a byte");
    if (s.task < 2 || spec.channels % s.task != 0) {
        refuse("task=" + std::to_string(s.task) + " is not several channels, or they do not divide the " +
               std::to_string(spec.channels));
    }
    if (row_of(spec, s) % (s.vector * s.unroll) != 0) {
        refuse("a row of " + std::to_string(row_of(spec, s)) + " elements is no whole turns of vector * unroll");
    }
    if (row_of(spec, s) > longest_joined_row) {
        refuse("a row would have " + std::to_string(row_of(spec, s)) + " elements, more than " +
               std::to_string(longest_joined_row));
    }
}

}  // namespace

void check_legal(const Schedule& s, const KernelSpec& spec) {
    if (s.threads > 0) return check_gpu(s, spec);
    const auto refuse = [&](const std::string& key, const std::string& found, const std::string& why) {
        refuse_for(spec, key, found, why);
    };
    if (s.vector != 4 && s.vector != 8 && s.vector != 16 && s.vector != 32) {
        refuse("vector", std::to_string(s.vector), "allowed: 4, 8, 16, 32");
    }
    if (s.task > longest_task) refuse("task", std::to_string(s.task), "allowed: 1 to " + std::to_string(longest_task));
    if (s.unroll > 16) refuse("unroll", std::to_string(s.unroll), "allowed: 1 to 16");
    const bool reduces = spec.op != Op::inference;
    if (reduces && saves_mask(spec.activation, spec.residual) && s.vector < 8) {
        refuse("vector", std::to_string(s.vector), "a mask is written in whole bytes; allowed: 8, 16, 32");
    }
    if (reduces && saves_mask(spec.activation, spec.residual)) {
        const int turn = s.vector * s.unroll;
        if (turn != 8 && turn != 16 && turn != 32 && turn != 64) {
            refuse("unroll", std::to_string(s.unroll), "with a mask vector * unroll is 8, 16, 32 or 64");
        }
    }
    if (s.parallel == Schedule::Parallel::channels && !(spec.view == View::planar && (reduces || s.join))) {
        refuse("parallel", "channels",
               "only planar train_forward and backward, and inference with join=1, work channel by channel; allowed: "
               "none, rows" +
                   std::string(reduces && spec.view == View::interleaved ? ", chunks" : ""));
    }
    if (s.parallel == Schedule::Parallel::chunks && !(reduces && spec.view == View::interleaved)) {
        refuse("parallel", "chunks",
               "only interleaved train_forward and backward share chunks out; allowed: none, rows" +
                   std::string(reduces ? ", channels, samples" : ""));
    }
    if (s.parallel == Schedule::Parallel::samples) {
        if (!reduces || spec.view != View::planar) {
            refuse("parallel", "samples",
                   "only planar train_forward and backward share samples out; allowed: none, rows" +
                       std::string(reduces ? ", chunks" : ""));
        }
        const std::string others = "; allowed: none, rows, channels";
        if (spec.outer == any_extent || spec.inner == any_extent) {
            refuse("parallel", "samples", "all chunks of a channel are kept, so N and S must be fixed" + others);
        }
        const std::int64_t chunks = planar_chunks(spec), most = most_chunks_of_a_run / chunks;
        if (most == 0) {
            refuse("parallel", "samples",
                   "a channel has " + std::to_string(chunks) + " chunks, of which " +
                       std::to_string(most_chunks_of_a_run) + " are kept at most" + others);
        }
        if (s.task > most) {
            refuse("task", std::to_string(s.task),
                   "by samples all chunks of a task are kept, " + std::to_string(chunks) +
                       " a channel; allowed: 1 to " + std::to_string(most));
        }
    }
    if (s.join) check_joined(s, spec);
    if (s.block != 0 && !(reduces && spec.view == View::interleaved)) {
        refuse("block", std::to_string(s.block),
               "only interleaved train_forward and backward have channel blocks; allowed: 0");
    }
    if (s.prefetch > 8) refuse("prefetch", std::to_string(s.prefetch), "allowed: 0 to 8");
    if (s.prefetch > 0) {
        const bool planar = spec.view == View::planar;
        const bool by_chunks = s.parallel == Schedule::Parallel::chunks;
        if (!reduces || by_chunks || (planar && s.parallel == Schedule::Parallel::rows)) {
            refuse("prefetch", std::to_string(s.prefetch),
                   "only train_forward and backward fetch ahead, planar by channels and interleaved not by chunks; "
                   "allowed: 0");
        }
        const std::int64_t row = planar ? spec.inner : spec.channels;
        if (row == any_extent || row > longest_fetched_row) {
            refuse("prefetch", std::to_string(s.prefetch),
                   "the distance is only known for rows of a fixed size; allowed: 0");
        }
    }
    if (s.steps > 8) refuse("steps", std::to_string(s.steps), "allowed: 0 to 8");
    if (s.steps > 0 && !(reduces && spec.view == View::interleaved)) {
        refuse("steps", std::to_string(s.steps),
               "only interleaved train_forward and backward sum in steps of rows; allowed: 0");
    }
    if (s.steps > 0 && s.prefetch > 0) {
        refuse("steps", std::to_string(s.steps), "prefetch fetches the same for the same sums; allowed beside it: 0");
    }
    if (s.repeat != 1 && s.repeat != 2 && s.repeat != 4 && s.repeat != 8) {
        refuse("repeat", std::to_string(s.repeat), "allowed: 1, 2, 4, 8");
    }
    if (s.repeat > 1 && s.prefetch == 0 && s.ahead == 0) {
        refuse("repeat", std::to_string(s.repeat),
               "only what prefetch or ahead fetches is asked for again; allowed without: 1");
    }
    if (s.ahead > 64) refuse("ahead", std::to_string(s.ahead), "allowed: 0 to 64");
    if (s.ahead > 0 && reduces && spec.view == View::planar && s.parallel != Schedule::Parallel::rows &&
        (spec.channels == any_extent || spec.inner == any_extent || spec.inner > longest_fetched_row)) {
        refuse("ahead", std::to_string(s.ahead),
               "how far a sample is ahead is only known for samples of a fixed size; allowed: 0");
    }
    if (s.block % 16 != 0) refuse("block", std::to_string(s.block), "allowed: 0 or a multiple of 16");
    if (s.store == Schedule::Store::stream) {
        const std::int64_t row = row_of(spec, s);
        if (stream_alignment(spec, s) == 0) {
            refuse("store", "stream", "a row must be whole 16-byte pieces; allowed: cached");
        }
        // Of f32 what is left of a row is whole pieces, and is stored as such.
        if (element_bytes(spec.dtype) != 4 && row % (s.vector * s.unroll) != 0) {
            refuse("unroll", std::to_string(s.unroll),
                   "with store=stream a row of 16-bit elements must be whole turns of vector * unroll");
        }
    }
}

}  // namespace fusebn
