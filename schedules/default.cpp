// The default schedule, from a model of the caches.
//
//   bytes     of x and y together; what is read once and written once
//   store     stream when x and y do not fit the L3 cache together: y would push out what is still to be read, and each
//             of its lines would be read before it is written. planar train_forward and backward earlier (figures for
//             32 MB of L3, shared with others): where rows are whole lines from 0.65 of it on (training 112x28x28,
//             22 MB: 1.2 to 1.6 times as fast; 96x28x28, 19 MB: 0.96), where they are 16-byte pieces from 0.75
//             (training 448x14x14, 22 MB: 0.88, 512x14x14, 26 MB: 1.34, 640x14x14: 1.69; backward 320x14x14, 24 MB:
//             1.14, 384x14x14: 1.5); not interleaved (training of 26 MB: 0.8, backward of 38 MB: 1.4). Well inside the
//             cache streaming costs the reader of y more than it saves: a 6 MB copy and a reading of it took 2.1 times
//             as long, one of 24 MB as long. So smaller tensors are stored through it. By processor later: on family 26
//             lines from 0.7 of it on, pieces from 0.95 (through the cache training 112x28x28 1.04 to 1.28 times as
//             fast, 512x14x14 1.22 to 1.33, 640x14x14 0.86; backward 384x14x14 1.16 to 1.19). 128x28x28, 0.77 of it, is
//             1.2 times as fast where the host leaves the cache alone, 0.9 to 1.0 and 0.6 where not. Or sooner: a Xeon
//             of model 207 writes to its L3 cache no faster than to memory, so that a copy and a reading of it is 1.1
//             to 1.5 times as fast streamed from 6 MB tensors on; there all but planar sums of pieces from 0.35 of it
//             on (inference 1.16 to 1.29 times as fast, interleaved training 1.12 to 1.24, planar 1.04 to 1.2). A
//             streamed row is whole turns of vector * unroll, of a power of two lanes: with 28, LLVM makes a puzzle of
//             a mask (backward 1024x14x14 with relu6: 1.9 times as long). But beside a mask, whose bytes are eight
//             elements: then what is left of a row is stored in pieces (on family 26, not measured elsewhere: training
//             1024x14x14 with a residual 1.33 times as fast as through the cache, 512x14x14 1.5, backward 1.4 to 1.5,
//             interleaved training of 100 channels 1.27). Longer turns of other rows gain nothing by it (0.86 to 1.04).
//   parallel  none below 64 KB, which take a few microseconds: a thread that sleeps is woken in about twenty.
//             planar train_forward goes by channels, which reads each value from DRAM once, where a channel's slab and
//             its neighbour's fit the L3 cache (two threads work on two slabs) and there are channels enough for the
//             threads; else by rows. interleaved train_forward with one group of chunks, backward with two, and
//             eight or more whole chunks, of up to 2048 channels, by chunks (1024x512: training 1.05, backward 1.12
//             times as fast as in blocks of 64 channels; 784x1024: 1.07, 1.16; 1000x2048: 1.13, 1.3; of two groups,
//             1568 rows, backward 0.94 to 1.1, training 0.81 to 1.03). By processor, planar backward from memory by
//             samples where a channel's slabs are larger than a core's L2 cache and their halves are not (2 MB:
//             64x112x112 on two threads 1.14 to 1.18 times as fast, 64x100x100 1.15, 64x128x128 1.08, 64x224x224 of
//             eight samples 1.04, on one thread the same; 64x56x56, whose slabs fit, 0.93, training of 1.6 to 2.1 MB
//             0.93 to 1.05).
//   task      planar train_forward by channels: as many channels as make 12 KB of a sample, so that short rows are read
//             and written as runs of neighbours (7x7: 2.2 times as fast as one by one), while two tasks' slabs fit
//             the L2 cache together, and there are eight tasks to share out. One, and prefetch 2, where two results
//             are streamed in pieces (backward with a second branch: 1024x14x14 1.27 times as fast, 512x10x10 1.57).
//             else as many channels or rows as make 128 KB of x: long enough to hide the hand-over, short enough to
//             balance.
//   prefetch  planar train_forward and backward by channels: 1 with tensors beyond a third of the L3 cache. While one
//             task's y is stored, the next one's x comes into the L2 cache, where its statistics are made (256x56x56:
//             1.35 times as fast; from the L3 cache, 2048x7x7: 1.2 times, backward 256x14x14: 1.3). Smaller ones come
//             from there as fast as they are needed (without, 512x7x7: training 1.02 to 1.14, backward 1.0 to 1.1;
//             128x50: 1.07, 1.16; 128x14x14: 1.04, 1.06; in bf16 512x7x7 0.95, 0.99).
//             interleaved train_forward and backward: 1 with tensors beyond half of the L3 cache (backward 256x56x56:
//             1.4 times as fast; 25088 rows of 72 to 200 channels 1.1 to 1.9; 64 channels within some hundredths,
//             either way), of up to 32 channels with tensors beyond all of it (100352x24: 1.02 to 1.17 without). By
//             processor, none where a row of all that is read twice takes more than a page (on one of family 26
//             backward of 1024 and 2048 channels 0.98 to 1.26 times as fast without, training 1.0 to 1.13; a search on
//             one of family 25 kept them for each of 17 such kernels), and none in training of up to two L3
//             caches and in backward of up to one and a half (on family 26 1.05 to 1.23 times as fast without; two with
//             a residual 0.94), where there are no steps. Where a processor drops no prefetch they cost more and gain
//             less: planar where y is streamed, not just large (2048x7x7, with a residual and backward 1.04 to 1.12
//             times as fast without; training 64x14x14 with a residual 1.31 times as fast without, 32x28x28
//             1.13; streamed 128x28x28 1.09 times as fast with, backward 1.1), and slabs of at most 1 MB, twice the L2
//             cache of the model (on a machine with 2 MB of L2 slabs of 1.6 MB: 1.22 to 1.44 times as fast without; two
//             branches' 1.2 MB: 1.3; 0.8 MB: not). interleaved as on family 26 (backward of 39 MB 1.05 to 1.09 times as
//             fast without).
//   repeat    once where no prefetch is dropped (else 1.04 to 1.22 times as long), and where a task's slabs are larger
//             than two L2 caches (64x112x112, whose slabs are 1.6 MB: 0.96 by repeating; not where the sums fetch
//             samples ahead: the same kernel 1.03, with a residual 1.06). Elsewhere, where the tensors
//             leave the cache and are prefetched, planar 8 where x alone is read and the tensors are 1.5 times the L3
//             cache (training 256x56x56: 1.28 to 1.4 times as fast, 512x28x28 1.34), and a turn is a line at least;
//             else 4 (backward 112x28x28 to 160x28x28 1.31 to 1.44 times as fast as once, training 128x28x28 with a
//             residual 1.3, 192x28x28 1.14, backward 1280x7x7 1.17, 384x14x14 0.98; of larger ones backward and
//             residuals 1.0 to 1.28, and 0.87 to 1.2 times as 8, in geometric mean 1.04; by processor 8 for all that
//             are 1.5 times the L3 cache: on family 26 0.98 to 1.36 times as fast). interleaved: 4 (1.02 to 1.1);
//             beside steps, which are fetched once, the apply loop's lines once too (four times is no faster).
//   steps     interleaved train_forward and backward, by processor, on family 26 in place of prefetch with tensors
//             beyond one and a half L3 caches (training) or one (backward), of whole lines of 32 (48) channels and
//             more: as many as reach 12 KB of all that is read twice, of 16-bit types 16 (fast memory: training
//             64x112x112 1.07, with a residual 1.1, 256x56x56 1.12, bf16 128x112x112 1.38; backward 64x112x112 1.25,
//             128x56x56 1.17, 96x112x112 1.22, 144x56x56 1.27, bf16 64x112x112 1.2, 128x56x56 1.4; slow memory: 1.01
//             to 1.1. Too near costs: 96x112x112 training with one step 0.9), but for steps of more than 16 KB
//             (backward of 512 channels 0.9 to 1.07, of 1024 0.92) and rows in pieces of lines (training of 100
//             channels 0.89). On Intel in backward alone, of up to 4 KB (64 channels of 112x112 0.99 to 1.06 times as
//             fast as by chunks, bf16 128 channels 1.02 to 1.1; more channels, and training, 0.85 to 1.0).
//   block     interleaved: channels whose chunk fits the L2 cache and whose accumulators (12 bytes a channel) fit half
//             of the L1 cache, at least 4 lines to a row, and all blocks alike but for the last. Wider is better, as
//             rows are then read as they lie (6272x512, 6272x1024 and 25088x512 in blocks of 336: 1.05 to 1.4 times as
//             long). Few rows are few groups of chunks, which are what threads share: then narrower, until there are
//             six tasks (1568x1024: 1.1 to 1.2 times as fast in four blocks as in one, 1.2 as in two of 688 and 336;
//             but 6272 rows, seven groups, 1.03 to 1.12 times as fast in whole rows).
//   unroll    4 vectors, fewer where a row is shorter than half of that: what is beyond its end is masked, and costs
//             all the same (3 interleaved channels).
//   ahead     interleaved, where the tensors are streamed or would be, of 128 channels and more: 2. Three numbers a
//             channel are then read beside x, so fewer lines of x are under way at once (inference, 256 channels: 0.86
//             of a copy without, 0.97 with). Harmful where that is not so: planar 0.84. By processor (Intel) 4 in
//             train_forward and backward of fewer, from 32 on, beyond three L3 caches (training 64x112x112 1.1 times
//             as fast, 96x112x112 1.11, backward 32x112x112 1.1, bf16 64x112x112 1.2).
//             planar train_forward and backward by channels, by processor (family 26): 1 in training with tensors
//             beyond three L3 caches (256x56x56 1.05 and 1.15 times as fast, 64x112x112 1.07, 1.1, 144x56x56 1.13;
//             from the L3 cache 512x14x14 0.79). And 1 in place of prefetch with slabs of more than 1.2 L2 caches of
//             the model, up to two, and tensors of up to five L3 caches: the next task's push out what this one is
//             to read again (backward 64x56x56 0.98 and 1.19 times as fast, 16x64x80x80 1.13, training 64x56x56 with
//             a second branch 1.23, 64x80x80 1.12; slabs of 1.3 MB 0.97 to 1.06, tensors of 173 MB 0.95). And 1 in
//             backward with a second branch beyond three L3 caches, in turns of 32 bytes, of 16-bit types 64
//             (64x56x56 1.19 to 1.22 times as fast, 256x56x56 1.15, 64x112x112 1.0 to 1.02, 512x28x28 1.06; turns
//             alone 1.02 to 1.16; bf16 1.04 to 1.11). On Intel 1 of all beyond three L3 caches (training 64x112x112
//             1.2 to 1.27 times as fast, 256x56x56 with a residual 1.15 to 1.21, with a second branch 1.24; 128x56x56
//             0.98 to 1.03), in backward of slabs of more than 1.2 L2 caches of the model alone (256x56x56 1.17 times
//             as fast, with prefetch 1.07; 64x112x112 1.07; with a second branch 1.13).
//   join      planar, where rows are no whole lines (7x7, 14x14) but those of some channels are: in backward of two
//             results (a residual's or a second branch's gradient) of 16 samples and more (2048x7x7 1.34 and 1.53 times
//             as fast, 1024x14x14 1.35 and 1.37, of 128 samples 1.7 to 2.0; from the cache 160x7x7 1.25, 96x14x14 1.2,
//             256x10x10 1.2; of 8 samples 0.95 to 1.12, of 4 0.7), and in inference of 8 and more that is streamed
//             (2048x7x7 1.23, with a residual 1.28, 14x14 0.99 to 1.05, under hardswish 1.18). Not with one result
//             (training 0.62 to 1.2, backward 0.7 to 1.05).
//   vector    16 floats: one zmm, two ymm, four xmm. interleaved train_forward from memory: 32, whole pairs of
//             lines (on AVX-512 1.08 to 1.15 times as fast, on AVX2 the same; backward with 16 instead 0.97 to 1.04 and
//             1.0 to 1.11), and on one thread too (32x128: training 1.1, backward 1.15). Less where a streamed row is
//             no multiple, but not of silu, which computes for longer than it waits (14x14 from memory stored through
//             the cache in whole vectors, beside streamed in vectors of 4: training 2.1 to 2.3 times as fast, backward
//             1.7 to 1.8, inference 2.2; interleaved, 24 and 40 channels, 0.9 to 1.3).

#include <algorithm>

#include "generators/numerics.h"
#include "schedules/schedule.h"

namespace fusebn {

CacheModel model_for(std::string_view processor, CacheModel caches) {
    // Measured on Intel Xeons (family 6, models 167 and 207) and an AMD EPYC (family 26, model 2): docs/performance.md,
    // "A second machine" and those after it.
    if (is_for_processor("GenuineIntel", processor)) {
        caches.drops_prefetches = false;
        caches.fetches_long_rows = false;
        caches.fetches_from_l3 = false;
        caches.longest_backward_step = 4 << 10;
        caches.fetches_short_rows = true;
        caches.samples = CacheModel::Samples::from_memory;
    }
    if (is_for_processor("GenuineIntel family 6 model 207", processor)) {
        caches.streams = 0.35;
        caches.streams_lines = 0.35;
        caches.shares_beyond = 2 << 20;
    }
    if (is_for_processor("AuthenticAMD family 26", processor)) {
        caches.fetches_long_rows = false;
        caches.fetches_from_l3 = false;
        caches.longest_training_step = caches.longest_backward_step = 16 << 10;
        caches.streams_lines = 0.7;
        caches.streams_pieces = 0.95;
        caches.samples = CacheModel::Samples::by_size;
        caches.asks = 8;
    }
    return caches;
}

namespace {

constexpr std::int64_t serial_bytes = 64 << 10;
constexpr std::int64_t task_bytes = 128 << 10;
constexpr std::int64_t run_bytes = 12 << 10;

std::int64_t parts(std::int64_t of, std::int64_t size) { return (of + size - 1) / size; }

std::int64_t or_if_any(std::int64_t extent, std::int64_t guess) { return extent == any_extent ? guess : extent; }

// What is known of a kernel when its schedule is chosen. An extent that is known at run time only is taken for a
// middling one: parallel, cached.
struct Known {
    const KernelSpec& spec;
    const CacheModel& caches;
    std::int64_t outer = or_if_any(spec.outer, spec.view == View::planar ? 32 : 8192);
    std::int64_t channels = or_if_any(spec.channels, 64);
    std::int64_t inner = spec.view == View::planar ? or_if_any(spec.inner, 784) : 1;
    std::int64_t element = element_bytes(spec.dtype);
    Traffic moved = traffic(spec);
    bool reduces = spec.op != Op::inference;
    // Elements of a row, maybe any_extent.
    std::int64_t run = spec.view == View::interleaved ? spec.channels : spec.inner;
    int narrowest = reduces && saves_mask(spec.activation, spec.residual) ? 8 : 4;

    double tensor() const {
        return static_cast<double>(element) * static_cast<double>(outer) * static_cast<double>(channels) *
               static_cast<double>(inner);
    }
    double bytes() const { return moved.tensors() * tensor(); }
    // Of one channel, in all tensors that are read twice.
    double slabs() const {
        return moved.read_twice * static_cast<double>(outer) * static_cast<double>(inner) *
               static_cast<double>(element);
    }
    double l3s() const { return bytes() / static_cast<double>(caches.l3); }
    bool two_branches() const { return spec.op == Op::backward && spec.residual == Residual::batch_norm; }
    bool run_can_be_fetched() const { return run != any_extent && run <= longest_fetched_row; }
};

Schedule::Parallel parallel(const Known& k) {
    if (k.bytes() < serial_bytes) return Schedule::Parallel::none;
    if (!k.reduces) return Schedule::Parallel::rows;
    if (k.spec.view == View::planar) {
        const bool slabs_fit = 2 * k.slabs() <= static_cast<double>(k.caches.l3) / 2;
        return slabs_fit && k.channels >= 8 ? Schedule::Parallel::channels : Schedule::Parallel::rows;
    }
    using namespace numerics::interleaved;
    constexpr std::int64_t enough = 8, widest_measured = 2048;
    const std::int64_t groups = k.spec.op == Op::backward ? 2 : 1;
    const bool by_chunks = k.outer >= enough * chunk_rows && k.outer <= groups * chunks_per_group * chunk_rows &&
                           k.channels <= widest_measured;
    return by_chunks ? Schedule::Parallel::chunks : Schedule::Parallel::rows;
}

void by_channels(Schedule& s, const Known& k) {
    const std::int64_t row = k.inner * k.element, slab = k.moved.read_twice * k.outer * row;  // below 2^45
    const std::int64_t most = std::min({run_bytes / row, k.caches.l2 / (2 * slab), k.channels / 8, std::int64_t{16}});
    while (2 * s.task <= most) s.task *= 2;
    if (k.caches.drops_prefetches && k.l3s() > 1.0 / 3 && k.run_can_be_fetched()) s.prefetch = 1;
}

void by_rows(Schedule& s, const Known& k) {
    const std::int64_t row = (k.spec.view == View::planar ? k.inner : k.channels) * k.element;
    const std::int64_t units = k.spec.view == View::planar ? k.channels : k.outer;
    s.task = static_cast<int>(
        std::clamp<std::int64_t>(task_bytes / row, 1, std::clamp<std::int64_t>(units, 1, longest_task)));
}

// In place of a chunk: so many steps as make 12 KB of all that is read, of 16-bit types 16.
void by_steps(Schedule& s, const Known& k) {
    const bool trains = k.spec.op == Op::train_forward;
    const std::int64_t step = numerics::tree * k.channels * k.element * k.moved.read_twice;
    const std::int64_t longest = trains ? k.caches.longest_training_step : k.caches.longest_backward_step;
    constexpr std::int64_t most = 8;
    const bool near = k.l3s() <= (trains ? 1.5 : 1.0);
    if (near || k.channels < (trains ? 32 : 48) || step > longest || stream_alignment(k.spec) != 64) return;
    const std::int64_t reach = (k.element == 4 ? 12 : 16) << 10;
    s.prefetch = 0;
    s.steps = 1;
    while (2 * s.steps * step <= reach && 2 * s.steps <= most) s.steps *= 2;
}

void interleaved_sums(Schedule& s, const Known& k) {
    if (s.parallel == Schedule::Parallel::chunks) return;
    const bool pairs_of_lines = k.spec.channels >= 64 && k.spec.channels % 32 == 0;
    using namespace numerics::interleaved;
    const std::int64_t fits =
        std::min(k.caches.l2 / (chunk_rows * k.element * k.moved.read_twice), k.caches.l1 / 2 / 12);
    std::int64_t blocks = parts(k.channels, std::max<std::int64_t>(64, fits));
    const std::int64_t groups = parts(k.outer, chunk_rows * chunks_per_group);
    constexpr std::int64_t enough = 6, narrowest = 48;
    const bool shared = k.spec.channels != any_extent && s.parallel != Schedule::Parallel::none;
    while (shared && groups * blocks < enough && k.channels >= 2 * blocks * narrowest) blocks *= 2;
    if (blocks > 1) s.block = static_cast<int>(parts(parts(k.channels, blocks), 16) * 16);
    const bool trains = k.spec.op == Op::train_forward;
    const double far = k.channels > 32 ? 0.5 : 1;
    const double fetched = k.caches.fetches_from_l3 ? far : (trains ? 2 : 1.5);
    constexpr std::int64_t page = 4096;
    const bool long_row = k.channels * k.element * k.moved.read_twice > page;
    s.prefetch = k.run_can_be_fetched() && k.l3s() > fetched && (k.caches.fetches_long_rows || !long_row) ? 1 : 0;
    by_steps(s, k);
    if (pairs_of_lines && ((trains && k.l3s() > far) || s.parallel == Schedule::Parallel::none)) {
        s.vector = 32;
        s.unroll = 2;
    }
}

constexpr double far_beyond_l3 = 3;

// What planar sums read, fetched a sample ahead: in training with what the apply loop fetches, in backward of two
// branches with that and in short turns, and alone where a task's slabs and the next one's do not fit the L2 cache
// together.
void fetch_samples_by_size(Schedule& s, const Known& k) {
    const double slabs = k.slabs() * s.task, l2 = static_cast<double>(k.caches.l2);
    const bool far = k.l3s() > far_beyond_l3;
    const bool alone = slabs > 1.2 * l2 && slabs <= 2 * l2 && k.l3s() <= 5;
    const bool in_short_turns = k.two_branches() && far && stream_alignment(k.spec) == 64;
    if (s.prefetch == 0) return;
    if (alone) s.prefetch = 0;
    if (alone || in_short_turns || (k.spec.op == Op::train_forward && far)) s.ahead = 1;
    if (in_short_turns && k.element == 4) s.vector = 8;
    if (in_short_turns) s.unroll = k.element == 4 ? 1 : std::min(s.unroll, 2);
}

// Whether the halves of a channel's slabs fit where the slabs do not.
bool is_shared_by_samples(const Schedule& s, const Known& k) {
    constexpr double beyond_l3 = 2;
    const double slabs = k.slabs() * s.task, l2 = static_cast<double>(k.caches.shares_beyond);
    Schedule shared = s;
    shared.parallel = Schedule::Parallel::samples;
    return k.spec.op == Op::backward && k.spec.residual == Residual::none && k.l3s() > beyond_l3 && slabs > l2 &&
           slabs <= 2 * l2 && is_legal(shared, k.spec);
}

// The same of all that is read from memory, in backward alone where the next task's slabs would not leave enough of the
// L2 cache.
void fetch_samples_from_memory(Schedule& s, const Known& k) {
    const bool shared = is_shared_by_samples(s, k);
    if (k.l3s() <= far_beyond_l3 && !shared) return;
    s.ahead = 1;
    if (k.spec.op == Op::backward && k.slabs() * s.task > 1.2 * static_cast<double>(k.caches.l2)) s.prefetch = 0;
    if (shared) s.parallel = Schedule::Parallel::samples;
}

void fetch_samples(Schedule& s, const Known& k) {
    constexpr std::int64_t fewest_measured = 8;
    const bool by_channels = s.parallel == Schedule::Parallel::channels, known = k.spec.channels != any_extent;
    if (!by_channels || !known || !k.run_can_be_fetched() || k.outer < fewest_measured) return;
    if (k.caches.samples == CacheModel::Samples::by_size) fetch_samples_by_size(s, k);
    if (k.caches.samples == CacheModel::Samples::from_memory) fetch_samples_from_memory(s, k);
}

// Pages of what the loop that makes the tensors reads.
int pages_ahead(const Known& k) {
    constexpr std::int64_t shortest = 32, middling = 128;
    if (k.channels >= middling) return 2;
    const bool known = k.spec.channels != any_extent;
    const bool short_rows = k.reduces && known && k.channels >= shortest && k.caches.fetches_short_rows;
    return short_rows && k.l3s() > far_beyond_l3 ? 4 : 0;
}

int repeats(const Schedule& s, const Known& k) {
    if (s.prefetch == 0 || !k.caches.drops_prefetches) return 1;
    if (k.spec.view == View::interleaved) return 4;
    if (k.slabs() * s.task > 2 * static_cast<double>(k.caches.l2) && s.ahead == 0) return 1;
    constexpr std::int64_t line = 64;
    const bool beyond = k.l3s() > 1.5;
    if (!beyond || s.vector * s.unroll * k.element < line) return 4;
    return k.moved.read == 1 ? 8 : k.caches.asks;
}

// Rows that are no whole lines, of as many channels as make whole ones, and 2 KB.
void join(Schedule& s, const Known& k) {
    const std::int64_t row = k.spec.inner;
    const bool known = k.spec.view == View::planar && row != any_extent && k.spec.channels != any_extent;
    const std::int64_t fewest_measured = k.reduces ? 16 : 8;
    if (!known || k.spec.outer < fewest_measured || stream_alignment(k.spec) == 64 || needs_large(k.spec)) return;
    constexpr std::int64_t line = 64, run = 2 << 10;
    Schedule joined = s;
    joined.join = true;
    joined.vector = 16;
    joined.unroll = 1;
    joined.task = 2;
    const auto bytes = [&] { return row * joined.task * k.element; };
    while ((bytes() % line != 0 || bytes() < run) && k.channels % (2 * joined.task) == 0) joined.task *= 2;
    if (bytes() % line != 0 || k.channels / joined.task < 8) return;
    if (joined.parallel == Schedule::Parallel::rows && !k.reduces) joined.parallel = Schedule::Parallel::channels;
    if (k.slabs() * joined.task > 4 * static_cast<double>(k.caches.l2) || !is_legal(joined, k.spec)) return;
    s = joined;
}

// For tensors that leave the cache.
void stream(Schedule& s, const Known& k) {
    if (!k.reduces) join(s, k);
    Schedule streamed = s;
    streamed.store = Schedule::Store::stream;
    const auto fits = [&] {
        return is_legal(streamed, k.spec) && row_of(k.spec, streamed) % (streamed.vector * streamed.unroll) == 0;
    };
    while (!fits() && (streamed.unroll > 1 || streamed.vector > k.narrowest)) {
        if (streamed.unroll > 1) {
            streamed.unroll /= 2;
        } else {
            streamed.vector /= 2;
        }
    }
    const bool is_too_narrow = k.spec.activation == Activation::silu && streamed.vector < s.vector;
    if (is_legal(streamed, k.spec) && !is_too_narrow) s = streamed;
    const bool past = s.store == Schedule::Store::stream, in_pieces = past && stream_alignment(k.spec, s) != 64;
    if (in_pieces && s.prefetch > 0 && k.spec.view == View::planar && k.two_branches() && k.caches.drops_prefetches) {
        s.task = 1;
        s.prefetch = 2;
    }
    // Each prefetch costs, so only where the stores leave the caches to it.
    const bool by_channels = k.reduces && s.parallel == Schedule::Parallel::channels;
    if (past && by_channels && !k.caches.drops_prefetches && k.run_can_be_fetched()) {
        s.prefetch = k.slabs() <= 2 * static_cast<double>(k.caches.l2) ? 1 : 0;
    }
    if (k.spec.view == View::interleaved) s.ahead = pages_ahead(k);
    if (k.spec.view == View::planar && !s.join) fetch_samples(s, k);
    s.repeat = repeats(s, k);
}

}  // namespace

double streamed_share(const KernelSpec& spec, const Schedule& schedule, const CacheModel& caches) {
    if (spec.op == Op::inference || spec.view == View::interleaved) return caches.streams;
    return stream_alignment(spec, schedule) == 64 ? caches.streams_lines : caches.streams_pieces;
}

Schedule default_schedule(const KernelSpec& spec, const CacheModel& caches) {
    const Known k{spec, caches};
    Schedule s;
    s.vector = 16;
    while (s.vector > k.narrowest && k.run != any_extent && k.run < s.vector) s.vector /= 2;
    s.unroll = spec.generic() ? 1 : 4;  // a generic kernel has several forms of its loops as it is
    while (s.unroll > 1 && k.run != any_extent && k.run <= s.vector * s.unroll / 2) s.unroll /= 2;
    s.parallel = parallel(k);
    if (s.parallel == Schedule::Parallel::channels) {
        by_channels(s, k);
    } else {
        by_rows(s, k);
    }
    if (k.reduces && spec.view == View::interleaved) interleaved_sums(s, k);
    if (k.moved.written == 2) join(s, k);
    if (k.l3s() > streamed_share(spec, s, caches)) stream(s, k);
    return s;
}

}  // namespace fusebn
