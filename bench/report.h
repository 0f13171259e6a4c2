// The rows, as a table, as JSON lines, and as the few figures that matter.
#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "measure/copy.h"
#include "measure/layer_case.h"
#include "measure/machine.h"
#include "measure/timing.h"
#include "overhead.h"

namespace fusebn::bench {

using namespace measure;

// One kernel, measured.
struct Row {
    LayerCase layer_case;
    double error;                  // largest error of y or dx as a share of its bound
    std::int64_t limit_bytes;      // LayerCase::limit_bytes() of this machine
    bool in_cache;                 // the tensors fit in what is usable of the last-level cache
    Copy copy;                     // the faster of the two, which "copy" is
    std::vector<Samples> samples;  // fusebn, copy, read, passes, of a 16-bit kernel fusebn-f32, then the peers

    const Samples* find(const std::string& contender) const;
    double median_ms(const std::string& contender) const;
    double gbps(const std::string& contender) const;
    // The copy's time over the contender's.
    Quartiles fraction_of_copy(const std::string& contender) const;
    // The limit's time over the contender's: of the copy, and of "read" where something must be read again.
    double fraction_of_limit(const std::string& contender) const;
    // Of training and backward: the time of "passes" over fusebn's.
    std::optional<double> fraction_of_passes() const;
    // The contender's time over fusebn's: above 1, fusebn is faster.
    Quartiles ratio_to_fusebn(const std::string& contender) const;
    // fusebn's time over that of the same in f32.
    Quartiles share_of_f32() const;
};

struct Report {
    Machine machine;
    std::string onednn;     // version, "" where it is missing
    std::string onednn3;    // of a second one, "" where none was asked for
    std::string generator;  // of the kernels
    std::optional<double> build_seconds;
    bool reader = false;  // each call is followed by a reading of its results
    std::vector<Overhead> overheads;
    std::vector<Row> rows;
};

// By operation, type, layout and size, largest first.
void sort(std::vector<Row>& rows);

// "1.22 (1.19-1.25)": the median and the quartiles. And a number with so many digits.
std::string with_quartiles(const Quartiles& q);
std::string fixed(double value, int digits);

// Lines of one length, the first of headings; the first four columns are words.
using Cells = std::vector<std::string>;
void print_cells(std::ostream& out, const std::vector<Cells>& lines, bool markdown);

void print_machine(std::ostream& out, const Report& report);
void print_table(std::ostream& out, const Report& report, bool markdown);

// What the rows come to, and each figure that has a bar with that bar (summary.cpp).
void print_summary(std::ostream& out, const Report& report);

// A line for the machine, then a line for every row and contender (json.cpp):
//   {"op","layout","dtype","shape","contender","median_ms","quartiles_ms","gbps","fraction_of_copy",
//    "fraction_of_limit","ratio_to_fusebn","ratio_quartiles","kernel","extents","floor_bytes","limit_bytes","in_cache",
//    "copy_stores"}
// shape is in the layout's order, extents are the view's; ratios are medians over pairs of turns. "op" is
// "train_forward+add+relu" where an addition and a ReLU are fused. "fusebn-f32" and "read", which move other bytes,
// have no gbps and no fraction of anything. False where `path` cannot be written.
bool write_json(const std::string& path, const Report& report);

}  // namespace fusebn::bench
