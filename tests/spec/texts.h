// Texts for the tests of the spec's reader, and what it says of them.
#pragma once

#include <fstream>
#include <sstream>
#include <string>

#include "compiler/spec.h"

namespace fusebn {

inline LibrarySpec parse(const std::string& text) { return parse_spec(text, "net.toml"); }

// What the parser says of a text it must refuse.
inline std::string refusal(const std::string& text, const std::string& file = "net.toml") {
    try {
        parse_spec(text, file);
    } catch (const SpecError& error) {
        return error.what();
    }
    return "accepted";
}

// One kernel, whose table opens on line 4 and goes on with `rest` on line 5.
inline std::string one_kernel(const std::string& rest) {
    return "[defaults]\nlayout = \"NCHW\"\nop = \"inference\"\n[[kernel]]\n" + rest + "\n";
}

inline std::string name_of(const std::string& rest) {
    const LibrarySpec spec = parse(one_kernel(rest));
    return spec.kernels.size() == 1 ? kernel_name(spec.kernels[0].kernel) : "not one kernel";
}

inline std::string example_of_the_docs() {
    std::ifstream file(FUSEBN_SPEC_DOC);
    std::stringstream text;
    text << file.rdbuf();
    const std::string all = text.str(), fence = "```toml\n";
    const std::size_t begin = all.find(fence);
    if (begin == std::string::npos) return "";
    return all.substr(begin + fence.size(), all.find("```", begin + fence.size()) - begin - fence.size());
}

}  // namespace fusebn
