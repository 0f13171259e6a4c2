#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "report.h"

namespace fusebn::bench {

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
                            {"cache_bytes", {{"l1", m.l1}, {"l2", m.l2}, {"l3", m.l3}, {"l3_usable", m.l3_usable}}},
                            {"onednn", report.onednn},
                            {"generator", report.generator}};
    if (!report.onednn3.empty()) machine["onednn3"] = report.onednn3;
    if (report.reader) machine["reader"] = true;
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
            const Quartiles ms = quartiles(s.ms), ratio = row.ratio_to_fusebn(s.name);
            ordered_json line = {{"op", c.op_name()},
                                 {"layout", to_string(c.layout)},
                                 {"dtype", to_string(c.dtype())},
                                 {"shape", shape},
                                 {"contender", s.name},
                                 {"median_ms", ms.median},
                                 {"quartiles_ms", {ms.low, ms.high}}};
            if (s.name != "fusebn-f32" && s.name != "read") {
                line["gbps"] = row.gbps(s.name);
                line["fraction_of_copy"] = row.fraction_of_copy(s.name).median;
                line["fraction_of_limit"] = row.fraction_of_limit(s.name);
            }
            line["ratio_to_fusebn"] = ratio.median;
            line["ratio_quartiles"] = {ratio.low, ratio.high};
            const fusebn_kernel& k = *c.kernel;
            line["kernel"] = k.name;
            line["extents"] = {k.extents[0], k.extents[1], k.extents[2]};
            line["floor_bytes"] = c.floor_bytes();
            line["limit_bytes"] = row.limit_bytes;
            line["in_cache"] = row.in_cache;
            line["copy_stores"] = row.copy == Copy::plain ? "plain" : "streaming";
            out << line.dump() << "\n";
        }
    }
    return static_cast<bool>(out.flush());
}

}  // namespace fusebn::bench
