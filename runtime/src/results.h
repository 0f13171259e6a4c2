// Where a layer's values of one a channel are: on the host, or on the layer's device.
#pragma once

namespace fusebn::detail {

struct Parameters {
    const float *gamma = nullptr, *beta = nullptr;
    const float *running_mean = nullptr, *running_var = nullptr;
};

// What train_forward makes.
struct Results {
    double *mean = nullptr, *inv_std = nullptr;
    float *running_mean = nullptr, *running_var = nullptr;
};

// What backward normalises by.
struct Statistics {
    const double *mean = nullptr, *inv_std = nullptr;
};

}  // namespace fusebn::detail
