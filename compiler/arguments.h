// What the arguments of the command may be, where its parser has no words for it.
#pragma once

#include <string>

#include "schedules/schedule.h"

namespace fusebn {

// Throws std::runtime_error where a cache is smaller than one that is nearer to the core.
void check_caches(const CacheModel& caches);

// Throws std::runtime_error where no file can be written at `path`. What is there stays as it is, and nothing is left
// where there was none. `option`: what the message names.
void check_writable(const std::string& option, const std::string& path);

// Throws std::runtime_error where `path` is the file at `other`, which is the user's `what`.
void check_apart(const std::string& option, const std::string& path, const std::string& other, const std::string& what);

}  // namespace fusebn
