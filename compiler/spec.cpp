// Reads spec.toml: values one key at a time, then rows (equal ones merged). A value that is a word is a row of types.h;
// shapes are spec_shape.h's. Nothing here knows a schedule or a compiler.
#include "compiler/spec.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string_view>

#include "compiler/spec_names.h"
#include "compiler/spec_shape.h"
#include "compiler/spec_toml.h"
#include "compiler/spec_words.h"
#include "compiler/toml_guard.h"

namespace fusebn {
namespace {

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
            for (const auto& row : instruction_set_names) {
                if (!is_device(row.value)) spec_.targets.push_back(row.value);
            }
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
        std::optional<Residual> residual;
    };

    void read_row(const toml::table& table, const std::string& path, Row& row) const {
        read_value(table, path, "layout", layout_names, row.layout);
        read_value(table, path, "dtype", dtype_names, row.dtype);
        read_value(table, path, "activation", activation_names, row.activation);
        read_value(table, path, "residual", residual_names, row.residual);
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
        check_keys(*table, "defaults.", {"op", "layout", "dtype", "activation", "residual"});
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
        SpecKernel entry;
        const toml::node* schedule = table.get("schedule");
        if (schedule != nullptr) {
            const std::string allowed = "a string of keys, such as \"vector=8\", or no such key for the default";
            entry.schedule = string_at(*schedule, "kernel.schedule", allowed);
            if (entry.schedule.find_first_not_of(" \f\n\r\t\v") == std::string::npos) {
                fail(*schedule, "kernel.schedule", {in_quotes(entry.schedule), allowed});
            }
            entry.schedule_line = static_cast<int>(schedule->source().begin.line);
            entry.schedule_column = static_cast<int>(schedule->source().begin.column);
        }
        entry.line = static_cast<int>(table.source().begin.line);
        entry.kernel.dtype = row.dtype.value_or(DataType::f32);
        entry.kernel.activation = row.activation.value_or(Activation::none);
        entry.kernel.residual = row.residual.value_or(Residual::none);
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

    std::int64_t read_extent(const toml::node& node, std::string_view letter) const {
        const std::string allowed = "1 to " + std::to_string(max_extent) + ", or \"any\"";
        const std::string which = " for " + std::string(letter);
        if (node.is_string() && node.ref<std::string>() == "any") return any_extent;
        if (!node.is_integer()) fail(node, "kernel.shape", {described(node) + which, allowed});
        const std::int64_t value = node.ref<std::int64_t>();
        if (value < 1 || value > max_extent) fail(node, "kernel.shape", {std::to_string(value) + which, allowed});
        return value;
    }

    void read_shape(const toml::table& table, Layout layout, const std::vector<Op>& ops, KernelSpec& kernel) const {
        const toml::node* node = table.get("shape");
        if (node == nullptr) fail(table, "kernel.shape", {"none", allowed_extents(layout)});
        const toml::array* shape = node->as_array();
        if (shape == nullptr) fail(*node, "kernel.shape", {described(*node), allowed_extents(layout)});
        if (shape->size() != static_cast<std::size_t>(rank(layout))) {
            const std::string count = std::to_string(shape->size()) + (shape->size() == 1 ? " extent" : " extents");
            fail(*node, "kernel.shape", {count, allowed_extents(layout)});
        }
        std::vector<std::int64_t> extents;
        for (std::size_t axis = 0; axis < shape->size(); ++axis) {
            extents.push_back(read_extent((*shape)[axis], to_string(layout).substr(axis, 1)));
        }
        try {
            set_shape(kernel, layout, extents, ops);
        } catch (const ShapeMistake& wrong) {
            fail(wrong.axis ? (*shape)[*wrong.axis] : *node, "kernel.shape", wrong.mistake);
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

}  // namespace fusebn
