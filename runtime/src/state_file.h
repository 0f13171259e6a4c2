// A layer's state as a safetensors file: 8 bytes of header length (little-endian), a JSON header that gives each
// tensor's dtype, shape and place, then the tensors' bytes. https://huggingface.co/docs/safetensors
#pragma once

#include <string>

#include "fusebn/batch_norm.h"

namespace fusebn::detail {

// Writes the vectors of `state` that are not empty, and the count with the running statistics. The file appears whole
// or not at all. io_error; invalid_argument: a prefix that is no UTF-8.
Status write_state_file(const std::string& path, const std::string& prefix, const BatchNormState& state);

// Reads what `like` has into `state`; other tensors may be in the file. io_error, bad_file, shape_mismatch: `state` is
// then of no use.
Status read_state_file(const std::string& path, const std::string& prefix, const BatchNormState& like,
                       BatchNormState& state);

}  // namespace fusebn::detail
