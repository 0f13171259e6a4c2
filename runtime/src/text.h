// Sentences for messages. Numbers do not follow the locale.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "fusebn/tensor.h"

namespace fusebn::detail {

inline void append(std::string& out, std::string_view text) { out += text; }
template <class Integer, class = std::enable_if_t<std::is_integral_v<Integer>>>
void append(std::string& out, Integer value) {
    out += std::to_string(value);
}
inline void append(std::string& out, double value) {
    char text[32];
    out.append(text, std::to_chars(text, text + sizeof(text), value, std::chars_format::general, 6).ptr);
}
inline void append(std::string& out, const Extents& extents) {
    out += '{';
    for (int axis = 0; axis < std::min(extents.rank(), Extents::max_rank); ++axis) {
        if (axis > 0) out += ", ";
        out += std::to_string(extents[axis]);
    }
    if (extents.rank() > Extents::max_rank) out += ", ...";
    out += '}';
}

template <class... Parts>
std::string sentence(const Parts&... parts) {
    std::string out;
    (append(out, parts), ...);
    return out;
}

// With all its digits, of a value that is refused: to six of them 1.0000001 is a 1.
inline std::string exact(double value) {
    char text[32];
    return std::string(text, std::to_chars(text, text + sizeof(text), value).ptr);
}

// The name of a value, or "7" for a number that is none of the enumeration's.
inline std::string name_of(InstructionSet value) {
    const std::string_view name = to_string(value);
    return name == "?" ? std::to_string(static_cast<int>(value)) : std::string(name);
}
template <class E>
std::string name_of(E value) {
    constexpr int known = [] {
        if constexpr (std::is_same_v<E, DataType>) return static_cast<int>(std::size(dtype_names));
        if constexpr (std::is_same_v<E, Layout>) return static_cast<int>(std::size(layout_names));
        if constexpr (std::is_same_v<E, Activation>) return static_cast<int>(std::size(activation_names));
    }();
    const int number = static_cast<int>(value);
    return number >= 0 && number < known ? std::string(to_string(value)) : std::to_string(number);
}

}  // namespace fusebn::detail
