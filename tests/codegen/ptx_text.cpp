#include "codegen/ptx_text.h"

#include <regex>
#include <sstream>
#include <stdexcept>

namespace codegen {

namespace {

struct Instruction {
    std::string name, operands;
};

std::vector<std::string> registers(const std::string& operands) {
    static const std::regex one(R"(%[a-z]+\d+)");
    return {std::sregex_token_iterator(operands.begin(), operands.end(), one), std::sregex_token_iterator()};
}

// The pointers that each register is made from. Loops carry pointers on, so until nothing is added.
std::map<std::string, std::set<std::string>> origins(const std::vector<Instruction>& body,
                                                     const std::set<std::string>& pointers) {
    static const std::regex address(R"(\[(\w+)\])");
    std::map<std::string, std::set<std::string>> all;
    for (std::size_t before = 1, after = 0; before != after;) {
        before = after;
        after = 0;
        for (const Instruction& i : body) {
            if (i.name.rfind("st.", 0) == 0 || i.name.rfind("ld.global", 0) == 0) continue;
            const std::vector<std::string> used = registers(i.operands);
            if (used.empty()) continue;
            std::set<std::string>& made = all[used[0]];
            std::smatch m;
            if (i.name.rfind("ld.param", 0) == 0 && std::regex_search(i.operands, m, address)) {
                if (pointers.count(m[1])) made.insert(m[1]);
            }
            for (std::size_t k = 1; k < used.size(); ++k) {
                const std::set<std::string> from = all[used[k]];
                made.insert(from.begin(), from.end());
            }
        }
        for (const auto& [name, from] : all) after += from.size();
    }
    return all;
}

// "ld.global.nc.v4.b32": 16
int bytes_of(const std::string& name) {
    static const std::regex shape(R"((?:\.v(\d))?\.[a-z]+(\d+)$)");
    std::smatch m;
    if (!std::regex_search(name, m, shape)) throw std::runtime_error("an access of no size: " + name);
    return (m[1].matched ? std::stoi(m[1]) : 1) * std::stoi(m[2]) / 8;
}

std::vector<GlobalAccess> accesses(const std::vector<Instruction>& body, const std::set<std::string>& pointers) {
    static const std::regex address(R"(\[(%rd\d+)(?:[+-]+\d+)?\])");
    const auto from = origins(body, pointers);
    std::vector<GlobalAccess> all;
    for (const Instruction& i : body) {
        const bool store = i.name.rfind("st.global", 0) == 0;
        if (!store && i.name.rfind("ld.global", 0) != 0) continue;
        const std::string text = i.name + " " + i.operands;
        std::smatch m;
        if (!std::regex_search(i.operands, m, address)) throw std::runtime_error("an access of no address: " + text);
        const auto made = from.find(m[1]);
        if (made == from.end() || made->second.size() != 1) {
            throw std::runtime_error("an access whose pointer is not known: " + text);
        }
        all.push_back({*made->second.begin(), text, store, bytes_of(i.name)});
    }
    return all;
}

}  // namespace

std::map<std::string, std::vector<GlobalAccess>> global_accesses(const std::string& ptx, const std::string& prefix) {
    static const std::regex entry(R"(\.entry (\w+)\()"), parameter(R"(\.param \.u64 \.ptr.* (\w+),?$)"),
        instruction(R"(^\s*(?:@!?%p\d+\s+)?([a-z][a-z0-9_.:]*)\s+(.*);)");
    std::map<std::string, std::vector<GlobalAccess>> all;
    std::string function;
    std::set<std::string> pointers;
    std::vector<Instruction> body;
    std::istringstream in(ptx);
    for (std::string line; std::getline(in, line);) {
        std::smatch m;
        if (std::regex_search(line, m, entry)) {
            function = m[1];
            pointers.clear();
            body.clear();
        } else if (std::regex_search(line, m, parameter)) {
            pointers.insert(m[1]);
        } else if (std::regex_search(line, m, instruction)) {
            body.push_back({m[1], m[2]});
        } else if (line == "}" && function.rfind(prefix, 0) == 0) {
            all[function] = accesses(body, pointers);
        }
    }
    return all;
}

}  // namespace codegen
