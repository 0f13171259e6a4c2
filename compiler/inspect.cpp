#include "compiler/inspect.h"

#include <filesystem>
#include <iomanip>
#include <set>
#include <sstream>
#include <stdexcept>

#include "compiler/build.h"
#include "compiler/device_report.h"
#include "compiler/emit.h"
#include "compiler/files.h"
#include "compiler/library_files.h"
#include "compiler/lower.h"
#include "compiler/variant.h"

namespace fusebn {

namespace {

namespace fs = std::filesystem;

// "lib/libresnet50_bn.a" -> "lib/resnet50_bn.json"
std::string manifest_path(const std::string& library) {
    const fs::path path = library;
    const std::string stem = path.stem();
    if (path.extension() == ".json") return library;
    if (path.extension() == ".a" && stem.rfind("lib", 0) == 0) return path.parent_path() / (stem.substr(3) + ".json");
    throw std::runtime_error(library + ": expected a library lib<name>.a, with its manifest beside it, or <name>.json");
}

const ManifestKernel& find_kernel(const Manifest& m, const std::string& name) {
    const ManifestKernel* found = nullptr;
    std::string matches;
    for (const ManifestKernel& k : m.kernels) {
        const std::string full = kernel_name(k.kernel);
        if (full == name) return k;
        if (full.find(name) == std::string::npos) continue;
        found = matches.empty() ? &k : nullptr;
        matches += "\n  " + full;
    }
    if (found) return *found;
    if (matches.empty()) {
        throw std::runtime_error("--kernel: no kernel of " + m.name + " is called \"" + name +
                                 "\"; `fusebn inspect` without --kernel lists them");
    }
    throw std::runtime_error("--kernel: \"" + name + "\" is part of several names; say which:" + matches);
}

// The variant that a layer takes on `processor`; "" has the one for any.
const ManifestVariant& find_variant(const ManifestKernel& k, const std::string& wanted, const std::string& processor) {
    const std::string target(wanted.empty() ? to_string(k.variants.back().isa) : wanted);
    const ManifestVariant* found = nullptr;
    std::string targets;
    for (const ManifestVariant& v : k.variants) {
        if (v.processor.empty()) targets += (targets.empty() ? "" : ", ") + std::string(to_string(v.isa));
        if (to_string(v.isa) != target || !is_for_processor(v.processor, processor)) continue;
        if (found == nullptr || v.processor.size() > found->processor.size()) found = &v;
    }
    if (found != nullptr) return *found;
    throw std::runtime_error("--target: found \"" + target + "\"; " + kernel_name(k.kernel) +
                             " was built for: " + targets);
}

// Without a kernel there is nothing that a target could be of, but a wrong one is said.
void check_target(const Manifest& m, const std::string& target) {
    parse_targets({target}, "--target");
    std::set<InstructionSet> built;
    for (const ManifestKernel& k : m.kernels) {
        for (const ManifestVariant& v : k.variants) built.insert(v.isa);
    }
    std::string there;
    for (const InstructionSet isa : built) {
        if (to_string(isa) == target) return;
        there += (there.empty() ? "" : ", ") + std::string(to_string(isa));
    }
    throw std::runtime_error("--target: found \"" + target + "\"; " + m.name + " was built for: " + there);
}

void list(std::ostream& out, const ManifestKernel& k) {
    out << kernel_name(k.kernel) << (k.large ? "  (64-bit offsets)" : "") << "\n";
    for (const ManifestVariant& v : k.variants) {
        out << "    " << std::left << std::setw(14) << to_string(v.isa) << std::right << std::setw(7) << v.object_bytes
            << " bytes  " << std::left << std::setw(8) << v.origin << to_text(v.schedule)
            << (v.processor.empty() ? "" : "  on " + v.processor) << "\n";
        for (const DeviceFunction& f : v.functions) out << "        " << to_text(f) << "\n";
    }
}

}  // namespace

std::string inspect(const InspectOptions& options) {
    const std::string path = manifest_path(options.library);
    Manifest m;
    try {
        m = manifest_from_json(read_file(path, max_text_bytes));
    } catch (const std::exception& e) {
        throw std::runtime_error(path + ": not a manifest of fusebn: " + e.what());
    }
    if (path != options.library) check_library(options.library, m);
    if (!options.target.empty()) check_target(m, options.target);
    if (options.show == InspectOptions::Show::summary && !options.processor.empty()) {
        throw std::runtime_error("--processor chooses the variant that --stmt and --asm show: say which of them");
    }
    std::ostringstream out;
    if (options.kernel.empty()) {
        if (options.show != InspectOptions::Show::summary) {
            throw std::runtime_error("--stmt and --asm show one kernel: name it with --kernel");
        }
        out << m.name << ": " << m.kernels.size() << " kernels, " << m.library_bytes << " bytes, by " << m.generator
            << "\ncache model: L1 " << m.caches.l1 / 1024 << " KB, L2 " << m.caches.l2 / 1024 << " KB, L3 "
            << m.caches.l3 / 1024 << " KB\n"
            << (m.ptxas.empty() ? "" : "CUDA kernels assembled by ptxas " + m.ptxas + "\n") << "\n";
        for (const ManifestKernel& k : m.kernels) list(out, k);
        return out.str();
    }
    const ManifestKernel& k = find_kernel(m, options.kernel);
    const ManifestVariant& v = find_variant(k, options.target, options.processor);
    if (options.show == InspectOptions::Show::summary) {
        list(out, k);
        return out.str();
    }
    // The code is made again from the manifest's row, by the very functions that built the library.
    if (m.generator != generator_version()) {
        throw std::runtime_error(m.name + " was built by " + m.generator + "; this is " + generator_version() +
                                 ": build it again to see its code");
    }
    // A file that somebody edited.
    try {
        check_legal(v.schedule, k.kernel);
    } catch (const ScheduleError& e) {
        throw std::runtime_error(path + ": not a manifest of fusebn: " + e.what());
    }
    if (options.show == InspectOptions::Show::statement) {
        return lowered_statement(k.kernel, v.schedule, v.isa, k.large);
    }
    // Of a device what its own compiler is given.
    if (is_device(v.isa)) return device_text(lower(k.kernel, v.schedule, v.isa, k.large), v.isa, v.symbol);
    return emit_kernel(lower(k.kernel, v.schedule, v.isa, k.large), v.isa, v.symbol, Emit::assembly).assembly;
}

}  // namespace fusebn
