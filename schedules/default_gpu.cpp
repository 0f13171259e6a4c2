// The default schedule of a GPU's kernel.
//
//   vector    16 bytes a thread and access, where rows are made of whole ones; else the largest power of two that is
//   parallel  planar train_forward and backward by channels, in one launch, where what a channel's sums read fits a
//             block's shared memory together with its accumulators: x (and dy) are then read once. Else by rows.
//   threads   256 in the apply loop, eight blocks to a multiprocessor; 512 where a block has one by itself for its
//             shared memory
//   task      samples or rows of a block: about 16 Ki elements, in backward 32 Ki, for which its
//             channels' f64 divisions and roots are made once; fewer where that would leave multiprocessors without
//             a block
//   block     interleaved: channels of a block, 512 bytes of f32, so that a warp's accesses are whole lines; half of
//             that in the backward of two branches or of silu, whose sums want the registers of 512 threads for 256
//   unroll    4 accesses of a thread on their way at once

#include <algorithm>

#include "generators/numerics.h"
#include "schedules/schedule.h"

namespace fusebn {

namespace {

constexpr std::int64_t block_elements = 16 << 10;
constexpr std::int64_t short_row = 512;  // bytes
constexpr std::int64_t block_channels = 128;
constexpr std::int64_t blocks_at_once = 3;  // of a multiprocessor, where a tile of channels is staged
constexpr int apply_threads = 256, staged_threads = 512;

std::int64_t or_if_any(std::int64_t extent, std::int64_t guess) { return extent == any_extent ? guess : extent; }

int vector_of(std::int64_t row, DataType dtype) {
    if (row == any_extent) return 1;
    int vector = 16 / element_bytes(dtype);
    while (row % vector != 0) vector /= 2;
    return vector;
}

bool wants_registers(const KernelSpec& spec) {
    return spec.op == Op::backward && (spec.residual == Residual::batch_norm || spec.activation == Activation::silu);
}

}  // namespace

GpuModel gpu_model(InstructionSet isa) {
    GpuModel gpu;
    if (isa == InstructionSet::cuda_sm_80) gpu = {163 << 10, 108, true};
    if (isa == InstructionSet::cuda_sm_100) gpu = {227 << 10, 148, true};
    if (isa == InstructionSet::opencl) gpu = {32 << 10, 16, false};  // what OpenCL 1.2 asks of every device
    return gpu;
}

int statistics_width(const KernelSpec& spec, int vector) {
    return wants_registers(spec) ? std::min(vector, 4) : vector;
}

int longest_statistics_block(const KernelSpec& spec, int vector) {
    // A thread of 256 may have 255 registers, one of 512 has 128. A group's chunks are made side by side.
    const int threads = wants_registers(spec) && vector > 1 ? most_statistics_threads / 2 : most_statistics_threads;
    return threads / numerics::interleaved::chunks_per_group * statistics_width(spec, vector);
}

std::int64_t staged_bytes(const KernelSpec& spec) {
    using numerics::planar::lanes;
    if (spec.op == Op::inference || spec.view != View::planar || spec.outer == any_extent || spec.inner == any_extent) {
        return 0;
    }
    // Chunks of two lengths would be read element by element (ViewShape::stays_within).
    using numerics::planar::chunk_elements;
    if (spec.inner > chunk_elements && spec.inner % chunk_elements != 0) return 0;
    const std::int64_t padding = std::min(spec.outer, spec.inner) * static_cast<std::int64_t>(sizeof(double));
    const std::int64_t slabs =
        traffic(spec).read_twice * (spec.outer * spec.inner * element_bytes(spec.dtype) + padding);
    // A chunk's lanes of up to three sums in f32, of two branches, and its results in f64.
    return slabs + planar_chunks(spec) * (2 * 3 * lanes * 4 + 64) + 1024;
}

Schedule unaligned_schedule(const Schedule& gpu_schedule) {
    Schedule s = gpu_schedule;
    s.vector = 1;
    if (s.block > 0) {  // interleaved: as many threads to a row as before
        s.block = std::min(s.block, most_statistics_threads / numerics::interleaved::chunks_per_group);
        s.threads = s.block * std::max(1, apply_threads / s.block);
    }
    return s;
}

Schedule default_gpu_schedule(const KernelSpec& spec, const GpuModel& gpu) {
    const std::int64_t outer = or_if_any(spec.outer, spec.view == View::planar ? 32 : 8192);
    const std::int64_t channels = or_if_any(spec.channels, 64);
    const std::int64_t inner = spec.view == View::planar ? or_if_any(spec.inner, 784) : 1;
    // Backward's blocks begin with twice the divisions and roots.
    const std::int64_t elements = spec.op == Op::backward ? 2 * block_elements : block_elements;
    const std::int64_t wanted_blocks = std::int64_t{8} * gpu.multiprocessors;

    const bool reads_mask = spec.op == Op::backward && saves_mask(spec.activation, spec.residual);

    Schedule s;
    s.threads = apply_threads;
    s.unroll = 4;
    s.parallel = Schedule::Parallel::rows;
    if (spec.view == View::planar) {
        s.vector = vector_of(spec.inner, spec.dtype);
        if (!gpu.vector_conditions && (inner % numerics::planar::lanes != 0 || reads_mask)) s.vector = 1;
        const std::int64_t staged = staged_bytes(spec);
        const bool fits = staged > 0 && staged <= gpu.shared_bytes;
        // Short rows go with their neighbours, so that whole sectors are read and written.
        const bool known = spec.inner != any_extent && spec.channels != any_extent;
        const std::int64_t row_bytes = inner * element_bytes(spec.dtype);
        std::int64_t tile = 1;
        while (known && tile < 8 && tile * row_bytes < short_row && channels % (2 * tile) == 0 &&
               (!fits || blocks_at_once * 2 * tile * staged <= gpu.shared_bytes)) {
            tile *= 2;
        }
        if (tile > 1) s.block = static_cast<int>(tile);
        if (fits) {
            s.parallel = Schedule::Parallel::channels;
            if (2 * staged * tile > gpu.shared_bytes) s.threads = staged_threads;
            return s;
        }
        const std::int64_t most = std::max<std::int64_t>(1, channels / tile * outer / wanted_blocks);
        std::int64_t task = std::clamp<std::int64_t>(elements / (inner * tile), 1, std::min(most, outer));
        // Whole turns of a block's threads, where rows are short.
        const std::int64_t turn =
            std::max<std::int64_t>(1, s.threads / std::max<std::int64_t>(1, inner * tile / s.vector)) *
            (inner * tile / s.vector < s.threads * s.unroll ? s.unroll : 1);
        if (task > turn) task = task / turn * turn;
        s.task = static_cast<int>(task);
        return s;
    }
    s.vector = !gpu.vector_conditions && reads_mask ? 1 : vector_of(spec.channels, spec.dtype);
    std::int64_t tile = std::min<std::int64_t>(spec.channels == any_extent ? 32 : spec.channels, block_channels);
    if (spec.channels != any_extent) {
        std::int64_t best = 0;
        for (std::int64_t t = s.vector; t <= tile; t += s.vector) {
            if (spec.channels % t == 0) best = t;
        }
        // 100 channels and the like are better cut raggedly than into slivers.
        tile = 2 * best >= tile ? best : tile / s.vector * s.vector;
    }
    // Statistics have a block for each group of chunks and tile.
    const std::int64_t group_rows =
        std::int64_t{numerics::interleaved::chunk_rows} * numerics::interleaved::chunks_per_group;
    const std::int64_t groups = (outer + group_rows - 1) / group_rows;
    while (spec.op != Op::inference && spec.channels != any_extent && tile >= 64 && tile % 64 == 0 &&
           2 * groups * (channels / tile) < 5 * gpu.multiprocessors) {
        tile /= 2;
    }
    if (!gpu.vector_conditions && channels % tile != 0) s.vector = 1;
    tile = std::min<std::int64_t>(tile, longest_statistics_block(spec, s.vector));
    s.block = static_cast<int>(std::max<std::int64_t>(tile, s.vector));
    const int columns = s.block / s.vector;
    s.threads = columns * std::max(1, apply_threads / columns);
    const std::int64_t tiles = (channels + s.block - 1) / s.block;
    const std::int64_t most = std::max<std::int64_t>(1, tiles * outer / wanted_blocks);
    const std::int64_t least = 2 * (s.threads / columns);
    s.task = static_cast<int>(std::clamp<std::int64_t>(std::min(elements / s.block, most), least, longest_task));
    return s;
}

}  // namespace fusebn
