// The header of a safetensors file, and what the format demands of it.
#pragma once

#include <cstdint>
#include <string>

#include "fusebn/types.h"
#include "nlohmann/json.hpp"

namespace fusebn::detail {

using Json = nlohmann::ordered_json;

Status bad_file(const std::string& path, const std::string& what);

// Throws a std::exception that says what is wrong.
Json parse_header(const std::string& text);

// bad_file: an entry that is no tensor, tensors that share bytes of the data, bytes that are no tensor's. Afterwards
// each entry but __metadata__ has a dtype, a shape and data_offsets of their types, within the data.
Status check_header(const std::string& path, const Json& header, std::uint64_t data_bytes);

}  // namespace fusebn::detail
