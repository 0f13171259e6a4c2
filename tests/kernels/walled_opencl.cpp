#include "kernels/walled_opencl.h"

#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>

namespace {

// As OpenCL's headers have them.
using Context = struct ContextObject*;
using Memory = struct MemoryObject*;
constexpr std::uint64_t use_host_memory = 1 << 3;
constexpr int out_of_resources = -5;

constexpr std::uintptr_t page = 4096, wall_bytes = std::uintptr_t{64} << 20;

// Read by a signal's handler, so without a lock; `begin` is set last. 0: free.
struct Wall {
    std::atomic<std::uintptr_t> begin{0};
    std::size_t buffer_bytes = 0;
    void* mapping = nullptr;
    std::size_t mapping_bytes = 0;
};
std::array<Wall, 4096> walls;
std::mutex busy;
std::atomic<int> times{0};
std::atomic<std::size_t> first_bytes{0}, first_offset{0};

// Notes who ran into a wall and opens it, so that the test goes on to say so.
void on_fault(int signal, siginfo_t* info, void*) {
    const auto at = reinterpret_cast<std::uintptr_t>(info->si_addr);
    for (Wall& wall : walls) {
        const std::uintptr_t begin = wall.begin;
        if (begin == 0 || at < begin || at - begin >= wall_bytes) continue;
        if (times++ == 0) {
            first_bytes = wall.buffer_bytes;
            first_offset = wall.buffer_bytes + (at - begin);
        }
        mprotect(reinterpret_cast<void*>(begin), wall_bytes, PROT_READ | PROT_WRITE);
        return;
    }
    ::signal(signal, SIG_DFL);  // no wall: it faults again, and ends the process
}

void catch_faults() {
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, nullptr);
}

void take_down(Memory, void* taken) {
    Wall& wall = *static_cast<Wall*>(taken);
    const std::lock_guard<std::mutex> lock(busy);
    munmap(wall.mapping, wall.mapping_bytes);
    wall.begin = 0;
}

// Memory of so many bytes up to a wall; null where there is none.
Wall* build(std::size_t bytes) {
    const std::lock_guard<std::mutex> lock(busy);
    for (Wall& wall : walls) {
        if (wall.begin != 0) continue;
        const std::size_t room = (bytes + page - 1) / page * page;
        void* const mapping = mmap(nullptr, room + wall_bytes, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (mapping == MAP_FAILED) return nullptr;
        wall.mapping = mapping;
        wall.mapping_bytes = room + wall_bytes;
        wall.buffer_bytes = bytes;
        const std::uintptr_t begin = reinterpret_cast<std::uintptr_t>(mapping) + room;
        mprotect(reinterpret_cast<void*>(begin), wall_bytes, PROT_NONE);
        wall.begin = begin;
        return &wall;
    }
    return nullptr;
}

template <class F>
F next(const char* symbol) {
    return reinterpret_cast<F>(dlsym(RTLD_NEXT, symbol));
}

}  // namespace

// All other functions are those of libOpenCL, which this library is linked with.
extern "C" __attribute__((visibility("default"))) Memory clCreateBuffer(Context context, std::uint64_t flags,
                                                                        std::size_t bytes, void*, int* code) {
    static const auto create = next<Memory (*)(Context, std::uint64_t, std::size_t, void*, int*)>("clCreateBuffer");
    static const auto when_gone =
        next<int (*)(Memory, void (*)(Memory, void*), void*)>("clSetMemObjectDestructorCallback");
    static const bool once = (catch_faults(), true);
    (void)once;
    Wall* const wall = build(bytes);
    if (wall == nullptr) return *code = out_of_resources, nullptr;
    void* const data = reinterpret_cast<void*>(wall->begin - bytes);
    const Memory memory = create(context, flags | use_host_memory, bytes, data, code);
    if (memory == nullptr) {
        take_down(nullptr, wall);
    } else {
        when_gone(memory, take_down, wall);
    }
    return memory;
}

kernels::Beyond fusebn_touched_beyond() {
    kernels::Beyond beyond;
    beyond.times = times.exchange(0);
    beyond.bytes = first_bytes;
    beyond.offset = first_offset;
    return beyond;
}
