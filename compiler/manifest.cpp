#include "compiler/manifest.h"

#include <nlohmann/json.hpp>
#include <stdexcept>

namespace fusebn {

namespace {

using nlohmann::ordered_json;

template <class E, size_t N>
E named(const ordered_json& j, const char* key, const NamedValue<E> (&names)[N]) {
    const std::string text = j.at(key).get<std::string>();
    for (const auto& n : names) {
        if (n.name == text) return n.value;
    }
    throw std::runtime_error(std::string(key) + ": unknown value \"" + text + "\"");
}

ordered_json extent(std::int64_t e) { return e == any_extent ? ordered_json("any") : ordered_json(e); }

std::int64_t extent(const ordered_json& j) { return j.is_string() ? any_extent : j.get<std::int64_t>(); }

ordered_json launched(int n) { return n == DeviceFunction::any ? ordered_json("any") : ordered_json(n); }

int launched(const ordered_json& j) { return j == "any" ? DeviceFunction::any : j.get<int>(); }

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

std::vector<DeviceFunction> functions_from_json(const ordered_json& variant) {
    std::vector<DeviceFunction> all;
    if (!variant.contains("functions")) return all;
    for (const ordered_json& f : variant.at("functions")) {
        all.push_back({f.at("name"), f.at("unaligned"), f.at("registers"), f.at("shared_bytes"),
                       launched(f.at("dynamic_shared_bytes")), f.at("stack_bytes"), f.at("spill_bytes"),
                       launched(f.at("threads"))});
    }
    return all;
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
    j["kernels"] = kernels;
    return j.dump(2) + "\n";
}

Manifest manifest_from_json(const std::string& text) {
    try {
        const ordered_json j = ordered_json::parse(text);
        Manifest m;
        m.name = j.at("name");
        m.generator = j.at("generator");
        m.digest = j.at("digest");
        if (j.contains("ptxas")) m.ptxas = j.at("ptxas");
        m.caches = {j.at("caches").at("l1"), j.at("caches").at("l2"), j.at("caches").at("l3")};
        m.library_bytes = j.at("library_bytes");
        for (const ordered_json& k : j.at("kernels")) {
            ManifestKernel kernel;
            kernel.kernel = {named(k, "op", op_names),
                             named(k, "view", view_names),
                             named(k, "dtype", dtype_names),
                             named(k, "activation", activation_names),
                             named(k, "residual", residual_names),
                             extent(k.at("extents").at(0)),
                             extent(k.at("extents").at(1)),
                             extent(k.at("extents").at(2))};
            kernel.large = k.at("large");
            for (const ordered_json& v : k.at("variants")) {
                kernel.variants.push_back({named(v, "target", instruction_set_names),
                                           parse_schedule(v.at("schedule"), {}), v.at("schedule_from"), v.at("symbol"),
                                           v.at("object_bytes"), functions_from_json(v)});
            }
            m.kernels.push_back(kernel);
        }
        return m;
    } catch (const nlohmann::json::exception& e) {
        throw std::runtime_error(e.what());
    }
}

}  // namespace fusebn
