// One kernel: checked, then timed beside a copy and its peers.
#pragma once

#include <optional>
#include <string>

#include "layer_case.h"
#include "report.h"

namespace fusebn::bench {

// Buffers that every case uses again.
struct Workspace {
    Buffer x, y;
};

struct Outcome {
    std::string complaint;   // empty: the kernel's result is right
    std::string warning;     // a peer that was left out, and why
    std::optional<Row> row;  // not for a wrong result, and not for a kernel without a shape of its own
};

Outcome measure(const LayerCase& layer_case, const Machine& machine, const Budget& budget, Workspace& workspace);

}  // namespace fusebn::bench
