// What a device's kernels are tested with.
#pragma once

#include <kernels_device.h>

#include "kernels/case.h"

namespace kernels {

// The library's shapes, and some that are left to its generic kernels: rows of several chunks and of less than a
// vector, tiles of channels that end ragged, rows of whole vectors and not.
inline std::vector<Case> device_cases() {
    using namespace fusebn;
    std::vector<Case> all = cases(kernels_device::kernels());
    for (const Op op : {Op::inference, Op::train_forward, Op::backward}) {
        const auto add = [&](View view, Residual residual, std::int64_t outer, std::int64_t channels,
                             std::int64_t inner) {
            all.push_back({op, view, DataType::f32, Activation::relu, residual, outer, channels, inner});
        };
        add(View::planar, Residual::none, 3, 5, 51);
        add(View::planar, Residual::add, 2, 7, 4100);
        add(View::planar, Residual::none, 40, 2, 7);
        add(View::interleaved, Residual::none, 1500, 77, 1);
        add(View::interleaved, Residual::add, 700, 96, 1);
        add(View::interleaved, Residual::none, 9, 3, 1);
    }
    return all;
}

}  // namespace kernels
