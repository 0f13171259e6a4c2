// A tensor in memory of its own: on a 64-byte line or beside one, with gaps, and room before and behind that nothing
// may write to.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>

#include "kernels/run.h"

namespace kernels {

class Placed {
public:
    Placed(const Case& c, const How& how) : case_(c), width_(static_cast<std::size_t>(element_bytes(c.dtype))) {
        const bool planar = c.view == fusebn::View::planar;
        channel_stride_ = planar ? c.inner + how.channel_gap : 1;
        outer_stride_ = (planar ? c.channels * channel_stride_ : c.channels) + how.outer_gap;
        first_ = guard + static_cast<std::size_t>(how.offset);
        const std::int64_t last_sample = planar ? (c.channels - 1) * channel_stride_ + c.inner : c.channels;
        size_ = first_ + static_cast<std::size_t>((c.outer - 1) * outer_stride_ + last_sample);
        if (how.room_behind) size_ += 2 * guard;
        memory_.reset(static_cast<std::uint8_t*>(std::aligned_alloc(64, (size_ * width_ + 63) / 64 * 64)));
        for (std::size_t i = 0; i < size_; ++i) std::memcpy(at(i), &pattern, width_);
        if (how.device.kind == fusebn::DeviceKind::cpu) return;
        // A handle has no room before it.
        device_first_ = how.device.kind == fusebn::DeviceKind::opencl ? first_ : 0;
        on_device_.emplace(how.device, (size_ - device_first_) * width_);
        EXPECT_TRUE(on_device_->status().ok()) << on_device_->status().message();
    }

    void fill(const Elements& values) {
        sent_ = false;
        for_each([&](std::size_t i, std::size_t place) {
            const std::uint32_t bits = values.bits(i);
            std::memcpy(at(place), &bits, width_);
        });
    }
    Elements gather() const {
        fetch();
        Elements values(case_.dtype, case_.elements());
        for_each([&](std::size_t i, std::size_t place) {
            std::uint32_t bits = 0;
            std::memcpy(&bits, at(place), width_);
            values.set_bits(i, bits);
        });
        return values;
    }
    bool rest_untouched() const {
        fetch();
        std::size_t next = 0;
        bool untouched = true;
        const auto check_to = [&](std::size_t end) {
            for (; next < end; ++next) untouched = untouched && std::memcmp(at(next), &pattern, width_) == 0;
        };
        for_each([&](std::size_t, std::size_t place) {
            check_to(place);
            next = place + 1;
        });
        check_to(size_);
        return untouched;
    }

    fusebn::Tensor tensor() {
        const auto layout = case_.view == fusebn::View::planar ? fusebn::Layout::NCL : fusebn::Layout::NC;
        fusebn::Extents extents{case_.outer, case_.channels}, strides{outer_stride_, 1};
        if (layout == fusebn::Layout::NCL) {
            extents = {case_.outer, case_.channels, case_.inner};
            strides = {outer_stride_, channel_stride_, 1};
        }
        if (!on_device_) return {at(first_), case_.dtype, layout, extents, strides};
        if (!sent_) {
            EXPECT_TRUE(on_device_->upload(at(device_first_), (size_ - device_first_) * width_).ok());
        }
        sent_ = true;
        auto* const data = static_cast<std::uint8_t*>(on_device_->data()) + (first_ - device_first_) * width_;
        return {data, case_.dtype, layout, extents, strides};
    }

private:
    static constexpr std::size_t guard = 64;              // elements
    static constexpr std::uint32_t pattern = 0x7fc07fed;  // a NaN in every type, and none that a kernel makes

    void fetch() const {
        if (on_device_ && sent_) {
            EXPECT_TRUE(
                on_device_->download(memory_.get() + device_first_ * width_, (size_ - device_first_) * width_).ok());
        }
    }

    std::uint8_t* at(std::size_t i) { return memory_.get() + i * width_; }
    const std::uint8_t* at(std::size_t i) const { return memory_.get() + i * width_; }
    // f(index, place), in the order of memory.
    template <class F>
    void for_each(F&& f) const {
        std::size_t i = 0;
        for (std::int64_t o = 0; o < case_.outer; ++o) {
            for (std::int64_t c = 0; c < case_.channels; ++c) {
                for (std::int64_t s = 0; s < case_.inner; ++s, ++i) {
                    f(i, first_ + static_cast<std::size_t>(o * outer_stride_ + c * channel_stride_ + s));
                }
            }
        }
    }

    struct Free {
        void operator()(std::uint8_t* p) const { std::free(p); }
    };
    Case case_;
    std::size_t width_, first_ = 0, size_ = 0;
    std::int64_t channel_stride_ = 0, outer_stride_ = 0;
    std::unique_ptr<std::uint8_t, Free> memory_;  // on a device, a copy of what is there
    std::optional<fusebn::DeviceMemory> on_device_;
    std::size_t device_first_ = 0;
    bool sent_ = false;
};

}  // namespace kernels
