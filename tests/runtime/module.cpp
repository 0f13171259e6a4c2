// A user's shared library with a layer in it; exports_test.cpp looks at what it exports.
#include "fusebn/batch_norm.h"

extern "C" [[gnu::visibility("default")]] int users_function(const fusebn_kernel_table* table, const char* path) {
    fusebn::BatchNorm2d layer(3, *table);
    fusebn::set_parallel_for({});
    const std::vector<float> x(6);
    std::vector<float> y(6);
    using fusebn::Layout;
    const bool ran = layer
                         .forward(fusebn::tensor(x.data(), Layout::NCHW, {2, 3, 1, 1}),
                                  fusebn::tensor(y.data(), Layout::NCHW, {2, 3, 1, 1}))
                         .ok();
    return ran && layer.load(path).ok() && layer.save(path).ok() ? 0 : 1;
}
