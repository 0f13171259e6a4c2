#pragma once

#include <memory>
#include <string>

#include "device/backend.h"

namespace fusebn::detail {

int opencl_device_count();
std::string opencl_device_name(int ordinal);
Status open_opencl(int ordinal, std::shared_ptr<Backend>& backend);

}  // namespace fusebn::detail
