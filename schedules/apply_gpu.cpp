// Kernels of a GPU. A call is one launch where a channel's slabs lie in a block's shared memory (parallel=channels),
// else one for each of: statistics by groups of chunks, their totals, the apply loop, and the results of one value a
// channel. Every sum is made by one thread in its own order, so there are no atomics, and the result is the CPU's.
//
// All of a block's stages have one thread dimension: blocks take the largest extent that a stage has in each, and the
// product of two stages' may be more than there can be.
#include <algorithm>

#include "generators/numerics.h"
#include "schedules/apply.h"

namespace fusebn {

using namespace Halide;

namespace {

using vars::c, vars::g, vars::k, vars::l, vars::n, vars::r, vars::s;

// Totals: 8 channels are two sectors of f64; their sections side by side.
constexpr int channels_of_a_total = 8, sections_of_a_total = 32, section_unroll = 8;
constexpr int channel_threads = 64;

const auto guard = TailStrategy::GuardWithIf;

// Where a channel's chunks are made: in the blocks of `consumer`.
struct Block {
    Func& consumer;
    Var loop;

    // f in the block's shared memory: whole f64s, by padding it along one of its dimensions. Where values of several
    // types are there, Halide 21 rounds down what the narrower ones need, and others lie upon their last.
    Func& share(Func& f, const Var& along) const {
        f.compute_at(consumer, loop).store_in(MemoryType::GPUShared);
        const int of_an_f64 = static_cast<int>(sizeof(double)) / f.types()[0].bytes();
        return of_an_f64 > 1 ? f.align_storage(along, of_an_f64) : f;
    }
};

// A block's channels, `tile` of them; the last block may have fewer, and no more are made: there are none to read.
void bound_channels(Func& f, const KernelSpec& spec, int tile) {
    if (spec.channels != any_extent && spec.channels % tile == 0) {
        f.bound_extent(c, tile);
    } else {
        f.bound_storage(c, tile);
    }
}

// Accumulators in the registers of the thread that stores `result`'s element at loop `thread`.
void accumulate(Func& sums, Func& result, const Var& thread) {
    sums.compute_at(result, thread).store_in(MemoryType::Register);
}

// A chunk's 16 lanes by 16 / width threads, chunks side by side: `chunks` of them (0: as many as there are), each of
// `channels` channels.
void place_planar_chunks(Reduction& red, const Block& at, int width, int chunks, int channels, int threads) {
    const Var thread = Var("thread"), lane = Var("lane"), turn = Var("turn");
    for (ChunkSum& sum : red.sums) {
        Func sums = sum.all.f, row = sum.row.f;
        Func stored = sums.in();
        at.share(stored, l).bound_extent(l, numerics::planar::lanes).bound_extent(c, channels);
        if (chunks > 0) stored.bound_extent(k, chunks);
        stored.split(l, l, lane, width).vectorize(lane).reorder(lane, l, k, c).fuse(l, k, thread);
        stored.fuse(thread, c, thread).split(thread, turn, thread, threads, guard);
        stored.reorder(lane, thread, turn).gpu_threads(thread);
        accumulate(sums, stored, thread);
        sums.bound_extent(l, width).bound_extent(c, 1).bound_extent(k, 1).vectorize(l);
        for (int i = 0; i < sums.num_update_definitions(); ++i) sums.update(i).vectorize(l);
        if (!row.defined()) continue;
        sums.update().reorder(l, c, sum.all.updates[0].loops[0]);
        accumulate(row, sums, c);
        row.bound_extent(l, width).vectorize(l);
        for (int i = 0; i < row.num_update_definitions(); ++i) row.update(i).vectorize(l);
    }
    std::vector<Func> folds = red.pivots;
    folds.push_back(red.chunk);
    for (Func& fold : folds) {
        at.share(fold, k).bound_extent(c, channels);
        if (chunks > 0) fold.bound_extent(k, chunks);
        fold.reorder(k, c).fuse(k, c, thread).split(thread, turn, thread, threads, guard).gpu_threads(thread);
    }
}

// A chunk of `width` channels by one thread, all of it in registers.
void place_interleaved_chunks(Reduction& red, const Block& at, const KernelSpec& spec, int width, int tile) {
    const Var thread = Var("thread"), lane = Var("lane"), turn = Var("turn");
    at.share(red.chunk, c).bound_extent(k, numerics::interleaved::chunks_per_group);
    bound_channels(red.chunk, spec, tile);
    red.chunk.split(c, c, lane, width, TailStrategy::RoundUp).vectorize(lane);  // whole vectors, as many as there are
    // One turn, whose guard leaves blocks their number of threads.
    red.chunk.split(c, turn, c, tile / width, guard).reorder(lane, c, k, turn).fuse(c, k, thread).gpu_threads(thread);
    const auto in_thread = [&](Func& f) {
        accumulate(f, red.chunk, thread);
        f.bound_extent(c, width).vectorize(c);
        for (int i = 0; i < f.num_update_definitions(); ++i) f.update(i).vectorize(c);
    };
    for (Func& pivot : red.pivots) in_thread(pivot);
    for (ChunkSum& sum : red.sums) in_thread(sum.all.f);
}

// Groups to totals in a launch of their own.
void place_totals(Reduction& red) {
    Func total = red.total.result, section = red.section.result;
    const Var block = Var("block"), thread = Var("thread"), turn = Var("turn");
    total.compute_root().split(c, block, c, channels_of_a_total, guard).gpu_blocks(block).gpu_threads(c);
    accumulate(red.total.sums, total, c);
    Block{total, block}.share(section, c).bound_extent(c, channels_of_a_total);
    section.split(g, turn, g, sections_of_a_total, guard).reorder(c, g, turn).fuse(c, g, thread).gpu_threads(thread);
    accumulate(red.section.sums, section, thread);
    red.section.sums.update().unroll(red.section.in, section_unroll);
}

std::vector<Func> channel_values(const BatchNormFuncs& f) {
    std::vector<Func> all = f.affine;
    all.insert(all.end(), f.slopes.begin(), f.slopes.end());
    return all;
}

// Backward's sums take the affine values too, in a launch of their own.
void place_affine_of_sums(BatchNormFuncs& f, const Block& at, int channels) {
    if (f.spec.op != Op::backward) return;
    std::vector<Func> sums;
    for (Reduction& red : f.reductions) {
        for (ChunkSum& sum : red.sums) sums.push_back(sum.row.f.defined() ? sum.row.f : sum.all.f);
    }
    for (Func& v : f.affine) {
        Func clone = v.clone_in(sums);
        at.share(clone, c).gpu_threads(c);
        bound_channels(clone, f.spec, channels);
    }
}

// Lanes of a thread where a block makes all of a channel's chunks: as few as its threads allow, for there are few
// chunks and their sums wait for each other.
int staged_width(const KernelSpec& spec, const Schedule& schedule) {
    const std::int64_t lanes = numerics::planar::lanes * planar_chunks(spec) * std::max(1, schedule.block);
    int width = 1;
    while (width < 4 && lanes / width > schedule.threads) width *= 2;
    return width;
}

void place_channel_results(BatchNormFuncs& f) {
    if (!f.channel_results.defined()) return;
    const Var block = Var("block");
    f.channel_results.split(c, block, c, channel_threads, guard).gpu_blocks(block).gpu_threads(c);
}

// Statistics of a channel by several blocks, each a group of chunks; totals; and what is made of those.
void place_split_planar_sums(BatchNormFuncs& f, const Schedule& schedule) {
    const Var block = Var("block"), one = Var("one");
    for (Reduction& red : f.reductions) {
        Func group = red.group.result;
        group.compute_root().split(g, g, one, 1).reorder(one, c, g).fuse(c, g, block);
        group.gpu_blocks(block).gpu_threads(one);
        accumulate(red.group.sums, group, one);
        place_affine_of_sums(f, {group, block}, 1);
        const int chunks = numerics::planar::chunks_per_group;
        // 4 lanes a thread, of 16-bit elements too: 8 of them (in both loops) took 1.09 times as long in 64 channels of
        // 112x112.
        const int width = std::min(schedule.vector, 4);
        place_planar_chunks(red, {group, block}, width, chunks, 1,
                            std::min(chunks * numerics::planar::lanes / width, most_statistics_threads));
        place_totals(red);
    }
    place_channel_results(f);
}

}  // namespace

// How the vectors of a run (a row, or the rows of a block's channels, one after the other) and its samples are shared
// out: x threads along the run, y samples at a time.
struct Threads {
    int x, y;
    bool flat;       // no x divides the run: its vectors and its samples as one row, which costs a division an access
    int unroll_run;  // turns along the run, or ..
    int unroll_samples;  // .. of samples, whose accesses are on their way at once
};
Threads threads_of(const Schedule& schedule, const KernelSpec& spec) {
    const Threads flat{schedule.threads, 1, true, schedule.unroll, 1};
    if (spec.inner == any_extent) return flat;
    const auto run =
        static_cast<int>(std::min<std::int64_t>(spec.inner / schedule.vector * std::max(1, schedule.block), 1 << 24));
    Threads best{1, 1, false, 1, 1};
    for (int x = 1; x <= schedule.threads && x <= run; ++x) {
        if (run % x != 0 || (x < 32 && x < run)) continue;
        const int y = schedule.threads / x;
        if (x * y >= best.x * best.y) best = {x, y, false, 1, 1};
    }
    if (4 * best.x * best.y < 3 * schedule.threads) return flat;
    // A divisor: a guard inside the unrolled accesses would make each wait for the one before.
    const int turns = run / best.x;
    for (int unroll = std::min(3, schedule.unroll); unroll <= 2 * schedule.unroll; ++unroll) {
        if (turns % unroll == 0) best.unroll_run = unroll;
    }
    const bool staged = schedule.parallel == Schedule::Parallel::channels;
    const std::int64_t samples = staged ? spec.outer : schedule.task;
    // No more at once than there are turns: Halide 21 fails on a loop that is all guard.
    if (best.unroll_run == 1 && samples != any_extent) {
        best.unroll_samples = static_cast<int>(std::clamp<std::int64_t>(samples / best.y, 1, schedule.unroll));
    }
    return best;
}

void apply_planar_gpu(BatchNormFuncs& f, const Schedule& schedule) {
    const bool staged = schedule.parallel == Schedule::Parallel::channels;
    const int tile = std::max(1, schedule.block);
    const Threads threads = threads_of(schedule, f.spec);
    const Var vector = Var("vector"), thread = Var("thread"), turn = Var("turn"), run = Var("run"),
              block = Var("block"), column = Var("column");
    // Of a block's channels and samples.
    const auto by_threads = [&](Func& func, const Var& row, const Var& channel, const Var& sample) {
        func.split(row, row, vector, schedule.vector, guard).vectorize(vector);
        func.reorder(vector, row, channel, sample).fuse(row, channel, row);
        if (threads.flat) {
            func.fuse(row, sample, row).split(row, row, thread, schedule.threads, guard);
            func.split(row, row, turn, schedule.unroll, guard).reorder(vector, turn, row, thread);
        } else {
            Var x = Var("x"), y = Var("y");
            func.split(row, row, x, threads.x).split(sample, sample, y, threads.y, guard);
            if (threads.unroll_run > 1) {
                func.split(row, row, turn, threads.unroll_run, guard);
            } else {
                func.split(sample, sample, turn, threads.unroll_samples, guard);
            }
            func.reorder(vector, turn, row, sample, x, y).fuse(x, y, thread);
        }
        func.unroll(turn).gpu_threads(thread);
    };
    f.tensors.split(c, column, c, tile, guard);
    f.tensors.reorder(s, c, n, column);
    if (!staged) f.tensors.split(n, run, n, schedule.task, guard).reorder(s, c, n, column, run);
    by_threads(f.tensors, s, c, n);
    const Var blocks = staged ? column : block;
    if (!staged) f.tensors.fuse(column, run, block);
    f.tensors.gpu_blocks(blocks);
    const Block at{f.tensors, blocks};
    if (staged && !f.reductions.empty()) {
        for (Func& input : f.inputs) {
            Func slab = input.in();
            const std::vector<Var> vars = slab.args();
            at.share(slab, f.spec.outer > f.spec.inner ? vars[2] : vars[0]).bound_extent(vars[1], tile);
            by_threads(slab, vars[0], vars[1], vars[2]);
        }
        const int width = staged_width(f.spec, schedule);
        for (Reduction& red : f.reductions) {
            place_planar_chunks(red, at, width, 0, tile, schedule.threads);
            for (Level* level : {&red.group, &red.section, &red.total}) {
                at.share(level->result, c).gpu_threads(c);
                accumulate(level->sums, level->result, c);
            }
        }
        f.channel_results.split(c, column, c, tile, guard).gpu_blocks(column).gpu_threads(c);
        f.channel_results.compute_with(f.tensors, column);
    } else {
        place_split_planar_sums(f, schedule);
    }
    // Last: the clones that sums have of them take over what is said of them before.
    for (Func& v : channel_values(f)) at.share(v, c).bound_extent(c, tile).gpu_threads(c);
}

void apply_interleaved_gpu(BatchNormFuncs& f, const Schedule& schedule) {
    const int tile = schedule.block, columns = tile / schedule.vector;
    const Var vector = Var("vector"), thread = Var("thread"), turn = Var("turn"), run = Var("run"),
              block = Var("block"), column = Var("column");
    for (Reduction& red : f.reductions) {
        Func group = red.group.result;
        group.compute_root().split(c, column, c, tile, guard).reorder(c, column, g).fuse(column, g, block);
        group.gpu_blocks(block).gpu_threads(c);
        accumulate(red.group.sums, group, c);
        place_affine_of_sums(f, {group, block}, tile);
        place_interleaved_chunks(red, {group, block}, f.spec, statistics_width(f.spec, schedule.vector), tile);
        place_totals(red);
    }
    place_channel_results(f);

    // Each split's parts have names of their own: Halide's simplifier wants every name once.
    const Var in_tile = Var("in_tile"), x = Var("x"), in_run = Var("in_run"), turns = Var("turns"), rows = Var("rows"),
              y = Var("y");
    std::vector<VarOrRVar> order;  // innermost first
    f.tensors.split(c, column, schedule.vector > 1 ? in_tile : x, tile, guard);
    if (schedule.vector > 1) {
        f.tensors.split(in_tile, x, vector, schedule.vector, guard).vectorize(vector);
        order.push_back(vector);
    }
    f.tensors.split(r, run, in_run, schedule.task, guard).split(in_run, rows, y, schedule.threads / columns, guard);
    // No more turns at once than a run has: Halide 21 fails on a loop that is all guard.
    const int unroll = std::clamp(schedule.task / (schedule.threads / columns), 1, schedule.unroll);
    if (unroll > 1) {
        f.tensors.split(rows, turns, turn, unroll, guard).unroll(turn);
        order.push_back(turn);
    }
    for (const Var& loop : {unroll > 1 ? turns : rows, x, y, column, run}) order.push_back(loop);
    f.tensors.reorder(order).fuse(x, y, thread).gpu_threads(thread);
    f.tensors.fuse(column, run, block).gpu_blocks(block);
    for (Func& v : channel_values(f)) {
        Block{f.tensors, block}.share(v, c).gpu_threads(c);
        bound_channels(v, f.spec, tile);
        // A thread's own channels, for all of its rows.
        Func kept = v.in(f.tensors);
        kept.compute_at(f.tensors, thread).store_in(MemoryType::Register).bound_extent(c, schedule.vector).vectorize(c);
    }
}

void apply_gpu(BatchNormFuncs& f, const Schedule& schedule) {
    check_legal(schedule, f.spec);
    if (f.spec.view == View::planar) {
        apply_planar_gpu(f, schedule);
    } else {
        apply_interleaved_gpu(f, schedule);
    }
}

}  // namespace fusebn
