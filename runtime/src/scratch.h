// What a kernel writes for the layer before it becomes the layer's: nothing of it does when a call fails.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <vector>

#include "mask.h"
#include "results.h"

namespace fusebn::detail {

struct Scratch {
    std::vector<double> mean, inv_std;
    std::vector<float> running_mean, running_var;  // backward: dgamma and dbeta
    AlignedBuffer mask;                            // where nobody is to have it
    std::atomic_flag in_use = ATOMIC_FLAG_INIT;

    Scratch() = default;
    explicit Scratch(std::size_t features) { resize(features); }
    void resize(std::size_t features) {
        mean.resize(features);
        inv_std.resize(features);
        running_mean.resize(features);
        running_var.resize(features);
    }
    Results places() { return {mean.data(), inv_std.data(), running_mean.data(), running_var.data()}; }
};

// A scratch for one call. In evaluation mode several threads may be in calls of one layer: the first has the layer's,
// the others make their own.
class ScratchLease {
public:
    // `alone`: nobody else can be in a call. Null: none is needed.
    ScratchLease(Scratch* shared, bool alone) : scratch_(shared) {
        if (alone || shared == nullptr) return;
        taken_ = !shared->in_use.test_and_set(std::memory_order_acquire);
        if (!taken_) make_own();
    }
    ~ScratchLease() {
        if (taken_) scratch_->in_use.clear(std::memory_order_release);
    }
    ScratchLease(const ScratchLease&) = delete;
    ScratchLease& operator=(const ScratchLease&) = delete;

    Scratch* get() const { return scratch_; }  // null: no memory, too

private:
    void make_own() {
        const std::size_t features = scratch_->mean.size();
        scratch_ = nullptr;
        try {
            own_ = std::make_unique<Scratch>(features);
            scratch_ = own_.get();
        } catch (const std::bad_alloc&) {
        }
    }

    Scratch* scratch_;
    bool taken_ = false;
    std::unique_ptr<Scratch> own_;
};

}  // namespace fusebn::detail
