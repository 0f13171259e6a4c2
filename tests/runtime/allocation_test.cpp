// A call that succeeds allocates nothing. The counting operators are the whole program's, as they can only be.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "fake_library.h"
#include "fusebn/parallel.h"

namespace {
std::atomic<long> allocations{0};

void* counted(std::size_t size) noexcept {
    allocations.fetch_add(1, std::memory_order_relaxed);
    return std::malloc(size > 0 ? size : 1);
}
void* counted_or_throw(std::size_t size) {
    if (void* memory = counted(size)) return memory;
    throw std::bad_alloc();
}
}  // namespace

void* operator new(std::size_t size) { return counted_or_throw(size); }
void* operator new[](std::size_t size) { return counted_or_throw(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return counted(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return counted(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace fusebn::test {
namespace {

TEST(Layer, AllocatesNothingInACall) {
    for (const bool tracks : {true, false}) {
        for (const bool training : {true, false}) {
            FakeLibrary library = generic_library();
            BatchNormOptions options;
            options.track_running_stats = tracks;
            BatchNorm2d layer(4, library.table(), options);
            layer.train(training);
            const std::vector<float> x = noise(72);
            std::vector<float> y(72);
            const ConstTensor in = tensor(x.data(), Layout::NCHW, {2, 4, 3, 3}, {36, 9, 3, 1});
            const Tensor out = tensor(y.data(), Layout::NCHW, {2, 4, 3, 3});
            // The pool and the fake kernels' records come into being with the first call.
            BatchNorm2d(4, library.table(), options).forward(in, out).ok();
            fake_run.extents.reserve(3);
            fake_run.strides.reserve(3);
            const long before = allocations.load();
            const bool first = layer.forward(in, out).ok();
            const bool second = layer.forward(in, out).ok();
            EXPECT_EQ(allocations.load(), before);
            EXPECT_TRUE(first && second);
        }
    }
}

}  // namespace
}  // namespace fusebn::test
