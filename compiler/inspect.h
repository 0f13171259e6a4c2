// Prints what a library holds, and the code of one of its kernels.
#pragma once

#include <string>

namespace fusebn {

struct InspectOptions {
    std::string library;  // lib<name>.a or its manifest <name>.json
    std::string kernel;   // "" : list all; else a name, or a part that only one name has
    std::string target;   // "" : the highest that the kernel was built for
    enum class Show { summary, statement, assembly } show = Show::summary;
    std::string processor = {};  // of the target's variants, as kernel_abi.h names it; "" : the one for any
};

// Throws std::runtime_error: what was asked for and what there is.
std::string inspect(const InspectOptions& options);

}  // namespace fusebn
