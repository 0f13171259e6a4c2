// The handwritten digits of digits.csv.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "matrix.h"

namespace digits {

inline constexpr int image_side = 8, class_count = 10;

struct Images {
    Matrix pixels;  // [N][8 * 8], 0 to 1
    std::vector<int> labels;
    std::size_t size() const { return labels.size(); }
};

// The images at `rows`, in that order.
Images pick(const Images& images, const std::vector<int>& rows);

struct Digits {
    Images train, test;
};

// Throws std::runtime_error: no such file, or a line that is not as export_digits.py writes it.
Digits read_digits(const std::string& path);

}  // namespace digits
