#include "data.h"

#include <charconv>
#include <fstream>
#include <stdexcept>
#include <string_view>

namespace digits {

namespace {

constexpr int pixel_count = image_side * image_side, brightest = 16;

// The number at the start of `text`, in [0, limit], and the comma behind it; both are taken off. -1: there is none.
int take_number(std::string_view& text, int limit) {
    int value = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || value < 0 || value > limit) return -1;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (!text.empty() && text.front() == ',') text.remove_prefix(1);
    return value;
}

struct Rows {
    std::vector<float> pixels;
    std::vector<int> labels;

    bool add(std::string_view line) {
        const int label = take_number(line, class_count - 1);
        if (label < 0) return false;
        labels.push_back(label);
        for (int i = 0; i < pixel_count; ++i) {
            const int pixel = take_number(line, brightest);
            if (pixel < 0) return false;
            pixels.push_back(static_cast<float>(pixel) / brightest);
        }
        return line.empty();
    }

    Images images() const {
        const auto count = static_cast<Eigen::Index>(labels.size());
        return {Eigen::Map<const Matrix>(pixels.data(), count, pixel_count), labels};
    }
};

}  // namespace

Images pick(const Images& images, const std::vector<int>& rows) {
    Images picked;
    picked.pixels = images.pixels(rows, Eigen::all);
    for (const int row : rows) picked.labels.push_back(images.labels[static_cast<std::size_t>(row)]);
    return picked;
}

Digits read_digits(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    if (!std::getline(file, line)) throw std::runtime_error(path + ": cannot be read");
    Rows train, test;
    for (int number = 2; std::getline(file, line); ++number) {
        const std::size_t comma = line.find(',');
        const std::string set = line.substr(0, comma);
        Rows* const rows = set == "train" ? &train : set == "test" ? &test : nullptr;
        if (rows == nullptr || !rows->add(std::string_view(line).substr(comma + 1))) {
            throw std::runtime_error(path + ":" + std::to_string(number) +
                                     ": expected train or test, a label of 0 to 9 and 64 pixels of 0 to 16");
        }
    }
    if (train.labels.empty() || test.labels.empty()) throw std::runtime_error(path + ": a set without images");
    return {train.images(), test.images()};
}

}  // namespace digits
