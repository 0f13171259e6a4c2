// The words of a spec: the names that are allowed, and its error messages.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "fusebn/types.h"

namespace fusebn {

// What was wrong with a value, without its place in the file.
struct Mistake {
    std::string found;
    std::string allowed;
};

using Words = std::vector<std::string_view>;

// Text of the file in a message: one line, of bounded length, whatever the bytes were.
std::string shown(std::string_view text, std::size_t limit = 60);
std::string in_quotes(std::string_view text);

// "a, b, c"
std::string listed(const Words& words, bool quotes);

// "; did you mean "shape"?", or nothing where no word is near.
std::string suggestion(std::string_view found, const Words& words);

template <class E, std::size_t n>
Words names_of(const NamedValue<E> (&rows)[n]) {
    Words words;
    for (const NamedValue<E>& row : rows) words.push_back(row.name);
    return words;
}

// The value that a row of types.h calls `text`. Throws Mistake.
template <class E, std::size_t n>
E value_named(const NamedValue<E> (&rows)[n], std::string_view text) {
    for (const NamedValue<E>& row : rows) {
        if (row.name == text) return row.value;
    }
    throw Mistake{in_quotes(text), listed(names_of(rows), true) + suggestion(text, names_of(rows))};
}

// "[N, C, H, W]"
std::string extent_order(Layout layout);

}  // namespace fusebn
