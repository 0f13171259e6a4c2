#include "report.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <tuple>

namespace fusebn::bench {
namespace {

std::string fixed(double value, int digits) {
    std::ostringstream out;
    out << std::fixed << std::setprecision(digits) << value;
    return out.str();
}

std::string with_quartiles(const Quartiles& q) {
    return fixed(q.median, 2) + " (" + fixed(q.low, 2) + "-" + fixed(q.high, 2) + ")";
}

using Cells = std::vector<std::string>;

void print_cells(std::ostream& out, const std::vector<Cells>& lines, bool markdown) {
    std::vector<std::size_t> widths(lines[0].size());
    for (const Cells& line : lines) {
        for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
    }
    constexpr std::size_t words = 3;  // columns of words are left-aligned, columns of numbers right-aligned
    for (std::size_t row = 0; row < lines.size(); ++row) {
        std::string text;
        for (std::size_t i = 0; i < widths.size(); ++i) {
            const std::string padding(widths[i] - lines[row][i].size(), ' ');
            text += markdown ? "| " : i > 0 ? "  " : "";
            text += i < words ? lines[row][i] + padding : padding + lines[row][i];
            if (markdown) text += ' ';
        }
        out << text << (markdown ? "|\n" : "\n");
        if (markdown && row == 0) {
            for (std::size_t i = 0; i < widths.size(); ++i) {
                out << '|' << std::string(widths[i] + 1, '-') << (i < words ? '-' : ':');
            }
            out << "|\n";
        }
    }
}

// One line of the summary: what a figure is of all the rows that a condition picks.
template <class Picks, class Figure>
void summarise(std::ostream& out, const Report& report, const std::string& name, const Picks& picks,
               const Figure& figure) {
    double log_sum = 0, lowest = std::numeric_limits<double>::infinity();
    int count = 0;
    std::string lowest_shape;
    for (const Row& row : report.rows) {
        if (!picks(row)) continue;
        const double value = figure(row);
        log_sum += std::log(value);
        ++count;
        if (value < lowest) {
            lowest = value;
            lowest_shape = row.layer_case.shape_name();
        }
    }
    if (count == 0) return;
    out << "  " << std::left << std::setw(64) << name << std::right << " geometric mean "
        << fixed(std::exp(log_sum / count), 2) << ", lowest " << fixed(lowest, 2) << " (" << lowest_shape << "), "
        << count << (count == 1 ? " row\n" : " rows\n");
}

}  // namespace

const Samples* Row::find(const std::string& contender) const {
    for (const Samples& s : samples) {
        if (s.name == contender) return &s;
    }
    return nullptr;
}

double Row::median_ms(const std::string& contender) const { return quartiles(find(contender)->ms).median; }

double Row::gbps(const std::string& contender) const {
    return 1e-6 * static_cast<double>(layer_case.bytes()) / median_ms(contender);
}

Quartiles Row::fraction_of_copy(const std::string& contender) const {
    return paired_ratio(*find("copy"), *find(contender));
}

Quartiles Row::ratio_to_fusebn(const std::string& contender) const {
    return paired_ratio(*find(contender), *find("fusebn"));
}

void sort(std::vector<Row>& rows) {
    const auto key = [](const Row& row) {
        const LayerCase& c = row.layer_case;
        return std::tuple(c.op(), -static_cast<int>(c.activation()), c.layout, -c.elements(), c.C);
    };
    std::sort(rows.begin(), rows.end(), [&](const Row& a, const Row& b) { return key(a) < key(b); });
}

void print_machine(std::ostream& out, const Report& report) {
    out << "machine: " << to_string(report.machine) << "\n"
        << "kernels: " << report.generator << "\n"
        << "oneDNN:  " << (report.onednn.empty() ? "missing; built without it" : report.onednn) << "\n"
        << "GB/s counts x read once and y written once. Copy: streaming stores where x and y exceed the L3 cache, "
           "plain\n"
        << "ones (*) where they fit. A peer's ratio is its time over fusebn's, the median of pairs (quartiles): above "
           "1,\n"
        << "fusebn is faster. Error: the largest of y, as a share of the bound that the checks derive.\n\n";
}

void print_table(std::ostream& out, const Report& report, bool markdown) {
    if (report.rows.empty()) return;
    std::vector<Cells> lines = {{"operation", "layout", "shape", "ms", "GB/s", "of copy", "oneDNN ms", "ratio",
                                 "blocked ms", "ratio", "error"}};
    for (const Row& row : report.rows) {
        const LayerCase& c = row.layer_case;
        Cells cells = {c.op_name(),
                       std::string(to_string(c.layout)),
                       c.shape_name(),
                       fixed(row.median_ms("fusebn"), 3),
                       fixed(row.gbps("fusebn"), 1),
                       fixed(row.fraction_of_copy("fusebn").median, 2) + (row.in_cache ? "*" : " ")};
        for (const char* peer : {"onednn", "onednn-blocked"}) {
            const bool there = row.find(peer) != nullptr;
            cells.push_back(there ? fixed(row.median_ms(peer), 3) : "-");
            cells.push_back(there ? with_quartiles(row.ratio_to_fusebn(peer)) : "-");
        }
        cells.push_back(fixed(row.error, 2));
        lines.push_back(std::move(cells));
    }
    print_cells(out, lines, markdown);
    out << "\n";
}

void print_summary(std::ostream& out, const Report& report) {
    for (const Layout layout : {Layout::NCHW, Layout::NHWC}) {
        for (const char* peer : {"onednn-blocked", "onednn"}) {
            const std::string layout_name(to_string(layout));
            const std::string peer_name = peer == std::string("onednn") ? "oneDNN " + layout_name : "oneDNN blocked";
            summarise(
                out, report, "train_forward+relu " + layout_name + ", time of " + peer_name + " / fusebn:",
                [&](const Row& row) {
                    return row.layer_case.op_name() == "train_forward+relu" && row.layer_case.layout == layout &&
                           row.find(peer) != nullptr;
                },
                [&](const Row& row) { return row.ratio_to_fusebn(peer).median; });
        }
    }
    for (const Layout layout : {Layout::NCHW, Layout::NHWC}) {
        summarise(
            out, report, "inference+relu " + std::string(to_string(layout)) + ", larger than the cache, of copy speed:",
            [&](const Row& row) {
                return row.layer_case.op_name() == "inference+relu" && row.layer_case.layout == layout && !row.in_cache;
            },
            [](const Row& row) { return row.fraction_of_copy("fusebn").median; });
    }
    for (const Overhead& o : report.overheads) {
        out << "  a call beside its kernel, " << o.op << ", " << o.channels << " channels: " << fixed(o.ns, 0)
            << " ns\n";
    }
    if (report.build_seconds) {
        out << "  fusebn build, all kernels of the model for three instruction sets: "
            << fixed(*report.build_seconds, 1) << " s\n";
    }
}

bool write_json(const std::string& path, const Report& report) {
    using nlohmann::ordered_json;
    const std::filesystem::path folder = std::filesystem::path(path).parent_path();
    std::error_code error;  // where the folder cannot be made, the file cannot be opened
    if (!folder.empty()) std::filesystem::create_directories(folder, error);
    std::ofstream out(path);
    const Machine& m = report.machine;
    ordered_json machine = {{"cpu", m.cpu},
                            {"isa", m.isa},
                            {"threads", m.threads},
                            {"cache_bytes", {{"l1", m.l1}, {"l2", m.l2}, {"l3", m.l3}}},
                            {"onednn", report.onednn},
                            {"generator", report.generator}};
    if (report.build_seconds) machine["build_seconds"] = *report.build_seconds;
    for (const Overhead& o : report.overheads) {
        machine["overhead_ns"].push_back({{"op", o.op}, {"channels", o.channels}, {"ns", o.ns}});
    }
    out << ordered_json{{"machine", machine}}.dump() << "\n";
    for (const Row& row : report.rows) {
        const LayerCase& c = row.layer_case;
        ordered_json shape = ordered_json::array();
        for (int axis = 0; axis < c.extents().rank(); ++axis) shape.push_back(c.extents()[axis]);
        for (const Samples& s : row.samples) {
            out << ordered_json{{"op", c.op_name()},
                                {"layout", to_string(c.layout)},
                                {"dtype", to_string(static_cast<DataType>(c.kernel->dtype))},
                                {"shape", shape},
                                {"contender", s.name},
                                {"median_ms", row.median_ms(s.name)},
                                {"gbps", row.gbps(s.name)},
                                {"fraction_of_copy", row.fraction_of_copy(s.name).median},
                                {"ratio_to_fusebn", row.ratio_to_fusebn(s.name).median}}
                       .dump()
                << "\n";
        }
    }
    return static_cast<bool>(out.flush());
}

}  // namespace fusebn::bench
