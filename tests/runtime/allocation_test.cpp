// A call that succeeds allocates nothing. The counting operators are the whole program's, as they can only be.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <optional>

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
void* operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
    allocations.fetch_add(1, std::memory_order_relaxed);
    const auto unit = static_cast<std::size_t>(alignment);
    return std::aligned_alloc(unit, (size + unit - 1) / unit * unit);
}
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace fusebn::test {
namespace {

// All calls of a layer in one mode, on tensors of one shape.
class Calls {
public:
    Calls(Activation activation, bool tracks, bool training, bool frozen) : library_(generic_library(activation)) {
        BatchNormOptions options;
        options.track_running_stats = tracks;
        BatchNormOptions with_activation = options;
        with_activation.activation = activation;
        bn_.emplace(4, library_.table(), with_activation);
        other_.emplace(4, plain_.table(), options);
        for (BatchNorm2d* layer : {&*bn_, &*other_}) {
            layer->train(training);
            EXPECT_TRUE(layer->freeze_statistics(frozen).ok());
        }
        has_backward_ = training || tracks;
        // A mask is kept by training calls only.
        has_backward_add_ = training || (tracks && !saves_mask(activation, Residual::add));
    }
    bool run() {
        const Tensor in = tensor(x_.data(), Layout::NCHW, {2, 4, 3, 3}, {36, 9, 3, 1});
        const Tensor out = tensor(y_.data(), Layout::NCHW, {2, 4, 3, 3});
        const Tensor second = tensor(z_.data(), Layout::NCHW, {2, 4, 3, 3});
        BackwardOptions options;
        bool ok = bn_->forward(in, out).ok();
        if (has_backward_) ok &= bn_->backward(in, in, out).ok();
        ok &= bn_->forward_add(in, in, out).ok();
        options.residual = in;
        if (has_backward_add_) ok &= bn_->backward_add(in, in, out, second, options).ok();
        ok &= bn_->forward_sum(in, *other_, in, out).ok();
        options.residual = {};
        if (has_backward_) ok &= bn_->backward_sum(in, *other_, in, in, out, second, options).ok();
        return ok;
    }

private:
    FakeLibrary library_, plain_ = generic_library();
    std::optional<BatchNorm2d> bn_, other_;
    bool has_backward_ = false, has_backward_add_ = false;
    std::vector<float> x_ = noise(72), y_ = std::vector<float>(72), z_ = y_;
};

TEST(Layer, AllocatesNothingInItsCalls) {
    // The pool comes into being with the first call.
    EXPECT_TRUE(Calls(Activation::none, true, true, false).run());
    struct Mode {
        bool tracks, training, frozen;
    };
    for (const Mode& mode : {Mode{true, true, false}, Mode{true, true, true}, Mode{true, false, false},
                             Mode{false, true, false}, Mode{false, false, false}}) {
        for (const auto& activation : activation_names) {
            SCOPED_TRACE(testing::Message() << activation.name << mode.tracks << mode.training << mode.frozen);
            Calls calls(activation.value, mode.tracks, mode.training, mode.frozen);
            const long before = allocations.load();
            const bool first = calls.run();
            const long after_first = allocations.load();
            const bool second = calls.run();
            EXPECT_TRUE(first && second);
            EXPECT_EQ(allocations.load(), after_first);
            // The first call of forward_add makes room for its mask, if it has one.
            const bool mask = saves_mask(activation.value, Residual::add) && (mode.training || !mode.tracks);
            EXPECT_EQ(after_first, before + (mask ? 1 : 0));
        }
    }
}

}  // namespace
}  // namespace fusebn::test
