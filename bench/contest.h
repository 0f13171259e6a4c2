// One kernel: checked, then timed beside a copy and its peers.
#pragma once

#include <optional>
#include <string>

#include "measure/layer_case.h"
#include "measure/workload.h"
#include "report.h"

namespace fusebn::bench {

using namespace measure;

struct Outcome {
    std::string complaint;   // empty: the kernel's result is right
    std::string warning;     // a peer that was left out, and why
    std::optional<Row> row;  // not for a wrong result, and not for a kernel without a shape of its own
};

// A 16-bit kernel also takes turns with f32_twin() of it, in `twin_workspace`. `reader`: each call is followed by a
// reading of what it has written, as by what comes next, within the time that is taken.
Outcome contest(const LayerCase& layer_case, const Machine& machine, const Budget& budget, bool reader,
                Workspace& workspace, Workspace& twin_workspace);

}  // namespace fusebn::bench
