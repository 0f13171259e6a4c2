// All calls of a layer on one device, so that two devices can be compared.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "on_device.h"

namespace fusebn::test {

struct Mode {
    const char* name;
    bool training, frozen, tracks, affine;
};
inline constexpr Mode modes[] = {{"training", true, false, true, true},
                                 {"frozen", true, true, true, true},
                                 {"evaluation", false, false, true, true},
                                 {"untracked", true, false, false, true},
                                 {"untracked_evaluation", false, false, false, true},
                                 {"plain", true, false, true, false}};

struct Form {
    Layout layout;
    Extents extents, strides;
};
inline const Form forms[] = {{Layout::NCHW, {2, 4, 3, 3}, {}},
                             {Layout::NHWC, {2, 3, 3, 4}, {}},
                             {Layout::NCHW, {18, 4, 1, 1}, {}},
                             {Layout::NCHW, {3, 4, 2, 3}, {32, 7, 3, 1}}};

// One layer with a second one beside it, on one device, with tensors of its own.
class Rig {
public:
    static constexpr std::size_t size = 128;

    // `kernels` are the layer's, `plain` those of the second one, which has no activation.
    Rig(const Device& device, const KernelTable& kernels, const KernelTable& plain, Activation activation,
        DataType dtype, const Mode& mode);

    // The results of all calls, one after the other: their codes, outputs, and the layers' state.
    std::vector<std::vector<float>> run(const Form& form);
    std::optional<BatchNorm2d> layer, other;

private:
    std::vector<std::unique_ptr<DeviceTensor>> tensors_;
};

}  // namespace fusebn::test
