#include <functional>

#include "generators/numerics.h"
#include "schedules/apply.h"

namespace fusebn {

using namespace Halide;

namespace {

// Vectors that are not whole run under a mask: nothing past the end is read or written, so y may be x.
void vectorize(Stage stage, const VarOrRVar& v, int width) {
    stage.vectorize(v, width, v.is_rvar ? TailStrategy::GuardWithIf : TailStrategy::Predicate);
}

// The loops of an update, innermost first, the vector left out.
using Order = std::function<std::vector<VarOrRVar>(const Accumulators::Update&)>;

// On the stack, which the optimiser keeps in registers where there are few of them.
void place(Accumulators& sums, const LoopLevel& at, const Var& pure, int width, const Order& order) {
    sums.f.compute_at(at).store_in(MemoryType::Stack);
    vectorize(sums.f, pure, width);
    for (size_t i = 0; i < sums.updates.size(); ++i) {
        const Accumulators::Update& update = sums.updates[i];
        Stage stage = sums.f.update(static_cast<int>(i));
        RVar outer("outer"), inner("inner");
        Var pure_outer("pure_outer"), pure_inner("pure_inner");
        std::vector<VarOrRVar> loops = order(update);
        if (update.vector.is_rvar) {
            stage.split(update.vector.rvar, outer, inner, width, TailStrategy::GuardWithIf).vectorize(inner);
            loops.insert(loops.begin(), {inner, outer});
        } else {
            stage.split(update.vector.var, pure_outer, pure_inner, width, TailStrategy::Predicate)
                .vectorize(pure_inner);
            loops.insert(loops.begin(), {pure_inner, pure_outer});
        }
        stage.reorder(loops);
    }
}

// A row's accumulators inside the loops over rows and channels.
void place(ChunkSum& sum, const LoopLevel& at, const Var& pure, int width, const Order& order) {
    place(sum.all, at, pure, width, order);
    if (!sum.row.f.defined()) return;
    place(sum.row, LoopLevel(sum.all.f, vars::c), pure, width, [](const Accumulators::Update& update) {
        return std::vector<VarOrRVar>(update.loops.begin(), update.loops.end());
    });
}

// What makes a chunk's result, in a loop over chunks: its first step, which is read for the pivot, is then in the L1
// cache.
void place_in_chunk(Reduction& r, const LoopLevel& chunk, const Var& pure, int width, const Order& order) {
    for (ChunkSum& sum : r.sums) place(sum, chunk, pure, width, order);
    for (Fold& fold : r.folds) fold.f.compute_at(chunk).store_in(MemoryType::Stack).vectorize(vars::l, fold.lanes);
    for (Func& pivot : r.pivots) pivot.compute_at(chunk).store_in(MemoryType::Stack);
}

// From the tensors to the merged chunks of a group, chunk by chunk.
void place_in_group(Reduction& r, const Var& pure, int width, const Order& order) {
    const LoopLevel chunk(r.group.sums, r.group.in);
    place_in_chunk(r, chunk, pure, width, order);
    r.chunk.compute_at(chunk).store_in(MemoryType::Stack);
}

// The tensors' inner loop: along contiguous elements, `unroll` vectors a turn.
void vectorize_tensors(BatchNormFuncs& f, const Var& inner, const Schedule& schedule) {
    Var vector("vector");
    f.tensors.split(inner, inner, vector, schedule.vector * schedule.unroll, TailStrategy::Predicate).vectorize(vector);
}

// What joined rows are made with: a task's, beside the elements.
void join_rows(BatchNormFuncs& f, const Var& task) {
    using vars::c, vars::n, vars::s;
    for (std::vector<Func>* all : {&f.affine_rows, &f.slopes_rows}) {
        for (Func& values : *all) {
            values.compute_at(f.tensors, task).store_in(MemoryType::Stack);
            vectorize(values, s, numerics::planar::lanes);
        }
    }
    if (!f.mask_rows.defined()) return;
    // The last vector of a row once more has some of the one before: so all are whole.
    int lanes = 32;
    while (lanes > f.spec.inner) lanes /= 2;
    f.mask_rows.compute_at(f.tensors, n).store_in(MemoryType::Stack);
    f.mask_rows.vectorize(s, lanes, TailStrategy::ShiftInwards).unroll(s);
}

std::vector<Func> channel_values(const BatchNormFuncs& f) {
    std::vector<Func> all = f.affine;
    all.insert(all.end(), f.slopes.begin(), f.slopes.end());
    return all;
}

}  // namespace

void apply_planar_cpu(BatchNormFuncs& f, const Schedule& schedule) {
    using vars::c, vars::g, vars::k, vars::l, vars::n, vars::s;
    const bool parallel = schedule.parallel != Schedule::Parallel::none;
    const bool by_channel = (!f.reductions.empty() || schedule.join) && schedule.parallel != Schedule::Parallel::rows;
    Var tasks("tasks"), task("task");

    // The channels of a task go together, sample by sample: their rows are neighbours in memory.
    const auto order = [](const Accumulators::Update& update) {
        std::vector<VarOrRVar> loops(update.loops.begin(), update.loops.end());
        loops.insert(update.by_rows ? loops.end() - 1 : loops.end(), c);
        return loops;
    };
    f.tensors.split(c, task, c, schedule.task, TailStrategy::GuardWithIf);
    Var row("row");
    if (schedule.join) f.tensors.fuse(s, c, row);
    vectorize_tensors(f, schedule.join ? row : s, schedule);
    const bool by_samples = schedule.parallel == Schedule::Parallel::samples;
    if (by_channel) {
        if (schedule.join) {
            f.tensors.reorder(row, n, task);
            join_rows(f, task);
        } else {
            f.tensors.reorder(s, c, n, task);
        }
        if (parallel) f.tensors.parallel(by_samples ? n : task);
        for (Func& v : channel_values(f)) v.compute_at(f.tensors, task).store_in(MemoryType::Stack);
        for (Reduction& r : f.reductions) {
            r.total.result.compute_at(f.tensors, task).store_in(MemoryType::Stack);
            r.total.sums.compute_at(f.tensors, task).store_in(MemoryType::Stack);
            r.total.sums.update().reorder(c, r.total.in);
            r.section.sums.compute_at(r.total.sums, r.total.in).store_in(MemoryType::Stack);
            r.section.sums.update().reorder(c, r.section.in, g);
            r.group.sums.compute_at(r.section.sums, r.section.in).store_in(MemoryType::Stack);
            r.group.sums.update().reorder(c, r.group.in, g);
            if (!by_samples) {
                place_in_group(r, l, numerics::planar::lanes, order);
                continue;
            }
            // As the samples of the tensors' loop: a thread sums up what it will store.
            constexpr std::int64_t chunk = numerics::planar::chunk_elements;
            Var sample("sample");
            r.chunk.compute_at(f.tensors, task).store_in(MemoryType::Stack);
            r.chunk.split(k, sample, k, static_cast<int>((f.spec.inner + chunk - 1) / chunk),
                          TailStrategy::GuardWithIf);
            r.chunk.reorder(c, k, sample);
            r.chunk.parallel(sample);
            place_in_chunk(r, LoopLevel(r.chunk, k), l, numerics::planar::lanes, order);
        }
        if (!f.channel_results.defined()) return;
        f.channel_results.split(c, task, c, schedule.task, TailStrategy::GuardWithIf);
        if (parallel && !by_samples) f.channel_results.parallel(task);
        f.channel_results.compute_with(f.tensors, task);
        return;
    }
    f.tensors.reorder(s, c, task, n);
    if (parallel) f.tensors.fuse(task, n, tasks).parallel(tasks);
    for (Func& v : channel_values(f)) v.compute_root().vectorize(c, 8, TailStrategy::Predicate);
    for (Reduction& r : f.reductions) {
        r.total.result.compute_root();
        r.total.sums.compute_at(r.total.result, c);
        r.section.sums.compute_at(r.total.result, c);
        r.group.sums.compute_root();
        r.group.sums.update().fuse(c, g, tasks).parallel(tasks);
        place_in_group(r, l, numerics::planar::lanes, order);
    }
}

void apply_interleaved_cpu(BatchNormFuncs& f, const Schedule& schedule) {
    using vars::c, vars::g, vars::k, vars::r;
    const bool parallel = schedule.parallel != Schedule::Parallel::none;
    Var tasks("tasks"), task("task"), block("block"), vector("vector");

    f.tensors.split(r, task, r, schedule.task, TailStrategy::GuardWithIf);
    vectorize_tensors(f, c, schedule);
    f.tensors.reorder(c, r, task);
    if (parallel) f.tensors.parallel(task);
    for (Func& v : channel_values(f)) v.compute_root().vectorize(c, 8, TailStrategy::Predicate);
    if (f.channel_results.defined()) f.channel_results.vectorize(c, 8, TailStrategy::Predicate);

    for (Reduction& st : f.reductions) {
        for (Level* level : {&st.total, &st.section}) {
            level->sums.compute_root().vectorize(c, 8, TailStrategy::Predicate);
            level->sums.update().reorder(level->in, c).vectorize(c, 8, TailStrategy::Predicate);
        }
        st.total.result.compute_root().vectorize(c, 8, TailStrategy::Predicate);
        st.group.sums.compute_root();
        // Row by row, as they lie in memory; the accumulators of a block of channels are in the L1 cache.
        const auto order = [](const Accumulators::Update& update) {
            return std::vector<VarOrRVar>(update.loops.begin(), update.loops.end());
        };
        for (Func& pivot : st.pivots) vectorize(pivot, c, 8);
        if (schedule.parallel == Schedule::Parallel::chunks) {
            st.chunk.compute_root();
            if (schedule.block > 0) {
                st.chunk.split(c, block, c, schedule.block, TailStrategy::GuardWithIf).fuse(block, k, tasks);
            }
            st.chunk.split(c, c, vector, 8, TailStrategy::Predicate).vectorize(vector);
            const Var& outer = schedule.block > 0 ? tasks : k;
            st.chunk.reorder(vector, c, outer).parallel(outer);
            place_in_chunk(st, LoopLevel(st.chunk, outer), c, schedule.vector, order);
            st.group.sums.vectorize(c, 8, TailStrategy::Predicate);
            st.group.sums.update().reorder(st.group.in, c, g).vectorize(c, 8, TailStrategy::Predicate);
            continue;
        }
        Stage merge = st.group.sums.update();
        if (schedule.block > 0) {
            merge.split(c, block, c, schedule.block, TailStrategy::GuardWithIf);
            merge.split(c, c, vector, 8, TailStrategy::Predicate).vectorize(vector);
            merge.reorder(vector, c, st.group.in, block, g);
            if (parallel) merge.fuse(block, g, tasks).parallel(tasks);
        } else {
            merge.split(c, c, vector, 8, TailStrategy::Predicate).vectorize(vector);
            merge.reorder(vector, c, st.group.in, g);
            if (parallel) merge.parallel(g);
        }
        place_in_group(st, c, schedule.vector, order);
        vectorize(st.chunk, c, 8);
    }
}

void apply_cpu(BatchNormFuncs& f, const Schedule& schedule) {
    check_legal(schedule, f.spec);
    if (f.spec.view == View::planar) {
        apply_planar_cpu(f, schedule);
    } else {
        apply_interleaved_cpu(f, schedule);
    }
}

}  // namespace fusebn
