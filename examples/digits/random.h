// Random numbers that are the same on every machine and in pytorch_digits.py: std::mt19937 is fixed by the C++ standard
// to the last bit, the standard library's distributions are not.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "matrix.h"

namespace digits {

class Random {
public:
    explicit Random(std::uint32_t seed) : engine_(seed) {}

    // Weights in U(-b, b), b = sqrt(6 / fan_in): He et al. 2015, "Delving Deep into Rectifiers".
    Matrix he_uniform(Eigen::Index rows, Eigen::Index columns, Eigen::Index fan_in) {
        const float bound = static_cast<float>(std::sqrt(6.0 / static_cast<double>(fan_in)));
        Matrix weights(rows, columns);
        for (Eigen::Index i = 0; i < weights.size(); ++i) weights.data()[i] = bound * (2 * uniform() - 1);
        return weights;
    }

    // 0 to count - 1 in random order.
    std::vector<int> permutation(std::size_t count) {
        std::vector<std::pair<std::uint32_t, int>> keys(count);
        for (std::size_t i = 0; i < count; ++i) keys[i] = {next(), static_cast<int>(i)};
        std::sort(keys.begin(), keys.end());
        std::vector<int> order(count);
        for (std::size_t i = 0; i < count; ++i) order[i] = keys[i].second;
        return order;
    }

private:
    std::uint32_t next() { return static_cast<std::uint32_t>(engine_()); }
    // [0, 1): 24 bits, which a float holds exactly.
    float uniform() { return static_cast<float>(next() >> 8) / (1 << 24); }

    std::mt19937 engine_;
};

}  // namespace digits
