#include "tuner/space.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "generators/numerics.h"

namespace fusebn {

namespace {

// A task's x, in bytes, at least and at most.
constexpr std::int64_t smallest_task = 2 << 10, largest_task = 4 << 20;

// Of channels or rows: powers of two.
std::vector<int> tasks(const KernelSpec& spec, Schedule::Parallel parallel, int base) {
    const std::int64_t element = element_bytes(spec.dtype);
    const bool planar = spec.view == View::planar;
    const std::int64_t units = planar ? spec.channels : spec.outer;
    std::set<int> all = {base};
    for (std::int64_t task = 1; task <= std::min<std::int64_t>(units, longest_task); task *= 2) {
        const std::int64_t bytes = task * (planar ? spec.inner : spec.channels) * element;
        const bool by_channel = parallel == Schedule::Parallel::channels || parallel == Schedule::Parallel::samples;
        // By channels a task is so many slabs, each of which it keeps in a cache.
        if (by_channel ? task > 32 : (bytes < smallest_task && task * 4 < units) || bytes > largest_task) continue;
        all.insert(static_cast<int>(task));
    }
    return {all.begin(), all.end()};
}

template <class T>
std::vector<T> with(std::vector<T> values, const T& base) {
    if (std::find(values.begin(), values.end(), base) == values.end()) values.push_back(base);
    return values;
}

// How far ahead of the sums what they read is fetched.
struct SumsFetch {
    int prefetch, steps;
    bool operator==(const SumsFetch&) const = default;
};

// The cost of a byte from the L2 and the L3 cache, where one from memory costs 1.
constexpr double l2_byte = 0.1, l3_byte = 0.3;
// What a task's hand-over costs, and what a loop that is shared out does.
constexpr double task_bytes = 2 << 10, loop_bytes = 32 << 10;

struct Sizes {
    double elements, element, slab;  // slab: bytes of one channel in all tensors that are read twice
};

Sizes sizes(const KernelSpec& spec, const Traffic& moved) {
    const double element = element_bytes(spec.dtype);
    const double outer = static_cast<double>(spec.outer), inner = static_cast<double>(spec.inner);
    return {outer * static_cast<double>(spec.channels) * inner, element, moved.read_twice * outer * inner * element};
}

// Tasks of the loop that makes sums, where it is one of its own.
double sum_tasks(const KernelSpec& spec, const Schedule& s) {
    const auto parts = [](std::int64_t of, std::int64_t size) { return static_cast<double>((of + size - 1) / size); };
    const double channels = static_cast<double>(spec.channels);
    if (spec.view == View::planar) {
        return channels * parts(planar_chunks(spec), numerics::planar::chunks_per_group);
    }
    using namespace numerics::interleaved;
    const double blocks = s.block > 0 ? parts(spec.channels, s.block) : 1;
    return blocks *
           parts(spec.outer, s.parallel == Schedule::Parallel::chunks ? chunk_rows : chunk_rows * chunks_per_group);
}

}  // namespace

std::vector<Schedule> schedule_space(const KernelSpec& spec, const Schedule& base) {
    using Parallel = Schedule::Parallel;
    using Store = Schedule::Store;
    const bool rows_summed = spec.op != Op::inference && spec.view == View::interleaved;
    std::vector<SumsFetch> fetches = {{0, 0}, {1, 0}, {2, 0}};
    if (rows_summed && spec.outer >= numerics::tree) fetches.insert(fetches.end(), {{0, 1}, {0, 2}, {0, 4}});
    fetches = with(fetches, {base.prefetch, base.steps});
    std::vector<Schedule> space;
    const auto keep = [&](const Schedule& s) {
        if (is_legal(s, spec)) space.push_back(s);
    };
    keep(base);
    for (const Parallel parallel :
         {Parallel::none, Parallel::channels, Parallel::rows, Parallel::chunks, Parallel::samples}) {
        for (const int task : tasks(spec, parallel, base.task)) {
            for (const int block : rows_summed ? with({0, 64, 128, 256, 512}, base.block) : std::vector<int>{0}) {
                if (block > spec.channels) continue;
                for (const auto& [prefetch, steps] : fetches) {
                    const bool samples =
                        spec.op != Op::inference && spec.view == View::planar && parallel != Parallel::rows;
                    // What sums read is asked for once; training's residual as often as is said.
                    const bool unsummed = spec.op == Op::train_forward && spec.residual == Residual::add;
                    const bool once = samples && !unsummed;
                    for (const int ahead : with(samples ? std::vector{0, 1, 2} : std::vector{0, 2, 4}, base.ahead)) {
                        for (const Store store : {Store::cached, Store::stream}) {
                            for (const int vector : {4, 8, 16, 32}) {
                                for (const int unroll : with({1, 2, 4, 8}, base.unroll)) {
                                    for (const int repeat : {1, 4, 8}) {
                                        if (repeat > 1 && prefetch == 0 && (ahead == 0 || once)) continue;
                                        for (const bool join : {false, true}) {
                                            const Schedule s{vector,   unroll, 0,     parallel, task,  block,
                                                             prefetch, steps,  ahead, repeat,   store, join};
                                            if (!(s == base)) keep(s);
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    return space;
}

double predicted_cost(const KernelSpec& spec, const Schedule& s, const CacheModel& caches, int threads) {
    const Traffic moved = traffic(spec);
    const Sizes size = sizes(spec, moved);
    const bool reduces = spec.op != Op::inference;
    const bool by_channel = reduces && spec.view == View::planar && s.parallel != Schedule::Parallel::rows;
    const double tensor = size.elements * size.element;
    const double l2 = static_cast<double>(caches.l2), l3 = static_cast<double>(caches.l3);
    const double l3s = moved.tensors() * tensor / l3;
    const bool beyond = l3s > 0.75;
    const double from_afar = beyond ? 1 : l3_byte;

    double cost = moved.read * tensor * from_afar;
    // Sums, with nothing under way; but where two tasks' slabs exceed the L2 cache, what is fetched early may push out
    // what is read next (backward 64x56x56 on a machine with 1 MB: 1.2 times as fast without, and a sample ahead).
    const bool by_samples = s.parallel == Schedule::Parallel::samples;
    const bool crowded = size.slab * s.task > 1.2 * l2, past = beyond || l3s > streamed_share(spec, s, caches);
    const bool samples = by_channel && l3s > 3 && caches.samples == CacheModel::Samples::from_memory;
    const bool alone = samples && spec.op == Op::backward && crowded;
    const bool fits = size.slab * s.task <= 2 * l2 && s.store == Schedule::Store::stream && !alone;
    const bool wants_prefetch = caches.drops_prefetches || fits;
    const double without = (crowded ? 1.08 : 1.3) - (s.ahead > 0 ? 0.06 : 0);
    if (by_channel && beyond && wants_prefetch != (s.prefetch > 0)) cost *= wants_prefetch ? without : 1.1;
    if (samples && s.ahead == 0) cost *= 1.05;
    if (reduces) {
        const double kept = size.slab * s.task / (by_samples ? threads : 1);
        const double again = !by_channel                      ? from_afar
                             : 2 * kept <= l2                 ? l2_byte
                             : by_samples && kept <= l2       ? l2_byte  // with nothing of the next task beside it
                             : kept * (threads + 1) <= l3 / 2 ? std::min(l3_byte, from_afar)
                                                              : from_afar;
        cost += moved.read_twice * tensor * again;
    }
    // A few rows ahead, of rows that are not so long that they push out each other.
    const double step = numerics::tree * static_cast<double>(spec.channels) * size.element * moved.read_twice;
    const std::int64_t longest =
        spec.op == Op::train_forward ? caches.longest_training_step : caches.longest_backward_step;
    const bool in_steps = reduces && spec.view == View::interleaved && step <= static_cast<double>(longest);
    if (in_steps && beyond && s.steps == 0) cost *= 1.05;
    // Not all that is asked for comes, where all of it comes from memory; or it comes at once.
    const bool asks = s.prefetch > 0 || (s.ahead > 0 && !by_channel);
    if (asks && beyond && (s.repeat == 1) == caches.drops_prefetches) cost *= 1.05;
    const bool streams = s.store == Schedule::Store::stream;
    cost += moved.written * tensor * (past ? (streams ? 1 : 2) : (streams ? 1.3 : l3_byte));

    if (s.block > 0) {
        if (1.0 * numerics::interleaved::chunk_rows * s.block * size.element * moved.read_twice > l2) cost *= 1.1;
        if (s.block < 64) cost *= 1.1;
    }
    // Rows that are no whole lines share them with their neighbours, twice as many in two results.
    const bool in_lines = stream_alignment(spec, s) == 64 || spec.view == View::interleaved;
    if (!in_lines) cost *= moved.written == 2 ? 1.25 : 1.02;
    if (s.vector < 8) cost *= spec.activation == Activation::silu ? 2 : 1.1;
    if (s.vector == 8) cost *= 1.03;
    if (s.unroll == 1) cost *= 1.02;

    if (s.parallel == Schedule::Parallel::none) {
        // Two threads move more than one from memory, but not twice as much.
        return cost * (beyond ? std::min(threads, 2) * 0.8 : threads);
    }
    const auto turns = [&](double count) { return std::ceil(count / threads) * threads / count; };
    double all = loop_bytes;
    if (reduces && !by_channel) {
        const double count = sum_tasks(spec, s), sums = moved.read_twice * tensor * from_afar;
        all += sums * (turns(count) - 1) + count * task_bytes + loop_bytes;
    }
    if (by_samples) {
        // Two loops for each run of channels; their tasks are the samples.
        const double runs = std::ceil(static_cast<double>(spec.channels) / s.task);
        const double samples_of_run = static_cast<double>(spec.outer);
        return all + cost * turns(samples_of_run) + runs * (2 * loop_bytes + samples_of_run * task_bytes);
    }
    const std::int64_t units = spec.view == View::planar ? spec.channels : spec.outer;
    const bool in_runs = by_channel || s.parallel == Schedule::Parallel::channels;
    const double rows = in_runs || spec.view == View::interleaved ? 1 : static_cast<double>(spec.outer);
    const double count = std::ceil(static_cast<double>(units) / s.task) * rows;
    return all + cost * turns(count) + count * task_bytes;
}

int distance(const Schedule& a, const Schedule& b) {
    return (a.vector != b.vector) + (a.unroll != b.unroll) + (a.threads != b.threads) + (a.parallel != b.parallel) +
           (a.task != b.task) + (a.block != b.block) + (a.prefetch != b.prefetch || a.steps != b.steps) +
           (a.ahead != b.ahead) + (a.repeat != b.repeat) + (a.store != b.store) + (a.join != b.join);
}

}  // namespace fusebn
