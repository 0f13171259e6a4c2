#include "safetensors.h"

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "text.h"

namespace fusebn::detail {
namespace {

// {"name": {"shape": [...]}} is three deep, and so is a file's metadata.
constexpr int max_header_depth = 4;

// A tensor's bytes within the data that follow the header.
struct Place {
    std::uint64_t begin = 0, end = 0;
};

bool read_place(const Json& entry, std::uint64_t data_bytes, Place& place) {
    if (!entry.is_object() || !entry.contains("data_offsets")) return false;
    const Json& offsets = entry["data_offsets"];
    if (!offsets.is_array() || offsets.size() != 2) return false;
    if (!offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned()) return false;
    place = {offsets[0].get<std::uint64_t>(), offsets[1].get<std::uint64_t>()};
    return place.begin <= place.end && place.end <= data_bytes;
}

Status check_metadata(const std::string& path, const Json& metadata) {
    if (!metadata.is_object()) {
        return bad_file(path, "its __metadata__ is no JSON object; expected one of strings, as safetensors files have");
    }
    for (const auto& [key, value] : metadata.items()) {
        if (value.is_string()) continue;
        return bad_file(path, sentence("\"", key, "\" in its __metadata__ is ", value.dump().substr(0, 80),
                                       "; expected a string, as safetensors files have"));
    }
    return Status();
}

// What every tensor of the file has to have, whether the layer reads it or not.
Status check_form(const std::string& path, const std::string& name, const Json& entry) {
    const auto shown = [&](const char* key) { return entry.contains(key) ? entry[key].dump().substr(0, 80) : "none"; };
    if (!entry.contains("dtype") || !entry["dtype"].is_string()) {
        return bad_file(path, sentence("tensor \"", name, "\" has dtype ", shown("dtype"),
                                       "; expected a type's name, such as \"F32\""));
    }
    const bool has_shape = entry.contains("shape") && entry["shape"].is_array();
    if (has_shape && std::all_of(entry["shape"].begin(), entry["shape"].end(),
                                 [](const Json& extent) { return extent.is_number_unsigned(); })) {
        return Status();
    }
    return bad_file(path, sentence("tensor \"", name, "\" has shape ", shown("shape"),
                                   "; expected a list of whole numbers, such as [64]"));
}

}  // namespace

Status bad_file(const std::string& path, const std::string& what) {
    return Status(ErrorCode::bad_file, sentence(path, ": ", what));
}

Json parse_header(const std::string& text) {
    // The parser takes a zero byte for the end, and would pass over what comes behind it.
    if (text.find('\0') != std::string::npos) throw std::runtime_error("it has a zero byte in it");
    std::vector<std::unordered_set<std::string>> keys;  // of the objects that are open
    const auto checked = [&](int depth, Json::parse_event_t event, Json& parsed) {
        if (depth > max_header_depth) throw std::runtime_error("it is nested too deeply");
        if (event == Json::parse_event_t::object_start) keys.emplace_back();
        if (event == Json::parse_event_t::object_end) keys.pop_back();
        // Of two the parser would keep one, and other readers the other.
        if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
            throw std::runtime_error(sentence("the key ", parsed.dump().substr(0, 80), " is there twice"));
        }
        return true;
    };
    Json header = Json::parse(text, checked);
    if (!header.is_object()) throw std::runtime_error("it is no JSON object");
    if (text.front() != '{') throw std::runtime_error("it does not begin with a {");
    return header;
}

Status check_header(const std::string& path, const Json& header, std::uint64_t data_bytes) {
    std::vector<std::pair<Place, std::string>> places;
    for (const auto& [name, entry] : header.items()) {
        if (name == "__metadata__") {
            if (Status s = check_metadata(path, entry); !s.ok()) return s;
            continue;
        }
        Place place;
        if (!read_place(entry, data_bytes, place)) {
            return bad_file(path, sentence("tensor \"", name, "\" has no data_offsets within the file's ", data_bytes,
                                           " bytes of data; expected a safetensors file"));
        }
        if (Status s = check_form(path, name, entry); !s.ok()) return s;
        places.emplace_back(place, name);
    }
    std::sort(places.begin(), places.end(), [](const auto& a, const auto& b) {
        return a.first.begin != b.first.begin ? a.first.begin < b.first.begin : a.first.end < b.first.end;
    });
    const auto refuse_hole = [&](std::uint64_t begin, std::uint64_t end) {
        return bad_file(path,
                        sentence("bytes ", begin, " to ", end, " of its ", data_bytes,
                                 " bytes of data are no tensor's; expected a safetensors file, which has none such"));
    };
    std::uint64_t filled = 0;
    for (std::size_t i = 0; i < places.size(); ++i) {
        if (places[i].first.begin < filled) {
            return bad_file(path, sentence("tensors \"", places[i - 1].second, "\" and \"", places[i].second,
                                           "\" share bytes; expected a safetensors file"));
        }
        if (places[i].first.begin > filled) return refuse_hole(filled, places[i].first.begin);
        filled = places[i].first.end;
    }
    return filled == data_bytes ? Status() : refuse_hole(filled, data_bytes);
}

}  // namespace fusebn::detail
