#include "report.h"

#include <algorithm>
#include <iomanip>
#include <sstream>
#include <tuple>

namespace fusebn::bench {

void print_cells(std::ostream& out, const std::vector<Cells>& lines, bool markdown) {
    std::vector<std::size_t> widths(lines[0].size());
    for (const Cells& line : lines) {
        for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
    }
    constexpr std::size_t words = 4;  // columns of words are left-aligned, columns of numbers right-aligned
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

std::string fixed(double value, int digits) {
    std::ostringstream out;
    out << std::fixed << std::setprecision(digits) << value;
    return out.str();
}

std::string with_quartiles(const Quartiles& q) {
    return fixed(q.median, 2) + " (" + fixed(q.low, 2) + "-" + fixed(q.high, 2) + ")";
}

const Samples* Row::find(const std::string& contender) const {
    for (const Samples& s : samples) {
        if (s.name == contender) return &s;
    }
    return nullptr;
}

double Row::median_ms(const std::string& contender) const { return quartiles(find(contender)->ms).median; }

double Row::gbps(const std::string& contender) const {
    return 1e-6 * static_cast<double>(layer_case.floor_bytes()) / median_ms(contender);
}

Quartiles Row::fraction_of_copy(const std::string& contender) const {
    return paired_ratio(*find("copy"), *find(contender));
}

double Row::fraction_of_limit(const std::string& contender) const {
    Samples limit = *find("copy");
    if (const Samples* read = find("read")) {
        for (std::size_t i = 0; i < limit.ms.size(); ++i) limit.ms[i] += read->ms[i];
    }
    return paired_ratio(limit, *find(contender)).median;
}

std::optional<double> Row::fraction_of_passes() const {
    const Samples* passes = find("passes");
    if (passes == nullptr) return std::nullopt;
    return paired_ratio(*passes, *find("fusebn")).median;
}

Quartiles Row::ratio_to_fusebn(const std::string& contender) const {
    return paired_ratio(*find(contender), *find("fusebn"));
}

Quartiles Row::share_of_f32() const { return paired_ratio(*find("fusebn"), *find("fusebn-f32")); }

void sort(std::vector<Row>& rows) {
    const auto key = [](const Row& row) {
        const LayerCase& c = row.layer_case;
        return std::tuple(c.op(), c.residual(), -static_cast<int>(c.activation()), c.dtype(), c.layout, -c.elements(),
                          c.C);
    };
    std::sort(rows.begin(), rows.end(), [&](const Row& a, const Row& b) { return key(a) < key(b); });
}

void print_machine(std::ostream& out, const Report& report) {
    out << "machine: " << to_string(report.machine) << "\n"
        << "kernels: " << report.generator << "\n"
        << "oneDNN:  " << (report.onednn.empty() ? "missing; built without it" : report.onednn)
        << (report.onednn3.empty() ? "" : ", and " + report.onednn3) << "\n"
        << "GB/s counts each tensor once: what a forward call reads and y; x, dy and dx; a residual's or a second "
           "branch's;\n"
        << "masks as bits. Copy: of as many bytes, the faster of one with streaming stores and one with plain ones "
           "(*).\n"
        << "Passes: loops that read for the sums, then read and write as the kernel must, and compute nothing, with "
           "the\n"
        << "faster stores of the two but no prefetches, by which a kernel may be faster. A peer's ratio is its time "
           "over\n"
        << "fusebn's, the median of pairs (quartiles): above 1, fusebn is faster. Of f32: a 16-bit kernel's time over "
           "the f32\n"
        << "kernel's. Error: the largest of y or dx, as a share of the bound that the checks derive.\n"
        << (report.reader ? "Each call, a copy too, is followed by a reading of what it has written, within its time.\n"
                          : "")
        << "\n";
}

void print_table(std::ostream& out, const Report& report, bool markdown) {
    if (report.rows.empty()) return;
    struct PeerColumns {
        const char *peer, *heading;
    };
    std::vector<PeerColumns> peers = {{"onednn", "oneDNN ms"}, {"onednn-blocked", "blocked ms"}};
    if (!report.onednn3.empty()) {
        peers.push_back({"onednn3", "oneDNN 3 ms"});
        peers.push_back({"onednn3-blocked", "blocked ms"});
    }
    Cells headings = {"operation", "type", "layout", "shape", "ms", "GB/s", "of copy", "of passes"};
    for (const PeerColumns& p : peers) headings.insert(headings.end(), {p.heading, "ratio"});
    headings.insert(headings.end(), {"of f32", "error"});
    std::vector<Cells> lines = {std::move(headings)};
    for (const Row& row : report.rows) {
        const LayerCase& c = row.layer_case;
        Cells cells = {c.op_name(),
                       std::string(to_string(c.dtype())),
                       std::string(to_string(c.layout)),
                       c.shape_name(),
                       fixed(row.median_ms("fusebn"), 3),
                       fixed(row.gbps("fusebn"), 1),
                       fixed(row.fraction_of_copy("fusebn").median, 2) + (row.copy == Copy::plain ? "*" : " "),
                       row.fraction_of_passes() ? fixed(*row.fraction_of_passes(), 2) : "-"};
        for (const auto& [peer, heading] : peers) {
            const bool there = row.find(peer) != nullptr;
            cells.push_back(there ? fixed(row.median_ms(peer), 3) : "-");
            cells.push_back(there ? with_quartiles(row.ratio_to_fusebn(peer)) : "-");
        }
        cells.push_back(row.find("fusebn-f32") != nullptr ? with_quartiles(row.share_of_f32()) : "-");
        cells.push_back(fixed(row.error, 2));
        lines.push_back(std::move(cells));
    }
    print_cells(out, lines, markdown);
    out << "\n";
}

}  // namespace fusebn::bench
