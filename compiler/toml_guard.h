#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "compiler/spec_words.h"

namespace fusebn {

struct Misplaced {
    std::uint32_t line, column;
    const char* key;
    Mistake mistake;
};

// What toml++ 3.3 must not be given, found by walking over strings and comments before it parses:
// - it nests a table for every part of a dotted key and frees them recursively: a megabyte of "a.a.a..." would exhaust
//   the stack. A spec needs a handful of dots at most.
// - its classes of characters beyond ASCII are undefined behaviour for most of them. Only a comment has a use for them.
std::optional<Misplaced> unparsable(std::string_view text);

}  // namespace fusebn
