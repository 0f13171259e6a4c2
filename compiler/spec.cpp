// Reads spec.toml: values one key at a time, then rows (a kernel's shape collapsed into its view, equal rows merged).
// Nothing here knows a schedule or a compiler.
#include "compiler/spec.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string_view>

// toml++ 3.3 states as an assumption what a broken file ("[.]") can violate: undefined behaviour in a release build, an
// abort in a debug one. Here it is an exception. No other file includes toml++, so no other sees these macros.
struct TomlAssumption {};
constexpr void toml_assume(bool holds) {
    if (!holds) throw TomlAssumption();
}
#undef NDEBUG
#define TOML_ASSERT(expr) toml_assume(static_cast<bool>(expr))
#define TOML_ENABLE_FORMATTERS 0  // only reading: a third of the compile time
#include <toml++/toml.h>

#include "compiler/spec_words.h"
#include "compiler/toml_guard.h"
#include "fusebn/parallel.h"

namespace fusebn {
namespace {

std::string described(const toml::node& node) {
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

// ---- values ----

template <class E, std::size_t n>
E value_named(const NamedValue<E> (&rows)[n], const std::string& text) {
    for (const NamedValue<E>& row : rows) {
        if (row.name == text) return row.value;
    }
    throw Mistake{in_quotes(text), listed(names_of(rows), true) + suggestion(text, names_of(rows))};
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

// Words that a namespace cannot be called (C++20 keywords and alternative tokens), or that would hide what every
// program has: the standard library, fusebn itself, main, and the macros GCC defines without underscores.
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
            "xor_eq std fusebn main linux unix");
        return std::set<std::string>(std::istream_iterator<std::string>(words), {});
    }();
    return names;
}

// ---- rows ----

struct Extent {
    std::int64_t value;  // any_extent where it is "any"
    const toml::node* node;
};

class SpecReader {
public:
    SpecReader(const std::string& file, const std::string& name) : file_(file), name_(name) {}

    LibrarySpec read(const std::string& text) {
        if (text.size() > max_spec_bytes) {
            fail({1, 1}, "file", {"more than " + std::to_string(max_spec_bytes) + " bytes", "that many at most"});
        }
        if (const auto misplaced = unparsable(text))
            fail({misplaced->line, misplaced->column}, misplaced->key, misplaced->mistake);
        const toml::table root = parsed(text);
        check_keys(root, "", {"name", "targets", "defaults", "kernel"});
        read_name(root);
        read_targets(root);
        read_defaults(root);
        read_kernels(root);
        return std::move(spec_);
    }

private:
    using Position = toml::source_position;

    [[noreturn]] void fail(Position at, const std::string& key, const Mistake& mistake) const {
        // toml++ counts from 1 and leaves 0 where it has no place.
        throw SpecError(file_ + ':' + std::to_string(std::max<std::uint32_t>(at.line, 1)) + ':' +
                        std::to_string(std::max<std::uint32_t>(at.column, 1)) + ": " + key + ": found " +
                        mistake.found + "; allowed: " + mistake.allowed);
    }
    [[noreturn]] void fail(const toml::node& node, const std::string& key, const Mistake& mistake) const {
        fail(node.source().begin, key, mistake);
    }

    toml::table parsed(const std::string& text) const {
        try {
            return toml::parse(text, std::string_view(file_));
        } catch (const toml::parse_error& error) {
            fail(error.source().begin, "syntax",
                 {"a mistake in the TOML itself (" + shown(error.description(), 300) + ")", "TOML 1.0"});
        } catch (const TomlAssumption&) {
            fail({1, 1}, "syntax", {"a mistake in the TOML itself (at a place its reader cannot name)", "TOML 1.0"});
        }
    }

    // The first unknown key in the order of the file; a table itself is sorted by name.
    void check_keys(const toml::table& table, const std::string& path, const Words& allowed) const {
        const toml::key* first = nullptr;
        for (const auto& [key, value] : table) {
            if (std::find(allowed.begin(), allowed.end(), key.str()) != allowed.end()) continue;
            if (first == nullptr || key.source().begin < first->source().begin) first = &key;
        }
        if (first == nullptr) return;
        fail(first->source().begin, path + shown(first->str()),
             {"an unknown key", listed(allowed, false) + suggestion(first->str(), allowed)});
    }

    std::string string_at(const toml::node& node, const std::string& key, const std::string& allowed) const {
        if (!node.is_string()) fail(node, key, {described(node), allowed});
        return node.ref<std::string>();
    }

    // "a" or ["a", "b"].
    template <class Read>
    void each_string(const toml::node& node, const std::string& key, const Words& words, const Read& read) const {
        const auto one = [&](const toml::node& item) {
            const std::string text = string_at(item, key, listed(words, true));
            try {
                read(text);
            } catch (const Mistake& mistake) {
                fail(item, key, mistake);
            }
        };
        const toml::array* items = node.as_array();
        if (items == nullptr) return one(node);
        if (items->empty()) fail(node, key, {"an empty array", "one or more of " + listed(words, true)});
        for (const toml::node& item : *items) one(item);
    }

    template <class E, std::size_t n>
    void read_value(const toml::table& table, const std::string& path, std::string_view key,
                    const NamedValue<E> (&rows)[n], std::optional<E>& value) const {
        const toml::node* node = table.get(key);
        if (node == nullptr) return;
        const std::string full = path + std::string(key);
        const std::string text = string_at(*node, full, listed(names_of(rows), true));
        try {
            value = value_named(rows, text);
        } catch (const Mistake& mistake) {
            fail(*node, full, mistake);
        }
    }

    void read_name(const toml::table& root) {
        const toml::node* node = root.get("name");
        if (node != nullptr) {
            spec_.name = string_at(*node, "name", allowed_library_name);
            if (!is_library_name(spec_.name)) fail(*node, "name", {in_quotes(spec_.name), allowed_library_name});
        }
        if (!name_.empty()) {
            if (!is_library_name(name_))
                throw SpecError("--name: found " + in_quotes(name_) + "; allowed: " + allowed_library_name);
            spec_.name = name_;
        } else if (node == nullptr) {
            spec_.name = std::filesystem::path(file_).stem().string();
            if (!is_library_name(spec_.name)) {
                fail({1, 1}, "name",
                     {"none, and the file's own name " + in_quotes(spec_.name) + " cannot be one",
                      allowed_library_name});
            }
        }
    }

    void read_targets(const toml::table& root) {
        const toml::node* node = root.get("targets");
        if (node == nullptr) {
            for (const auto& row : instruction_set_names) spec_.targets.push_back(row.value);
            return;
        }
        each_string(*node, "targets", target_words(),
                    [&](const std::string& text) { spec_.targets.push_back(target_named(text)); });
        sort_unique(spec_.targets);
    }

    // What a kernel says, or the defaults say for it.
    struct Row {
        std::vector<Op> ops;
        std::optional<Layout> layout;
        std::optional<DataType> dtype;
        std::optional<Activation> activation;
    };

    void read_row(const toml::table& table, const std::string& path, Row& row) const {
        read_value(table, path, "layout", layout_names, row.layout);
        read_value(table, path, "dtype", dtype_names, row.dtype);
        read_value(table, path, "activation", activation_names, row.activation);
        if (const toml::node* node = table.get("op")) {
            row.ops.clear();
            each_string(*node, path + "op", names_of(op_names), [&](const std::string& text) {
                const Op op = value_named(op_names, text);
                if (std::find(row.ops.begin(), row.ops.end(), op) == row.ops.end()) row.ops.push_back(op);
            });
        }
    }

    void read_defaults(const toml::table& root) {
        const toml::node* node = root.get("defaults");
        if (node == nullptr) return;
        const toml::table* table = node->as_table();
        if (table == nullptr) fail(*node, "defaults", {described(*node), "a table, written [defaults]"});
        check_keys(*table, "defaults.", {"op", "layout", "dtype", "activation"});
        read_row(*table, "defaults.", defaults_);
    }

    void read_kernels(const toml::table& root) {
        const char* const allowed = "one or more tables, each written [[kernel]]";
        const toml::node* node = root.get("kernel");
        if (node == nullptr) fail({1, 1}, "kernel", {"none", allowed});
        const toml::array* tables = node->as_array();
        if (tables == nullptr || tables->empty()) fail(*node, "kernel", {described(*node), allowed});
        for (const toml::node& item : *tables) {
            if (!item.is_table()) fail(item, "kernel", {described(item), allowed});
            read_kernel(*item.as_table());
        }
    }

    void read_kernel(const toml::table& table) {
        check_keys(table, "kernel.", {"op", "shape", "layout", "dtype", "activation", "residual", "schedule"});
        Row row = defaults_;
        read_row(table, "kernel.", row);
        if (row.ops.empty()) {
            fail(table, "kernel.op",
                 {"none, here and in [defaults]", "one or more of " + listed(names_of(op_names), true)});
        }
        if (!row.layout) {
            // No default of its own: a layout that was only guessed is the classic wrong-axis mistake.
            fail(table, "kernel.layout", {"none, here and in [defaults]", listed(names_of(layout_names), true)});
        }
        if (const toml::node* residual = table.get("residual")) {
            if (!residual->is_boolean() || residual->ref<bool>()) {
                fail(*residual, "kernel.residual", {described(*residual), "false (no kernel adds a residual yet)"});
            }
        }
        SpecKernel entry;
        const toml::node* schedule = table.get("schedule");
        if (schedule != nullptr) {
            entry.schedule = string_at(*schedule, "kernel.schedule", "a string, or no such key for the default");
        }
        entry.line = static_cast<int>(table.source().begin.line);
        entry.kernel.dtype = row.dtype.value_or(DataType::f32);
        entry.kernel.activation = row.activation.value_or(Activation::none);
        read_shape(table, *row.layout, row.ops, entry.kernel);
        for (Op op : row.ops) {
            entry.kernel.op = op;
            add(entry, schedule != nullptr ? *schedule : table);
        }
    }

    void add(const SpecKernel& entry, const toml::node& place) {
        if (++rows_ > max_spec_kernels) {
            fail(place, "kernel", {"more than " + std::to_string(max_spec_kernels) + " kernels", "that many at most"});
        }
        const auto [same, is_new] = index_.try_emplace(entry.kernel, spec_.kernels.size());
        if (is_new) {
            spec_.kernels.push_back(entry);
            return;
        }
        const SpecKernel& first = spec_.kernels[same->second];
        if (first.schedule == entry.schedule) return;
        fail(place, "kernel.schedule",
             {in_quotes(entry.schedule) + " for " + kernel_name(entry.kernel),
              in_quotes(first.schedule) + ", as the same kernel on line " + std::to_string(first.line) + " has it"});
    }

    Extent read_extent(const toml::node& node, std::string_view letter) const {
        const std::string allowed = "1 to " + std::to_string(max_extent) + ", or \"any\"";
        const std::string which = " for " + std::string(letter);
        if (node.is_string() && node.ref<std::string>() == "any") return {any_extent, &node};
        if (!node.is_integer()) fail(node, "kernel.shape", {described(node) + which, allowed});
        const std::int64_t value = node.ref<std::int64_t>();
        if (value < 1 || value > max_extent) fail(node, "kernel.shape", {std::to_string(value) + which, allowed});
        return {value, &node};
    }

    void read_shape(const toml::table& table, Layout layout, const std::vector<Op>& ops, KernelSpec& kernel) const {
        const std::string count = std::to_string(rank(layout)) + " extents, in the order of " +
                                  std::string(to_string(layout)) + ": " + extent_order(layout);
        const toml::node* node = table.get("shape");
        if (node == nullptr) fail(table, "kernel.shape", {"none", count});
        const toml::array* shape = node->as_array();
        if (shape == nullptr) fail(*node, "kernel.shape", {described(*node), count});
        if (shape->size() != static_cast<std::size_t>(rank(layout))) {
            fail(*node, "kernel.shape",
                 {std::to_string(shape->size()) + (shape->size() == 1 ? " extent" : " extents"), count});
        }
        std::vector<Extent> extents;
        const std::string_view letters = to_string(layout);
        for (std::size_t axis = 0; axis < shape->size(); ++axis) {
            extents.push_back(read_extent((*shape)[axis], letters.substr(axis, 1)));
        }
        const auto channel = static_cast<std::size_t>(channel_axis(layout));
        kernel.view = view(layout);
        kernel.channels = extents[channel].value;
        const auto all_any = [](const Extent& extent) { return extent.value == any_extent; };
        if (kernel.channels == any_extent && !std::all_of(extents.begin(), extents.end(), all_any)) {
            fail(*extents[channel].node, "kernel.shape",
                 {"\"any\" for C beside a fixed extent",
                  "a number for C, or \"any\" for every extent (the generic kernel)"});
        }
        if (kernel.view == View::planar) {
            kernel.outer = extents[0].value;
            kernel.inner = product(*node, extents, letters, {2, shape->size()});
        } else {
            kernel.outer = product(*node, extents, letters, {0, channel});
            kernel.inner = 1;
        }
        check_size(*node, ops, kernel);
    }

    // The product of the extents [range.first, range.second); "any" where one of them is.
    std::int64_t product(const toml::node& place, const std::vector<Extent>& extents, std::string_view letters,
                         std::pair<std::size_t, std::size_t> range) const {
        std::int64_t value = 1;
        std::string names;
        bool any = false;
        for (std::size_t axis = range.first; axis < range.second; ++axis) {
            names += (names.empty() ? "" : "*") + std::string(letters.substr(axis, 1));
            any = any || extents[axis].value == any_extent;
        }
        for (std::size_t axis = range.first; axis < range.second; ++axis) {
            const std::int64_t extent = extents[axis].value;
            if (extent == any_extent) continue;
            if (value > max_extent / extent) {
                fail(place, "kernel.shape",
                     {names + " of more than " + std::to_string(max_extent),
                      "1 to " + std::to_string(max_extent) + " for the product"});
            }
            value *= extent;
        }
        return any ? any_extent : value;
    }

    void check_size(const toml::node& place, const std::vector<Op>& ops, const KernelSpec& kernel) const {
        if (kernel.outer == any_extent || kernel.inner == any_extent) return;
        // Each factor is below 2^31, so a product of two fits, and the third is compared by division.
        const std::int64_t values = kernel.outer * kernel.inner;
        if (values > max_elements / kernel.channels) {
            fail(place, "kernel.shape",
                 {"more than " + std::to_string(max_elements) + " elements", "that many at most"});
        }
        if (values > FUSEBN_MAX_CHANNEL_VALUES) {
            fail(place, "kernel.shape",
                 {"more than " + std::to_string(FUSEBN_MAX_CHANNEL_VALUES) + " values per channel",
                  "that many at most"});
        }
        if (values == 1 && std::find(ops.begin(), ops.end(), Op::train_forward) != ops.end()) {
            fail(place, "kernel.shape",
                 {"one value per channel", "two or more for train_forward: a single value has no variance"});
        }
    }

    const std::string& file_;
    const std::string& name_;
    LibrarySpec spec_;
    Row defaults_;
    std::map<KernelSpec, std::size_t> index_;  // into spec_.kernels
    std::size_t rows_ = 0;
};

}  // namespace

const char* const allowed_library_name =
    "a C identifier (letters, digits and single underscores, no digit first, 100 characters at most) that is not a "
    "word of C++";

bool is_library_name(const std::string& name) {
    const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    if (name.empty() || name.size() > 100 || !letter(name[0])) return false;
    if (!std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || digit(c) || c == '_'; })) return false;
    // C++ keeps every name with two underscores in a row for its implementation.
    return name.find("__") == std::string::npos && reserved_names().count(name) == 0;
}

LibrarySpec parse_spec(const std::string& text, const std::string& file, const std::string& name) {
    return SpecReader(file, name).read(text);
}

LibrarySpec read_spec(const std::string& path, const std::string& name) {
    const auto refuse = [&](const std::string& found) {
        throw SpecError(path + ":1:1: file: found " + found + "; allowed: a spec that can be read");
    };
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    if (!file) refuse(std::strerror(errno));
    // One byte past the limit is enough to know, also of a device that never ends.
    std::string text(max_spec_bytes + 1, '\0');
    text.resize(std::fread(text.data(), 1, text.size(), file.get()));
    if (std::ferror(file.get())) refuse(std::strerror(errno));
    return parse_spec(text, path, name);
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
