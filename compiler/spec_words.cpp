#include "compiler/spec_words.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

namespace fusebn {

namespace {

std::string lower(std::string_view text) {
    std::string out(text);
    for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return out;
}

// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment): "shpae" is one from "shape".
std::size_t edit_distance(const std::string& a, const std::string& b) {
    std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = std::min(row[j], before[j - 2] + 1);
        }
        before.swap(last);
        last.swap(row);
    }
    return last[b.size()];
}

}  // namespace

std::string shown(std::string_view text, std::size_t limit) {
    std::string out;
    for (char c : text) {
        if (out.size() >= limit) return out + "...";
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte < 0x7f) {
            out += c;
        } else {
            char escaped[5];
            std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
            out += escaped;
        }
    }
    return out;
}

std::string in_quotes(std::string_view text) { return '"' + shown(text) + '"'; }

std::string listed(const Words& words, bool quotes) {
    std::string out;
    for (std::string_view word : words) {
        if (!out.empty()) out += ", ";
        out += quotes ? in_quotes(word) : std::string(word);
    }
    return out;
}

std::string suggestion(std::string_view found, const Words& words) {
    if (found.size() > 64) return "";
    std::string_view best;
    std::size_t nearest = 1 + found.size() / 3;  // a third of the letters may be wrong, and one of a short word
    for (std::string_view word : words) {
        const std::size_t distance = edit_distance(lower(found), lower(word));
        if (distance < nearest || (distance == nearest && best.empty())) {
            best = word;
            nearest = distance;
        }
    }
    return best.empty() ? "" : "; did you mean " + in_quotes(best) + "?";
}

std::string extent_order(Layout layout) {
    std::string out = "[";
    for (int axis = 0; axis < rank(layout); ++axis) {
        if (axis > 0) out += ", ";
        out += to_string(layout)[static_cast<std::size_t>(axis)];
    }
    return out + "]";
}

}  // namespace fusebn
