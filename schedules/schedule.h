// HOW a kernel's loops run. A schedule is data: it can be written, read, searched and shipped, and it never changes a
// value: the sums' order is the algorithm's (generators/numerics.h).
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include "generators/kernel_spec.h"

namespace fusebn {

struct Schedule {
    enum class Parallel {
        none,      // one thread, one loop
        channels,  // planar train_forward and backward, and joined inference: a task is a run of channels, from the
                   // first sum to the last store
        rows,      // a task is a run of samples or rows; statistics and apply are separate loops
        chunks,    // the same, but interleaved sums share chunks out, not groups of them: for few rows
        samples,   // planar train_forward and backward: one run of channels after the other, of which the threads share
                   // the samples out, first for the sums and then to store: each has a part of the slabs in its cache
        // On a GPU a task is a block's, and by channels means one launch with a channel's slabs in shared memory.
    };
    enum class Store {
        cached,
        stream,  // non-temporal, past the caches; what is written must lie on stream_alignment()
    };

    // Lanes of the apply loop, and how many vectors its body has.
    int vector = 16, unroll = 1;
    // A GPU's schedule: threads in a block of the apply loop. 0: a CPU's.
    int threads = 0;
    Parallel parallel = Parallel::none;
    // planar: channels in a task.  interleaved: rows in a task of the apply loop.
    int task = 1;
    // interleaved train_forward and backward: channels whose sums are made together; 0: all.
    int block = 0;
    // train_forward and backward fetch what their sums read into the L2 cache before they are made: planar by channels,
    // in the apply loop, the task so far ahead; interleaved, in a chunk's sums, the chunk so far ahead. 0: none.
    int prefetch = 0;
    // interleaved train_forward and backward, in place of prefetch: a chunk's sums fetch so many steps of eight rows
    // ahead into the L1 cache, in the order of memory. 0: none.
    int steps = 0;
    // An apply loop that reads from memory fetches so many 4 KB pages ahead; 0: none. planar train_forward and backward
    // by channels: their sums so many samples ahead. (What no sum reads is fetched a sample ahead with prefetch, too.)
    int ahead = 0;
    // How often a line is asked for in a row; of planar sums and of steps once. A processor drops a prefetch when its
    // miss buffers are full.
    int repeat = 1;
    Store store = Store::cached;
    // planar by channels: the rows of a task's channels, which are neighbours in memory, are one row of the apply loop,
    // and the values of each channel are laid out beside its elements. For rows that are no whole lines.
    bool join = false;
};
bool operator==(const Schedule& a, const Schedule& b);

// "vector=16 unroll=2 parallel=channels task=1 block=0 prefetch=1 ahead=0 store=stream"
std::string to_text(const Schedule& schedule);

// Tensors that a kernel reads, those of them that it reads twice (for its sums and to apply them), and that it writes.
struct Traffic {
    int read, read_twice, written;
    int tensors() const { return read + written; }
};
Traffic traffic(const KernelSpec& spec);

// Elements of a row of the apply loop, maybe any_extent.
std::int64_t row_of(const KernelSpec& spec, const Schedule& schedule = {});

// Bytes that the addresses and outer strides of what is written must be multiples of for store=stream: what
// rows one behind the other keep.
// 64 where a row is made of whole lines; at least 16, the smallest non-temporal vector. Lines that two rows share are
// then filled by one task, one row after the other. 0: such rows cannot be streamed.
int stream_alignment(const KernelSpec& spec, const Schedule& schedule = {});

// A joined schedule's like for tensors whose channels have gaps between them.
Schedule apart(const Schedule& joined, const KernelSpec& spec);

class ScheduleError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// Reads the text form; keys left out keep their value in `base`. Throws ScheduleError: the key, what was found, what is
// allowed.
Schedule parse_schedule(const std::string& text, const Schedule& base);

// The schedule of a kernel whose spec has `text` for it: the keys of `text` over `fallback`. Where those of the
// fallback do not go with them (its prefetch with parallel=rows, say), they are turned off. Throws ScheduleError with
// the kernel's name.
Schedule spec_schedule(const std::string& text, const KernelSpec& spec, const Schedule& fallback);

// Whether a CPU's kernel makes all chunks of a channel side by side, before they are merged.
bool has_chunks_side_by_side(const Schedule& schedule);

// By samples all chunks of a run of channels are there at once, on the stack: at most so many.
inline constexpr int most_chunks_of_a_run = 1024;

// Elements of a joined row, which is whole turns of vector * unroll: what is laid out for them is on the stack.
inline constexpr std::int64_t longest_joined_row = 1024;

// Throws ScheduleError where `schedule` is not in the legal space of `spec`: says which key, why, what is allowed.
void check_legal(const Schedule& schedule, const KernelSpec& spec);
bool is_legal(const Schedule& schedule, const KernelSpec& spec);

// Channels or rows. FUSEBN_MAX_EXTENT leaves room for it in 32 bits.
inline constexpr int longest_task = 65536;

// Elements; a row beyond it is not fetched ahead: no cache holds it.
inline constexpr std::int64_t longest_fetched_row = std::int64_t{1} << 26;

// The caches that a kernel is to run with. Sizes in bytes: L1 and L2 of one core, L3 as shared by all.
struct CacheModel {
    std::int64_t l1 = 32 << 10;
    std::int64_t l2 = 512 << 10;
    std::int64_t l3 = 32 << 20;
    // Whether a software prefetch is dropped while a core's miss buffers are full, and so costs little and is worth
    // repeating; else each is carried out, and what it brings pushes out what is there.
    bool drops_prefetches = true;
    // Whether interleaved rows of more than a page are worth fetching a chunk ahead, which is as many pages as rows.
    bool fetches_long_rows = true;
    // Whether interleaved tensors that the L3 cache holds much of are worth fetching from it.
    bool fetches_from_l3 = true;
    // Interleaved sums are worth fetching a few rows ahead, not a chunk, where a step of eight has at most so many
    // bytes of all that is read twice; 0: nowhere.
    std::int64_t longest_training_step = 0, longest_backward_step = 0;
    // Whether the lines of short interleaved rows are worth fetching for the loop that applies the sums.
    bool fetches_short_rows = false;
    // Which planar sums are worth fetching a sample ahead: none, those of tensors or of slabs that a cache just fails
    // to hold, or all that read from memory.
    enum class Samples { none, by_size, from_memory };
    Samples samples = Samples::none;
    // Channels of planar backward, from memory, are worth sharing out by samples where their slabs have more bytes than
    // this, a core's L2 cache, and at most twice as many; 0: nowhere.
    std::int64_t shares_beyond = 0;
    // How often a line is asked for that is one of several tensors' (planar, from memory).
    int asks = 4;
    // What exceeds such a share of the L3 cache is stored past the caches. Planar train_forward and backward have their
    // own, where rows are whole lines and where they are pieces of them.
    double streams = 1, streams_lines = 0.65, streams_pieces = 0.75;
};

// Processors that have defaults of their own, as kernel_abi.h names them; of all others nothing is known.
inline constexpr std::string_view modelled_processors[] = {"AuthenticAMD family 26", "GenuineIntel",
                                                           "GenuineIntel family 6 model 207"};
// `caches` with what is known of a processor (fusebn/parallel.h's, or a name above).
CacheModel model_for(std::string_view processor, CacheModel caches);

// Beyond which share of the L3 cache a kernel's tensors, together, are stored past it.
double streamed_share(const KernelSpec& spec, const Schedule& schedule, const CacheModel& caches);

// The schedule for a kernel that nobody has tuned. The model is in the .cpp.
Schedule default_schedule(const KernelSpec& spec, const CacheModel& caches = {});

// What a GPU's kernel is to run on. The most shared memory that a block may have, in bytes.
struct GpuModel {
    std::int64_t shared_bytes = 227 << 10;
    int multiprocessors = 132;
    // Whether a condition may be a vector of them, for a row's last lanes or a mask: Halide 21 fails to say that in
    // OpenCL.
    bool vector_conditions = true;
};
GpuModel gpu_model(InstructionSet isa);
Schedule default_gpu_schedule(const KernelSpec& spec, const GpuModel& gpu);

// The same schedule for tensors of which nothing is known: element by element.
Schedule unaligned_schedule(const Schedule& gpu_schedule);

// Threads of a block that makes statistics, at most: with more, the sums of two branches and their activation's
// derivative find no registers.
inline constexpr int most_statistics_threads = 512;

// Of an interleaved kernel on a GPU: the channels of which a thread makes a chunk's sums, and the most channels of a
// block, by what the sums of two branches or silu's derivative leave of the registers.
int statistics_width(const KernelSpec& spec, int vector);
int longest_statistics_block(const KernelSpec& spec, int vector);

// Chunks of a channel, of known extents (generators/numerics.h).
std::int64_t planar_chunks(const KernelSpec& spec);

// Bytes of shared memory that a channel takes in a planar train_forward or backward by channels on a GPU, an upper
// bound; 0: it cannot be known, or there is no such kernel.
std::int64_t staged_bytes(const KernelSpec& spec);

}  // namespace fusebn
