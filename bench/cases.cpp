#include "cases.h"

#include <bench_shapes.h>
#include <dlfcn.h>
#include <resnet50_bn.h>
#include <resnet50_bn_nhwc.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string_view>

namespace fusebn::bench {
namespace {

std::vector<const fusebn_kernel_table*>& tables() {
    static std::vector<const fusebn_kernel_table*> all = {&resnet50_bn::kernels(), &resnet50_bn_nhwc::kernels(),
                                                          &bench_shapes::kernels()};
    return all;
}

}  // namespace

void use_library(const std::string& path) {
    const std::string file = std::filesystem::absolute(path);  // with a slash: no search
    void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) throw std::runtime_error(dlerror());
    std::string name = std::filesystem::path(file).stem();
    if (name.rfind("lib", 0) == 0) name = name.substr(3);
    const void* const table = dlsym(library, (name + "_kernel_table").c_str());
    if (table == nullptr) throw std::runtime_error(path + " has no " + name + "_kernel_table");
    tables() = {static_cast<const fusebn_kernel_table*>(table)};
}

std::vector<LayerCase> chosen_cases(const std::string& words) {
    std::vector<std::string> wanted;
    std::istringstream stream(words);
    for (std::string word; std::getline(stream, word, ',');) wanted.push_back(word);
    const auto is_wanted = [&](const std::string& name) {
        return words == "all" || std::any_of(wanted.begin(), wanted.end(), [&](const std::string& word) {
                   return name.find(word) != std::string::npos;
               });
    };
    std::vector<LayerCase> cases;
    std::set<std::string> names;
    for (const bool fixed : {true, false}) {
        for (const fusebn_kernel_table* table : tables()) {
            for (int i = 0; i < table->kernel_count; ++i) {
                const LayerCase c = case_of(*table, table->kernels[i]);
                const std::string name = c.kernel->name;
                if (c.fixed == fixed && is_wanted(name) && names.insert(name).second) cases.push_back(c);
            }
        }
    }
    return cases;
}

std::optional<LayerCase> f32_twin(const LayerCase& c) {
    if (!c.fixed || c.dtype() == DataType::f32) return std::nullopt;
    const fusebn_kernel& k = *c.kernel;
    for (const fusebn_kernel_table* table : tables()) {
        for (int i = 0; i < table->kernel_count; ++i) {
            const fusebn_kernel& f32 = table->kernels[i];
            if (f32.dtype == FUSEBN_DTYPE_F32 && f32.op == k.op && f32.view == k.view && f32.residual == k.residual &&
                f32.activation == k.activation && std::equal(k.extents, k.extents + 3, f32.extents)) {
                return case_of(*table, f32);
            }
        }
    }
    return std::nullopt;
}

}  // namespace fusebn::bench
