#include "measure/machine.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "fusebn/parallel.h"
#include "measure/usable_cache.h"

namespace fusebn::measure {
namespace {

// The value of the first line of /proc/cpuinfo that has this name, or "".
std::string cpu_info(const std::string& name) {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);) {
        const std::size_t end = line.find_first_of("\t:");
        const std::size_t colon = line.find(": ");
        if (line.substr(0, end) == name && colon != std::string::npos) return line.substr(colon + 2);
    }
    return "";
}

// A name such as "AMD EPYC" is that of many processors.
std::string cpu_name() {
    const std::string name = cpu_info("model name");
    const std::string family = cpu_info("cpu family"), model = cpu_info("model");
    return (name.empty() ? "unknown CPU" : name) +
           (family.empty() ? "" : " (family " + family + ", model " + model + ")");
}

// Bytes of cpu0's data (or common) cache of a level. Two sources, of which a virtual machine may have one that names
// the sum over a whole server: the smaller one is what this machine has.
std::int64_t cache(int level, int sysconf_name, std::int64_t otherwise) {
    std::int64_t smallest = std::max<std::int64_t>(sysconf(sysconf_name), 0);
    for (int index = 0; index < 8; ++index) {
        const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
        int its_level = 0;
        std::string type;
        std::int64_t kilobytes = 0;  // "32768K"
        if (!(std::ifstream(folder + "level") >> its_level) || its_level != level) continue;
        if (!(std::ifstream(folder + "type") >> type) || type == "Instruction") continue;
        if (!(std::ifstream(folder + "size") >> kilobytes) || kilobytes <= 0) continue;
        const std::int64_t bytes = kilobytes << 10;
        smallest = smallest > 0 ? std::min(smallest, bytes) : bytes;
    }
    return smallest > 0 ? smallest : otherwise;
}

}  // namespace

Machine this_machine() {
    Machine m;
    m.cpu = cpu_name();
    m.isa = fusebn::to_string(instruction_set());
    m.l1 = cache(1, _SC_LEVEL1_DCACHE_SIZE, 32 << 10);
    m.l2 = cache(2, _SC_LEVEL2_CACHE_SIZE, 1 << 20);
    m.l3 = cache(3, _SC_LEVEL3_CACHE_SIZE, 32 << 20);
    m.threads = num_threads();
    return m;
}

void measure_caches(Machine& m) { m.l3_usable = usable_l3(m); }

std::string caches_text(const Machine& m) {
    return "L1 " + std::to_string(m.l1 >> 10) + " KB, L2 " + std::to_string(m.l2 >> 10) + " KB, L3 " +
           std::to_string(m.l3 >> 20) + " MB";
}

std::string to_string(const Machine& m) {
    return m.cpu + ", " + m.isa + ", " + std::to_string(m.threads) + (m.threads == 1 ? " thread" : " threads") + ", " +
           caches_text(m) +
           (m.l3_usable > 0 && m.l3_usable < m.l3 ? ", of which " + std::to_string(m.l3_usable >> 20) + " MB are usable"
                                                  : "");
}

}  // namespace fusebn::measure
