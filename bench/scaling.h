// What threads are worth: a kernel on one thread and on all of them, and called by two of the program's threads at
// once.
#pragma once

#include <ostream>
#include <vector>

#include "measure/layer_case.h"
#include "measure/machine.h"
#include "measure/timing.h"
#include "measure/workload.h"

namespace fusebn::bench {

using namespace measure;

struct Scaling {
    LayerCase layer_case;
    Samples one, all;          // the calls of one thread, with one thread and with all to share the work
    Samples in_turn, at_once;  // as many calls of two layers: by one thread, or each layer's by a thread of its own
};

// Two layers of the case, `threads` threads for all but `one`. Throws where a call is refused.
Scaling measure_scaling(const LayerCase& layer_case, int threads, const Budget& budget, Workspace& workspace,
                        Workspace& other_workspace);

void print_scaling(std::ostream& out, const std::vector<Scaling>& all, const Machine& machine, bool markdown);

}  // namespace fusebn::bench
