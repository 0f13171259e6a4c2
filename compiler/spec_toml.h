// toml++ as spec.cpp uses it. No other file includes it, so no other sees these macros.
#pragma once

#include <sstream>
#include <string>

// toml++ 3.3 states as an assumption what a broken file ("[.]") can violate: undefined behaviour in a release build, an
// abort in a debug one. Here it is an exception.
struct TomlAssumption {};
constexpr void toml_assume(bool holds) {
    if (!holds) throw TomlAssumption();
}
#undef NDEBUG
#define TOML_ASSERT(expr) toml_assume(static_cast<bool>(expr))
#define TOML_ENABLE_FORMATTERS 0  // only reading: a third of the compile time
#include <toml++/toml.h>

#include "compiler/spec_words.h"

namespace fusebn {

// A value in a message.
inline std::string described(const toml::node& node) {
    std::ostringstream out;
    switch (node.type()) {
        case toml::node_type::string: return in_quotes(node.ref<std::string>());
        case toml::node_type::integer: return std::to_string(node.ref<std::int64_t>());
        case toml::node_type::floating_point: out << "the fraction " << node.ref<double>(); return out.str();
        case toml::node_type::boolean: return node.ref<bool>() ? "true" : "false";
        case toml::node_type::array: return node.as_array()->empty() ? "an empty array" : "an array";
        case toml::node_type::table: return "a table";
        case toml::node_type::date: return "a date";
        case toml::node_type::time: return "a time";
        case toml::node_type::date_time: return "a date and time";
        case toml::node_type::none: break;
    }
    return "nothing";
}

}  // namespace fusebn
