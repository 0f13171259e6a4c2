// The rows, as a table, as JSON lines, and as the few figures that matter.
#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "layer_case.h"
#include "machine.h"
#include "overhead.h"
#include "timing.h"

namespace fusebn::bench {

// One kernel, measured.
struct Row {
    LayerCase layer_case;
    double error;                  // largest error of y as a share of its bound
    bool in_cache;                 // x and y together fit in the last-level cache: "copy" is then the plain one
    std::vector<Samples> samples;  // fusebn, copy, then the peers

    const Samples* find(const std::string& contender) const;
    double median_ms(const std::string& contender) const;
    double gbps(const std::string& contender) const;
    // The copy's time over the contender's.
    Quartiles fraction_of_copy(const std::string& contender) const;
    // The contender's time over fusebn's: above 1, fusebn is faster.
    Quartiles ratio_to_fusebn(const std::string& contender) const;
};

struct Report {
    Machine machine;
    std::string onednn;     // version, "" where it is missing
    std::string generator;  // of the kernels
    std::optional<double> build_seconds;
    std::vector<Overhead> overheads;
    std::vector<Row> rows;
};

// By operation, layout and size, largest first.
void sort(std::vector<Row>& rows);

void print_machine(std::ostream& out, const Report& report);
void print_table(std::ostream& out, const Report& report, bool markdown);
void print_summary(std::ostream& out, const Report& report);

// A line for the machine, then a line for every row and contender:
//   {"op","layout","dtype","shape","contender","median_ms","gbps","fraction_of_copy","ratio_to_fusebn"}
// shape is in the layout's order. "op" is "train_forward+relu" where a ReLU is fused. False where `path` cannot be
// written.
bool write_json(const std::string& path, const Report& report);

}  // namespace fusebn::bench
