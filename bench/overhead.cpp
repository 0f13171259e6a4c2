#include "overhead.h"

#include "timing.h"

namespace fusebn::bench {
namespace {

int nothing(void**) { return 0; }

}  // namespace

Overhead measure_overhead(const LayerCase& layer_case, const float* x, float* y) {
    fusebn_kernel_table table = *layer_case.table;
    std::vector<fusebn_kernel> kernels(table.kernels, table.kernels + table.kernel_count);
    std::vector<std::vector<fusebn_variant>> variants;
    for (fusebn_kernel& kernel : kernels) {
        std::vector<fusebn_variant>& own =
            variants.emplace_back(kernel.variants, kernel.variants + kernel.variant_count);
        for (fusebn_variant& variant : own) {
            variant.entry = nothing;
            if (variant.entry_unaligned != nullptr) variant.entry_unaligned = nothing;
        }
        kernel.variants = own.data();
    }
    table.kernels = kernels.data();

    BatchNormOptions options;
    options.activation = layer_case.activation();
    BatchNorm2d layer(static_cast<int>(layer_case.C), table, options);
    layer.train(layer_case.op() == Op::train_forward);
    const ConstTensor from = tensor(x, layer_case.layout, layer_case.extents());
    const Tensor to = tensor(y, layer_case.layout, layer_case.extents());
    bool ok = true;
    const double ns = nanoseconds([&] { ok = layer.forward(from, to).ok() && ok; });
    return {std::string(to_string(layer_case.op())), layer_case.C, ok ? ns : -1};
}

}  // namespace fusebn::bench
