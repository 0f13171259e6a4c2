#include "tuner/gpu_space.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace fusebn {

namespace {

// Elements of a block's apply loop, at most.
constexpr std::int64_t largest_block = 1 << 18;

std::vector<int> with(std::set<int> values, int base) {
    values.insert(base);
    return {values.begin(), values.end()};
}

// Samples or rows of a block, of `elements` elements each: from `least` on, doubled.
std::vector<int> tasks(std::int64_t least, std::int64_t units, std::int64_t elements, int base) {
    std::set<int> all = {base};
    for (std::int64_t task = least; task < 2 * units && task <= longest_task; task *= 2) {
        if (task > least && task * elements > largest_block) break;
        all.insert(static_cast<int>(task));
    }
    return {all.begin(), all.end()};
}

int channels_of_block(const Schedule& s) { return std::max(1, s.block); }

bool is_staged(const Schedule& s) { return s.parallel == Schedule::Parallel::channels; }

// Whether both entries can be made, for this GPU.
bool can_be_made(const Schedule& s, const KernelSpec& spec, const GpuModel& gpu) {
    if (!is_legal(s, spec)) return false;
    if (s.vector > 1 && !is_legal(unaligned_schedule(s), spec)) return false;
    if (is_staged(s) && staged_bytes(spec) * channels_of_block(s) > gpu.shared_bytes) return false;
    const bool ragged = spec.channels % channels_of_block(s) != 0;
    return !ragged || (spec.view == View::interleaved && (gpu.vector_conditions || s.vector == 1));
}

template <class Keep>
void planar(const KernelSpec& spec, const Schedule& base, const Keep& keep) {
    for (const auto parallel : {Schedule::Parallel::channels, Schedule::Parallel::rows}) {
        for (int vector = base.vector; vector >= 1; vector /= 2) {
            for (const int threads : with({64, 128, 256, 512, 1024}, base.threads)) {
                for (const int unroll : with({1, 2, 4, 8}, base.unroll)) {
                    for (const int block : with({0, 2, 4, 8}, base.block)) {
                        const std::int64_t sample = spec.inner * std::max(1, block);
                        const bool staged = parallel == Schedule::Parallel::channels;
                        for (const int task : staged ? std::vector<int>{1} : tasks(1, spec.outer, sample, base.task)) {
                            keep(Schedule{vector, unroll, threads, parallel, task, block});
                        }
                    }
                }
            }
        }
    }
}

template <class Keep>
void interleaved(const KernelSpec& spec, const Schedule& base, const Keep& keep) {
    for (int vector = base.vector; vector >= 1; vector /= 2) {
        for (const int block : with({8, 16, 32, 64, 128, 256}, base.block)) {
            if (block % vector != 0 || (block > spec.channels && block != base.block)) continue;
            const int columns = block / vector;
            std::set<int> threads;
            for (const int about : {64, 128, 256, 512, 1024}) threads.insert(columns * std::max(1, about / columns));
            for (const int count : with(threads, base.threads)) {
                for (const int task : tasks(2 * (count / columns), spec.outer, block, base.task)) {
                    for (const int unroll : with({1, 2, 4, 8}, base.unroll)) {
                        keep(Schedule{vector, unroll, count, Schedule::Parallel::rows, task, block});
                    }
                }
            }
        }
    }
}

// Of a multiprocessor, and what must be on its way at once for all of the memory's speed: that times the latency.
constexpr double threads_of_multiprocessor = 2048, blocks_of_multiprocessor = 32, bytes_on_the_way = 32 << 10;
// Of a block's threads, for what they read at once; with more of them there is no room for a second block, or none.
constexpr double registers_of_block = 32 << 10;
constexpr double short_run = 512;  // bytes that lie together
// What a launch and a block cost to begin, the block's channels with their divisions and roots.
constexpr double launch_bytes = 4 << 20, block_bytes = 2 << 10, channel_bytes = 128;

}  // namespace

std::vector<Schedule> gpu_schedule_space(const KernelSpec& spec, const Schedule& base, const GpuModel& gpu) {
    std::vector<Schedule> space = {base};
    const auto keep = [&](const Schedule& s) {
        if (!(s == base) && can_be_made(s, spec, gpu)) space.push_back(s);
    };
    if (spec.view == View::planar) {
        planar(spec, base, keep);
    } else {
        interleaved(spec, base, keep);
    }
    return space;
}

double predicted_gpu_cost(const KernelSpec& spec, const Schedule& s, const GpuModel& gpu) {
    const Traffic moved = traffic(spec);
    const double element = element_bytes(spec.dtype), multiprocessors = gpu.multiprocessors;
    const auto outer = static_cast<double>(spec.outer), channels = static_cast<double>(spec.channels),
               inner = static_cast<double>(spec.inner);
    const double tile = channels_of_block(s);
    const bool reduces = spec.op != Op::inference, staged = is_staged(s);
    double cost = (moved.read + moved.written + (staged ? 0 : moved.read_twice)) * outer * channels * inner * element;

    // Threads of a multiprocessor, and what they have on its way.
    const double blocks = std::ceil(channels / tile) * (staged ? 1 : std::ceil(outer / s.task));
    double at_once = std::min(blocks_of_multiprocessor, std::floor(threads_of_multiprocessor / s.threads));
    if (staged) {
        const double shared = static_cast<double>(gpu.shared_bytes) / (static_cast<double>(staged_bytes(spec)) * tile);
        at_once = std::min(at_once, std::floor(shared));
    }
    at_once = std::max(1.0, std::min(at_once, std::ceil(blocks / multiprocessors)));
    const double on_the_way = at_once * s.threads * s.vector * s.unroll * element;
    if (on_the_way < bytes_on_the_way) cost *= 1 + 0.5 * (bytes_on_the_way / on_the_way - 1);
    if (static_cast<double>(s.vector) * s.unroll * moved.read * s.threads > registers_of_block) cost *= 1.2;

    // Accesses: narrow ones, and runs that are few sectors.
    cost *= 1 + 0.1 * std::log2(16 / (s.vector * element));
    const double run = (spec.view == View::planar ? inner : 1) * tile * element;
    if (run < short_run && tile < channels) cost *= 1 + 0.1 * std::log2(short_run / run);

    // The last blocks leave multiprocessors without work, but not all at once.
    const double slots = multiprocessors * at_once;
    cost *= 0.5 + 0.5 * std::ceil(blocks / slots) * slots / blocks;
    const double launches = staged || !reduces ? 1 : 4;
    return cost + launches * launch_bytes + blocks * (block_bytes + tile * channel_bytes);
}

}  // namespace fusebn
