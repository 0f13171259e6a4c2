#include "compiler/device_report.h"

#include <algorithm>
#include <iomanip>
#include <sstream>
#include <stdexcept>
#include <tuple>

namespace fusebn {

namespace {

std::string number(int n) { return n == DeviceFunction::any ? "any" : std::to_string(n); }

std::string numbers(const DeviceFunction& f) {
    std::ostringstream out;
    out << std::setw(3) << f.registers << " registers " << std::setw(5) << f.shared_bytes << " + " << std::left
        << std::setw(6) << number(f.dynamic_shared_bytes) << std::right << " bytes shared " << std::setw(4)
        << f.spill_bytes << " spilled " << std::setw(4) << number(f.threads) << " threads";
    return out.str();
}

std::string called(const DeviceFunction& f) { return f.name + (f.unaligned ? " (unaligned)" : ""); }

const DeviceFunction& worst(const std::vector<DeviceFunction>& functions) {
    const auto rank = [](const DeviceFunction& f) { return std::tuple(f.spill_bytes, !f.unaligned, f.registers); };
    return *std::max_element(functions.begin(), functions.end(),
                             [&](const DeviceFunction& a, const DeviceFunction& b) { return rank(a) < rank(b); });
}

}  // namespace

std::string to_text(const DeviceFunction& f) { return numbers(f) + "  " + called(f); }

void report_functions(std::ostream& out, const Manifest& m, bool all) {
    if (m.ptxas.empty()) return;
    out << "assembled by ptxas " << m.ptxas << "; "
        << (all ? "every device function" : "the worst function of each kernel (--verbose: all)") << ":\n";
    for (const ManifestKernel& k : m.kernels) {
        for (const ManifestVariant& v : k.variants) {
            if (v.functions.empty()) continue;
            const std::string kernel = kernel_name(k.kernel) + " " + std::string(to_string(v.isa));
            if (!all) {
                const DeviceFunction& f = worst(v.functions);
                out << "  " << numbers(f) << "  " << kernel << ' ' << called(f) << "\n";
                continue;
            }
            out << kernel << "\n";
            for (const DeviceFunction& f : v.functions) out << "  " << to_text(f) << "\n";
        }
    }
}

void refuse_spills(const Manifest& m) {
    std::string spilling;
    int count = 0;
    for (const ManifestKernel& k : m.kernels) {
        for (const ManifestVariant& v : k.variants) {
            for (const DeviceFunction& f : v.functions) {
                if (f.spill_bytes == 0 || ++count > 10) continue;
                spilling += "\n  " + kernel_name(k.kernel) + " " + std::string(to_string(v.isa)) + " " + called(f) +
                            ": " + std::to_string(f.spill_bytes) + " bytes with " + to_text(v.schedule);
            }
        }
    }
    if (count == 0) return;
    if (count > 10) spilling += "\n  and " + std::to_string(count - 10) + " more";
    throw std::runtime_error(
        "these functions spill registers to memory; give their kernels a schedule with a smaller vector, unroll or "
        "threads, or take them as they are with --allow-spills:" +
        spilling);
}

}  // namespace fusebn
