#include "compiler/spec_names.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <sstream>

#include "compiler/spec.h"
#include "fusebn/parallel.h"

namespace fusebn {
namespace {

// Words that a namespace cannot be called (C++20 keywords and alternative tokens; macros of the headers that every
// program includes, and those GCC defines without underscores), or that would hide what every program has: the standard
// library, fusebn itself, main, and headers of C and POSIX, as <name>.h is one beside them.
const std::set<std::string>& reserved_names() {
    static const std::set<std::string> names = [] {
        std::istringstream words(
            "alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t "
            "char8_t class co_await co_return co_yield compl concept const consteval constexpr constinit "
            "const_cast continue decltype default delete do double dynamic_cast else enum explicit export extern "
            "false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr "
            "operator or or_eq private protected public register reinterpret_cast requires restrict return short "
            "signed sizeof static static_assert static_cast struct switch template this thread_local throw true "
            "try typedef typeid typename typeof union unsigned using virtual void volatile wchar_t while xor "
            "xor_eq std fusebn main linux unix NULL EOF errno assert offsetof stdin stdout stderr complex ctype "
            "dlfcn fcntl features fenv inttypes iso646 limits locale malloc math memory pthread sched setjmp "
            "signal stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string strings tgmath "
            "threads time uchar unistd values wchar wctype");
        return std::set<std::string>(std::istream_iterator<std::string>(words), {});
    }();
    return names;
}

}  // namespace

const char* const allowed_library_name =
    "a C identifier (letters, digits and single underscores, no digit first, 100 characters at most) that is not a "
    "word, a macro or a header of C and C++";

bool is_library_name(const std::string& name) {
    const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    if (name.empty() || name.size() > 100 || !letter(name[0])) return false;
    if (!std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || digit(c) || c == '_'; })) return false;
    // C++ keeps every name with two underscores in a row for its implementation.
    return name.find("__") == std::string::npos && reserved_names().count(name) == 0;
}

Words target_words() {
    Words words = names_of(instruction_set_names);
    words.push_back("host");
    return words;
}

InstructionSet target_named(const std::string& text) {
    if (text == "host") {
        if (const auto host = host_instruction_set()) return *host;
        throw Mistake{"\"host\" on a machine without SSE4.1", listed(names_of(instruction_set_names), true)};
    }
    for (const auto& row : instruction_set_names) {
        if (row.name == text) return row.value;
    }
    throw Mistake{in_quotes(text), listed(target_words(), true) + suggestion(text, target_words())};
}

void sort_unique(std::vector<InstructionSet>& targets) {
    std::sort(targets.begin(), targets.end());
    targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
}

std::vector<InstructionSet> parse_targets(const std::vector<std::string>& names, const std::string& where) {
    std::vector<InstructionSet> targets;
    try {
        if (names.empty()) throw Mistake{"none", "one or more of " + listed(target_words(), true)};
        for (const std::string& name : names) targets.push_back(target_named(name));
    } catch (const Mistake& mistake) {
        throw SpecError(where + ": found " + mistake.found + "; allowed: " + mistake.allowed);
    }
    sort_unique(targets);
    return targets;
}

std::optional<InstructionSet> host_instruction_set() {
    std::optional<InstructionSet> best;
    for (const auto& isa : instruction_set_names) {
        if (supports(isa.value)) best = isa.value;
    }
    return best;
}

}  // namespace fusebn
