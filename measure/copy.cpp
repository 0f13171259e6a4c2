#include "measure/copy.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <vector>

#include "fusebn/batch_norm.h"
#include "measure/copy_row.h"
#include "measure/lines.h"
#include "measure/timing.h"

namespace fusebn::measure {
namespace {

// 64 KB: enough pieces for the threads to share evenly, few enough for the sharing to cost nothing.
constexpr std::int64_t piece_bytes = 64 << 10;

// What a call does; the x and the y of its layer.
struct Plan {
    Streams sums, apply;  // without inputs: there is nothing to do
    std::int64_t bytes = 0;
    // Planar by channels: sums and apply for a run of neighbouring rows, sample by sample. 0: for all of the bytes.
    std::int64_t run_bytes = 0, sample_bytes = 0;
};

struct Task {
    const Plan& plan;
    const Streams& streams;
    MoveLines sums, apply;
};

void move_bytes(const Streams& s, std::int64_t begin, std::int64_t end) {
    for (std::int64_t at = begin; at < end; ++at) {
        std::byte v = s.from[0][at];
        for (int i = 1; i < s.inputs; ++i) v ^= s.from[i][at];
        for (int i = 0; i < s.outputs; ++i) s.to[i][at] = v;
    }
}

void move(const Streams& s, MoveLines move_lines, std::int64_t begin, std::int64_t end) {
    const std::int64_t first = std::min((begin + line_bytes - 1) / line_bytes * line_bytes, end);
    const std::int64_t lines = (end - first) / line_bytes;
    move_bytes(s, begin, first);
    move_lines(s, first, lines);
    move_bytes(s, first + lines * line_bytes, end);
}

int piece(void*, std::int32_t index, std::uint8_t* closure) {
    const Task& task = *reinterpret_cast<const Task*>(closure);
    const std::int64_t begin = index * piece_bytes;
    move(task.streams, task.sums, begin, std::min(begin + piece_bytes, task.plan.bytes));
    _mm_sfence();  // streamed stores are visible to the thread that waits for this one
    return 0;
}

int channels(void*, std::int32_t index, std::uint8_t* closure) {
    const Task& task = *reinterpret_cast<const Task*>(closure);
    const Plan& plan = task.plan;
    const std::int64_t begin = index * plan.run_bytes, end = std::min(begin + plan.run_bytes, plan.sample_bytes);
    for (std::int64_t at = 0; at < plan.bytes; at += plan.sample_bytes) {
        move(plan.sums, task.sums, at + begin, at + end);
    }
    for (std::int64_t at = 0; at < plan.bytes; at += plan.sample_bytes) {
        move(plan.apply, task.apply, at + begin, at + end);
    }
    _mm_sfence();
    return 0;
}

template <class Isa>
int entry(void** argv) {
    const fusebn_context* context = *static_cast<const fusebn_context**>(argv[0]);
    const Plan& plan = *reinterpret_cast<const Plan*>(static_cast<const fusebn_buffer*>(argv[1])->host);
    const auto loop = [&](fusebn_task function, std::int64_t of, std::int64_t size, Task task) {
        return context->parallel_for(context, function, 0, static_cast<std::int32_t>((of + size - 1) / size),
                                     reinterpret_cast<std::uint8_t*>(&task));
    };
    const MoveLines sums = lines::choose<Isa>(plan.sums), apply = lines::choose<Isa>(plan.apply);
    if (plan.run_bytes > 0) return loop(channels, plan.sample_bytes, plan.run_bytes, {plan, plan.sums, sums, apply});
    int code = 0;
    if (plan.sums.inputs > 0) code = loop(piece, plan.bytes, piece_bytes, {plan, plan.sums, sums, nullptr});
    if (plan.apply.inputs > 0 && code == 0) {
        code = loop(piece, plan.bytes, piece_bytes, {plan, plan.apply, apply, nullptr});
    }
    return code;
}

constexpr fusebn_variant variants[] = {
    {FUSEBN_ISA_X86_64, 1, "", entry<lines::Sse>, nullptr, nullptr, 0},
    {FUSEBN_ISA_X86_64_AVX2, 1, "", entry<lines::Avx2>, nullptr, nullptr, 0},
    {FUSEBN_ISA_X86_64_AVX512, 1, "", entry<lines::Avx512>, nullptr, nullptr, 0},
};
constexpr fusebn_kernel row = copy_row("copy", variants);
constexpr fusebn_kernel_table table{FUSEBN_ABI_VERSION, 1, "copy", "", &row};

// A layer whose only kernel is the table's, whose tensor of one element is the plan.
std::function<void()> make(const Plan& planned) {
    auto layer = std::make_shared<BatchNorm1d>(1, table);
    layer->eval();
    const auto plan = std::make_shared<Plan>(planned);
    return [layer, plan] {
        auto* const data = reinterpret_cast<float*>(plan.get());
        const Status status = layer->forward(tensor(static_cast<const float*>(data), Layout::NCL, {1, 1, 1}),
                                             tensor(data, Layout::NCL, {1, 1, 1}));
        if (!status.ok()) {
            std::fprintf(stderr, "copy: %s\n", status.message().c_str());
            std::exit(1);
        }
    };
}

// Of those that are there.
Streams streams(std::initializer_list<const void*> from, std::initializer_list<void*> to, Copy stores) {
    Streams s;
    for (const void* p : from) {
        if (p != nullptr) s.from[s.inputs++] = static_cast<const std::byte*>(p);
    }
    for (void* p : to) {
        if (p != nullptr) s.to[s.outputs++] = static_cast<std::byte*>(p);
    }
    s.streaming = stores == Copy::streaming;
    return s;
}

}  // namespace

std::function<void()> make_copy(Copy copy, const void* from, void* to, std::int64_t bytes) {
    Plan plan;
    plan.apply = streams({from}, {to}, copy);
    plan.bytes = bytes;
    return make(plan);
}

Copy faster(const std::function<void()>& plain, const std::function<void()>& streaming) {
    const Budget five_rounds{0, 5, 5, 5};
    const std::vector<Samples> samples = race({{"plain", plain}, {"streaming", streaming}}, five_rounds);
    return paired_ratio(samples[0], samples[1]).median <= 1 ? Copy::plain : Copy::streaming;
}

std::function<void()> make_read(const void* from, std::int64_t bytes) {
    Plan plan;
    plan.sums = streams({from}, {}, Copy::plain);
    plan.bytes = bytes;
    return make(plan);
}

std::function<void()> make_passes(const LayerCase& c, const Operands& operands, Copy stores, std::int64_t l3) {
    Plan plan;
    plan.sums = streams({operands.x, operands.dy, c.reads_addend_twice() ? operands.addend : nullptr}, {}, Copy::plain);
    plan.apply = streams({operands.x, operands.dy, c.reads_addend() ? operands.addend : nullptr},
                         {operands.out, operands.addend_out}, stores);
    plan.bytes = c.tensor_bytes();
    const std::int64_t channel_bytes = c.H * c.W * element_bytes(c.dtype());
    const std::int64_t slabs = plan.sums.inputs * c.N * channel_bytes;
    if (c.layout == Layout::NCHW && 2 * slabs <= l3) {
        constexpr std::int64_t page = 4096;
        plan.run_bytes = channel_bytes * std::max<std::int64_t>(1, page / channel_bytes);
        plan.sample_bytes = c.C * channel_bytes;
    }
    return make(plan);
}

}  // namespace fusebn::measure
