// A library's files as a user has them: looked at before they are written and when they are read.
#pragma once

#include <string>

#include "compiler/build.h"

namespace fusebn {

// Throws std::runtime_error where `directory` (-o) cannot have the three files of a library of this name: none is
// given, or what has one of their names is no regular file.
void check_output(const std::string& directory, const std::string& name);

// build(), after check_output(). The manifest also says what the library's bytes are, so one that was damaged since is
// made again.
BuildResult build_files(const LibrarySpec& spec, const BuildOptions& options);

// Throws std::runtime_error where the library at `path` is not the one that the manifest is of.
void check_library(const std::string& path, const Manifest& manifest);

}  // namespace fusebn
