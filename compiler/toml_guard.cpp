#include "compiler/toml_guard.h"

#include <string>

namespace fusebn {

namespace {
constexpr int max_dots = 1000;
}  // namespace

std::optional<Misplaced> unparsable(std::string_view text) {
    enum class In { plain, comment, basic, literal, basic_lines, literal_lines } in = In::plain;
    const std::string_view byte_order_mark = "\xEF\xBB\xBF";
    const auto escapes = [&](std::size_t i) {  // a quote or a backslash
        return text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == '"' || text[i + 1] == '\\');
    };
    int dots = 0;
    std::uint32_t line = 1;
    std::size_t line_begin = 0;
    for (std::size_t i = text.substr(0, 3) == byte_order_mark ? 3 : 0; i < text.size(); ++i) {
        const char c = text[i];
        const auto thrice = [&](char quote) {
            return i + 2 < text.size() && c == quote && text[i + 1] == quote && text[i + 2] == quote;
        };
        if (c == '\n') {
            ++line;
            line_begin = i + 1;
        }
        if (in != In::comment && static_cast<unsigned char>(c) > 0x7f) {
            const auto column = static_cast<std::uint32_t>(i - line_begin + 1);
            return Misplaced{
                line, column, "syntax", {"the byte " + shown(text.substr(i, 1)), "ASCII (in a comment, any UTF-8)"}};
        }
        switch (in) {
            case In::plain:
                if (c == '.' && ++dots > max_dots) {
                    return Misplaced{
                        1, 1, "file", {"more than " + std::to_string(max_dots) + " dots in keys", "that many at most"}};
                }
                if (c == '#') in = In::comment;
                if (c == '"' || c == '\'') {
                    const bool lines = thrice(c);
                    in = c == '"' ? (lines ? In::basic_lines : In::basic) : (lines ? In::literal_lines : In::literal);
                    if (lines) i += 2;
                }
                break;
            case In::comment:
                if (c == '\n') in = In::plain;
                break;
            case In::basic:
            case In::literal:
                // A line's end inside is a mistake where toml++ stops, so what follows does not matter.
                if (c == (in == In::basic ? '"' : '\'') || c == '\n') in = In::plain;
                if (in == In::basic && escapes(i)) ++i;
                break;
            case In::basic_lines:
            case In::literal_lines: {
                const char quote = in == In::basic_lines ? '"' : '\'';
                if (in == In::basic_lines && escapes(i)) {
                    ++i;
                } else if (thrice(quote)) {
                    i += 2;
                    // Up to two quotes may stand just inside the closing ones.
                    for (int inside = 0; inside < 2 && i + 1 < text.size() && text[i + 1] == quote; ++inside) ++i;
                    in = In::plain;
                }
                break;
            }
        }
    }
    return std::nullopt;
}

}  // namespace fusebn
