#pragma once

#include <memory>
#include <string>

#include "device/backend.h"

namespace fusebn::detail {

int cuda_device_count();
std::string cuda_device_name(int ordinal);
// What keeps apart the objects of one device: the calling thread's context, or null for the primary one.
void* cuda_context_of_thread(int ordinal);
Status open_cuda(int ordinal, void* context, std::shared_ptr<Backend>& backend);

}  // namespace fusebn::detail
