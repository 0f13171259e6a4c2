#include <cmath>
#include <iomanip>
#include <limits>

#include "report.h"

namespace fusebn::bench {
namespace {

bool is_row(const Row& row, const std::string& op, Layout layout, DataType dtype = DataType::f32) {
    return row.layer_case.op_name() == op && row.layer_case.layout == layout && row.layer_case.dtype() == dtype;
}

std::string peer_name(const std::string& peer, Layout layout) {
    const std::string name = peer.find("onednn3") == 0 ? "oneDNN 3 " : "oneDNN ";
    return name + (peer.find("blocked") != std::string::npos ? "blocked" : std::string(to_string(layout)));
}

// What a figure is of all the rows that a condition picks.
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

// A figure that has a bar, of every row that a condition picks.
template <class Picks, class Figure>
void hold_to(std::ostream& out, const Report& report, const std::string& name, double bar, bool at_least,
             const Picks& picks, const Figure& figure) {
    std::string lines;
    int missed = 0, count = 0;
    for (const Row& row : report.rows) {
        if (!picks(row)) continue;
        const Quartiles q = figure(row);
        const bool met = at_least ? q.median >= bar : q.median <= bar;
        const LayerCase& c = row.layer_case;
        const std::string what = c.op_name() + " " + std::string(to_string(c.dtype())) + " " + c.shape_name();
        lines += "      " + what + std::string(what.size() < 44 ? 44 - what.size() : 1, ' ') + with_quartiles(q) +
                 (met ? "\n" : "  MISSED\n");
        missed += met ? 0 : 1;
        ++count;
    }
    if (count == 0) return;
    out << "  " << name << ", bar " << (at_least ? ">= " : "<= ") << fixed(bar, 2) << ": " << count - missed << " of "
        << count << (count == 1 ? " row meets it\n" : " rows meet it\n") << lines;
}

// The shapes that comparisons with other libraries are held to: ResNet's first layer and its largest, a middling and a
// small one.
bool has_barred_shape(const LayerCase& c) {
    constexpr std::int64_t shapes[][2] = {{64, 112}, {64, 56}, {256, 56}, {256, 14}};
    for (const auto& [channels, side] : shapes) {
        if (c.C == channels && c.H == side && c.W == side) return true;
    }
    return false;
}

void print_bars(std::ostream& out, const Report& report) {
    struct PeerBar {
        Layout layout;
        const char* peer;
        double bar;
    };
    for (const auto& [layout, peer, bar] :
         {PeerBar{Layout::NCHW, "onednn-blocked", 1.0}, PeerBar{Layout::NHWC, "onednn", 1.3}}) {
        hold_to(
            out, report,
            "backward+relu " + std::string(to_string(layout)) + ", time of " + peer_name(peer, layout) + " / fusebn",
            bar, true,
            [layout = layout, peer = peer](const Row& row) {
                return is_row(row, "backward+relu", layout) && has_barred_shape(row.layer_case) &&
                       row.find(peer) != nullptr;
            },
            [peer = peer](const Row& row) { return row.ratio_to_fusebn(peer); });
    }
    for (const auto& [dtype, dtype_name] : dtype_names) {
        if (dtype == DataType::f32) continue;
        hold_to(
            out, report, "time of " + std::string(dtype_name) + " / f32", 0.6, false,
            [dtype = dtype](const Row& row) {
                return row.layer_case.dtype() == dtype && row.find("fusebn-f32") != nullptr;
            },
            [](const Row& row) { return row.share_of_f32(); });
    }
}

}  // namespace

void print_summary(std::ostream& out, const Report& report) {
    for (const std::string op : {"train_forward+relu", "backward+relu"}) {
        for (const Layout layout : {Layout::NCHW, Layout::NHWC}) {
            for (const std::string peer : {"onednn-blocked", "onednn", "onednn3-blocked", "onednn3"}) {
                summarise(
                    out, report,
                    op + " " + std::string(to_string(layout)) + ", time of " + peer_name(peer, layout) + " / fusebn:",
                    [&](const Row& row) { return is_row(row, op, layout) && row.find(peer) != nullptr; },
                    [&](const Row& row) { return row.ratio_to_fusebn(peer).median; });
            }
        }
    }
    for (const Layout layout : {Layout::NCHW, Layout::NHWC}) {
        summarise(
            out, report, "inference+relu " + std::string(to_string(layout)) + ", larger than the cache, of copy speed:",
            [&](const Row& row) { return is_row(row, "inference+relu", layout) && !row.in_cache; },
            [](const Row& row) { return row.fraction_of_copy("fusebn").median; });
    }
    for (const std::string op : {"train_forward", "backward"}) {
        for (const Layout layout : {Layout::NCHW, Layout::NHWC}) {
            const auto is_of_these = [&](const Row& row) {
                const LayerCase& c = row.layer_case;
                return to_string(c.op()) == op && c.layout == layout && c.dtype() == DataType::f32 && !row.in_cache;
            };
            const std::string these = op + " " + std::string(to_string(layout)) + ", larger than the cache, of ";
            summarise(out, report, these + "the limit:", is_of_these,
                      [](const Row& row) { return row.fraction_of_limit("fusebn"); });
            summarise(out, report, these + "the passes:", is_of_these,
                      [](const Row& row) { return row.fraction_of_passes().value_or(0); });
        }
    }
    print_bars(out, report);
    for (const Overhead& o : report.overheads) {
        out << "  a call beside its kernel, " << o.op << ", " << o.channels << " channels: " << fixed(o.ns, 0)
            << " ns\n";
    }
    if (report.build_seconds) {
        out << "  fusebn build, all kernels of the model for three instruction sets: "
            << fixed(*report.build_seconds, 1) << " s\n";
    }
}

}  // namespace fusebn::bench
