#include "overhead.h"

#include "measure/timing.h"

namespace fusebn::bench {
namespace {

int nothing(void**) { return 0; }

Overhead measure_overhead(const LayerCase& c, Workspace& workspace) {
    fusebn_kernel_table table = *c.table;
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

    LayerCase without_work = c;
    without_work.table = &table;
    Workload workload(without_work, workspace);
    bool ok = workload.prepare().ok();
    const double ns = nanoseconds([&] { ok = workload.run().ok() && ok; });
    return {std::string(to_string(c.op())), c.C, ok ? ns : -1};
}

}  // namespace

std::vector<Overhead> measure_overheads(const std::vector<LayerCase>& cases, Workspace& workspace) {
    std::vector<Overhead> all;
    for (const auto& [op, name] : op_names) {
        const LayerCase *fewest = nullptr, *most = nullptr;
        for (const LayerCase& c : cases) {
            if (!c.fixed || c.op() != op || c.residual() != Residual::none) continue;
            if (fewest == nullptr || c.C < fewest->C) fewest = &c;
            if (most == nullptr || c.C > most->C) most = &c;
        }
        for (const LayerCase* c : {fewest, most}) {
            if (c == nullptr || (c == most && most->C == fewest->C)) continue;
            all.push_back(measure_overhead(*c, workspace));
        }
    }
    return all;
}

}  // namespace fusebn::bench
