#include "compiler/manifest.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "compiler/spec_words.h"

namespace fusebn {

namespace {

using nlohmann::ordered_json;

ordered_json extent(std::int64_t e) { return e == any_extent ? ordered_json("any") : ordered_json(e); }

ordered_json launched(int n) { return n == DeviceFunction::any ? ordered_json("any") : ordered_json(n); }

ordered_json to_json(const std::vector<DeviceFunction>& functions) {
    ordered_json all = ordered_json::array();
    for (const DeviceFunction& f : functions) {
        all.push_back({{"name", f.name},
                       {"unaligned", f.unaligned},
                       {"registers", f.registers},
                       {"shared_bytes", f.shared_bytes},
                       {"dynamic_shared_bytes", launched(f.dynamic_shared_bytes)},
                       {"stack_bytes", f.stack_bytes},
                       {"spill_bytes", f.spill_bytes},
                       {"threads", launched(f.threads)}});
    }
    return all;
}

// A value of the manifest and what it is called: "kernels[0].variants". A mistake names it, what was found and what was
// expected.
class Value {
public:
    Value(const ordered_json& json, std::string path) : json_(json), path_(std::move(path)) {}

    [[noreturn]] void refuse(const std::string& expected) const {
        throw std::runtime_error((path_.empty() ? "" : path_ + ": ") + "found " + described() + "; expected " +
                                 expected);
    }

    bool has(const char* key) const { return json_.contains(key); }
    Value at(const char* key) const {
        if (!json_.is_object()) refuse("an object");
        const std::string path = path_ + (path_.empty() ? "" : ".") + key;
        const auto found = json_.find(key);
        if (found == json_.end()) throw std::runtime_error(path + ": found none; expected one");
        return {*found, path};
    }
    std::vector<Value> items(const std::string& expected, std::size_t least, std::size_t most) const {
        if (!json_.is_array() || json_.size() < least || json_.size() > most) refuse(expected);
        std::vector<Value> all;
        for (const ordered_json& item : json_) all.emplace_back(item, path_ + "[" + std::to_string(all.size()) + "]");
        return all;
    }

    std::string text() const {
        if (!json_.is_string()) refuse("a string");
        return json_.get<std::string>();
    }
    bool truth() const {
        if (!json_.is_boolean()) refuse("true or false");
        return json_.get<bool>();
    }
    std::int64_t number(std::int64_t least, std::int64_t most) const {
        const bool in_range = json_.is_number_integer() &&
                              (!json_.is_number_unsigned() || json_.get<std::uint64_t>() <= INT64_MAX) &&
                              json_.get<std::int64_t>() >= least && json_.get<std::int64_t>() <= most;
        if (!in_range) refuse("a number from " + std::to_string(least) + " to " + std::to_string(most));
        return json_.get<std::int64_t>();
    }
    std::int64_t size() const { return number(0, INT64_MAX); }
    int count() const { return static_cast<int>(number(0, INT32_MAX)); }
    int launched() const { return json_ == "any" ? DeviceFunction::any : count(); }
    std::int64_t extent() const { return json_ == "any" ? any_extent : number(1, max_extent); }
    template <class E, std::size_t n>
    E named(const NamedValue<E> (&names)[n]) const {
        for (const auto& row : names) {
            if (json_ == row.name) return row.value;
        }
        refuse(listed(names_of(names), true));
    }
    Schedule schedule() const {
        try {
            return parse_schedule(text(), {});
        } catch (const ScheduleError& e) {
            throw std::runtime_error(path_ + ": " + e.what());
        }
    }

private:
    // What a damaged file has may be nested past any stack, and its text no UTF-8.
    std::string described() const {
        if (json_.is_object()) return json_.empty() ? "{}" : "an object";
        if (json_.is_array()) return json_.empty() ? "[]" : "an array of " + std::to_string(json_.size());
        return shown(json_.dump(-1, ' ', false, ordered_json::error_handler_t::replace));
    }

    const ordered_json& json_;
    std::string path_;
};

constexpr std::size_t any_number = SIZE_MAX;

std::vector<DeviceFunction> functions_of(const Value& variant) {
    std::vector<DeviceFunction> all;
    if (!variant.has("functions")) return all;
    for (const Value& f : variant.at("functions").items("an array of functions", 0, any_number)) {
        all.push_back({f.at("name").text(), f.at("unaligned").truth(), f.at("registers").count(),
                       f.at("shared_bytes").count(), f.at("dynamic_shared_bytes").launched(),
                       f.at("stack_bytes").count(), f.at("spill_bytes").count(), f.at("threads").launched()});
    }
    return all;
}

ManifestKernel kernel_of(const Value& k) {
    const std::vector<Value> extents = k.at("extents").items("three extents", 3, 3);
    ManifestKernel kernel;
    kernel.kernel = {k.at("op").named(op_names),
                     k.at("view").named(view_names),
                     k.at("dtype").named(dtype_names),
                     k.at("activation").named(activation_names),
                     k.at("residual").named(residual_names),
                     extents[0].extent(),
                     extents[1].extent(),
                     extents[2].extent()};
    kernel.large = k.at("large").truth();
    for (const Value& v : k.at("variants").items("an array of one or more variants", 1, any_number)) {
        kernel.variants.push_back({v.at("target").named(instruction_set_names), v.at("schedule").schedule(),
                                   v.at("schedule_from").text(), v.at("symbol").text(), v.at("object_bytes").size(),
                                   functions_of(v), v.has("processor") ? v.at("processor").text() : ""});
    }
    return kernel;
}

}  // namespace

std::string to_json(const Manifest& m) {
    ordered_json kernels = ordered_json::array();
    for (const ManifestKernel& k : m.kernels) {
        ordered_json variants = ordered_json::array();
        for (const ManifestVariant& v : k.variants) {
            variants.push_back({{"target", to_string(v.isa)},
                                {"schedule", to_text(v.schedule)},
                                {"schedule_from", v.origin},
                                {"symbol", v.symbol},
                                {"object_bytes", v.object_bytes}});
            if (!v.processor.empty()) variants.back()["processor"] = v.processor;
            if (!v.functions.empty()) variants.back()["functions"] = to_json(v.functions);
        }
        const KernelSpec& s = k.kernel;
        kernels.push_back({{"name", kernel_name(s)},
                           {"op", to_string(s.op)},
                           {"view", to_string(s.view)},
                           {"dtype", to_string(s.dtype)},
                           {"activation", to_string(s.activation)},
                           {"residual", to_string(s.residual)},
                           {"extents", {extent(s.outer), extent(s.channels), extent(s.inner)}},
                           {"large", k.large},
                           {"variants", variants}});
    }
    ordered_json j = {{"name", m.name}, {"generator", m.generator}, {"digest", m.digest}};
    if (!m.ptxas.empty()) j["ptxas"] = m.ptxas;
    j["caches"] = {{"l1", m.caches.l1}, {"l2", m.caches.l2}, {"l3", m.caches.l3}};
    j["library_bytes"] = m.library_bytes;
    if (!m.library_digest.empty()) j["library_digest"] = m.library_digest;
    j["kernels"] = kernels;
    return j.dump(2) + "\n";
}

Manifest manifest_from_json(const std::string& text) {
    ordered_json parsed;
    try {
        parsed = ordered_json::parse(text);
    } catch (const nlohmann::json::parse_error& e) {
        throw std::runtime_error("found no JSON, by a mistake at byte " + std::to_string(e.byte) +
                                 "; expected an object");
    }
    const Value j(parsed, "");
    Manifest m;
    m.name = j.at("name").text();
    m.generator = j.at("generator").text();
    m.digest = j.at("digest").text();
    if (j.has("ptxas")) m.ptxas = j.at("ptxas").text();
    const Value caches = j.at("caches");
    m.caches = {caches.at("l1").size(), caches.at("l2").size(), caches.at("l3").size()};
    m.library_bytes = j.at("library_bytes").size();
    if (j.has("library_digest")) m.library_digest = j.at("library_digest").text();
    for (const Value& k : j.at("kernels").items("an array of one or more kernels", 1, any_number)) {
        m.kernels.push_back(kernel_of(k));
    }
    return m;
}

}  // namespace fusebn
