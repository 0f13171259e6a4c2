// What a device object's functions take, kept in the object itself: a later build that reuses the object knows it.
#include <llvm/Object/ObjectFile.h>
#include <llvm/Support/MemoryBuffer.h>
#include <llvm/Transforms/Utils/ModuleUtils.h>

#include <sstream>
#include <stdexcept>

#include "compiler/emit.h"
#include "compiler/emit_parts.h"
#include "compiler/target.h"

namespace fusebn {

namespace {

constexpr const char* section_name = ".fusebn.functions";

}  // namespace

// A line each.
void keep_functions(llvm::Module& module, const std::vector<DeviceFunction>& functions) {
    if (functions.empty()) return;
    std::ostringstream text;
    for (const DeviceFunction& f : functions) {
        text << f.name << ' ' << f.unaligned << ' ' << f.registers << ' ' << f.shared_bytes << ' '
             << f.dynamic_shared_bytes << ' ' << f.stack_bytes << ' ' << f.spill_bytes << ' ' << f.threads << '\n';
    }
    const std::string bytes = text.str();
    llvm::embedBufferInModule(module, llvm::MemoryBufferRef(bytes, section_name), section_name);
}

std::vector<DeviceFunction> device_functions(const std::string& object) {
    auto file = llvm::object::ObjectFile::createObjectFile(llvm::MemoryBufferRef(object, section_name));
    if (!file) fail(section_name, file.takeError());
    std::vector<DeviceFunction> all;
    for (const llvm::object::SectionRef& section : (*file)->sections()) {
        auto name = section.getName();
        if (!name) fail(section_name, name.takeError());
        if (*name != section_name) continue;
        auto contents = section.getContents();
        if (!contents) fail(section_name, contents.takeError());
        std::istringstream lines(contents->str());
        for (std::string line; std::getline(lines, line);) {
            std::istringstream words(line);
            DeviceFunction f;
            words >> f.name >> f.unaligned >> f.registers >> f.shared_bytes >> f.dynamic_shared_bytes >>
                f.stack_bytes >> f.spill_bytes >> f.threads;
            if (!words) throw std::runtime_error(std::string(section_name) + ": not understood: " + line);
            all.push_back(f);
        }
    }
    return all;
}

}  // namespace fusebn
