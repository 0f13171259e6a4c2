#include "codegen/generated.h"

#include <unistd.h>

#include <array>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>

#include "compiler/emit.h"
#include "compiler/lower.h"

using namespace fusebn;

namespace codegen {

namespace {

bool starts_with(const std::string& text, const std::string& start) { return text.rfind(start, 0) == 0; }
bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// AT&T syntax: the destination comes last.
std::string destination(const Instruction& i) {
    int depth = 0;
    for (std::size_t at = i.operands.size(); at-- > 0;) {
        if (i.operands[at] == ')') ++depth;
        if (i.operands[at] == '(') --depth;
        if (i.operands[at] == ',' && depth == 0) return i.operands.substr(at + 1);
    }
    return i.operands;
}

bool is_name_character(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '$';
}

// Functions are what `.type name,@function` announces; everything from the name's label to `.size` is the body.
std::vector<Function> parse(const std::string& assembly) {
    std::vector<Function> functions;
    std::set<std::string> announced;
    bool inside = false;
    std::istringstream in(assembly);
    for (std::string line; std::getline(in, line);) {
        const std::size_t comment = line.find('#');
        if (comment != std::string::npos) line.resize(comment);
        std::istringstream words(line);
        std::string word, rest;
        if (!(words >> word)) continue;
        std::getline(words >> std::ws, rest);
        if (word == ".type" && contains(rest, ",@function")) announced.insert(rest.substr(0, rest.find(',')));
        if (word == ".size") inside = false;
        if (word.back() == ':') {
            word.pop_back();
            if (announced.count(word) != 0) {
                functions.push_back({word, {}});
                inside = true;
            } else if (inside) {
                functions.back().body.push_back({word, "", true});
            }
        } else if (inside && word[0] != '.') {
            functions.back().body.push_back({word, rest});
        }
    }
    return functions;
}

std::string run(const std::string& command) {
    FILE* pipe = popen(command.c_str(), "r");
    if (pipe == nullptr) throw std::runtime_error("cannot run " + command);
    std::string text;
    std::array<char, 4096> buffer{};
    for (std::size_t n; (n = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) text.append(buffer.data(), n);
    if (pclose(pipe) != 0) throw std::runtime_error("failed: " + command);
    return text;
}

}  // namespace

bool is_streaming_store(const Instruction& i) { return starts_with(i.name, "movnt") || starts_with(i.name, "vmovnt"); }

bool is_ordinary_vector_store(const Instruction& i) {
    // Single elements: movss, movsd, movd, movq and pextr; but not movdqu.
    const bool single =
        contains(i.name, "movs") || i.name == "movd" || i.name == "vmovd" || i.name == "movq" || i.name == "vmovq";
    const bool moves = contains(i.name, "mov") || starts_with(i.name, "vextract") || i.name == "vcvtps2ph";
    if (is_streaming_store(i) || !moves || single) return false;
    const std::string to = destination(i);
    return register_bytes(i) > 0 && contains(to, "(") && !contains(to, "%rsp") && !contains(to, "%rbp");
}

bool is_prefetch(const Instruction& i) { return starts_with(i.name, "prefetch"); }

bool is_masked_load(const Instruction& i) {
    const std::string to = destination(i);
    return register_bytes(i) > 0 && contains(to, "{%k") && !contains(to, "(") && contains(i.operands, "(") &&
           !contains(i.operands, "%rsp") && !contains(i.operands, "%rbp");
}

bool is_fused(const Instruction& i) {
    for (const char* part : {"fmadd", "fmsub", "fnmadd", "fnmsub"}) {
        if (contains(i.name, part)) return true;
    }
    return false;
}

int register_bytes(const Instruction& i) {
    if (contains(i.operands, "%zmm")) return 64;
    if (contains(i.operands, "%ymm")) return 32;
    return contains(i.operands, "%xmm") ? 16 : 0;
}

std::vector<Function> Kernel::reached_from(const std::string& entry) const {
    std::map<std::string, const Function*> by_name;
    for (const Function& f : functions) by_name[f.name] = &f;
    std::set<std::string> seen;
    std::vector<std::string> next = {entry};
    std::vector<Function> reached;
    while (!next.empty()) {
        const std::string name = next.back();
        next.pop_back();
        if (by_name.count(name) == 0 || !seen.insert(name).second) continue;
        reached.push_back(*by_name[name]);
        for (const Instruction& i : by_name[name]->body) {
            std::string word;
            for (const char c : i.operands + " ") {
                if (is_name_character(c)) {
                    word += c;
                    continue;
                }
                if (!word.empty()) next.push_back(word);
                word.clear();
            }
        }
    }
    return reached;
}

KernelSpec planar(Op op, std::int64_t N, std::int64_t C, std::int64_t S, Activation activation) {
    return {op, View::planar, DataType::f32, activation, Residual::none, N, C, S};
}
KernelSpec interleaved(Op op, std::int64_t R, std::int64_t C, Activation activation) {
    return {op, View::interleaved, DataType::f32, activation, Residual::none, R, C, 1};
}
KernelSpec with(KernelSpec spec, Residual residual, DataType dtype) {
    spec.residual = residual;
    spec.dtype = dtype;
    return spec;
}

const std::vector<Row>& rows() {
    constexpr auto inference = Op::inference, train = Op::train_forward, back = Op::backward;
    constexpr auto alone = Residual::none, add = Residual::add, sum = Residual::batch_norm;
    constexpr auto silu = Activation::silu, hardswish = Activation::hardswish;
    constexpr auto bf16 = DataType::bf16, f16 = DataType::f16;
    constexpr std::int64_t any = any_extent;
    static const std::vector<Row> all = {
        {planar(inference, 4, 16, 256), "vector=16 unroll=1 parallel=none task=4 store=cached"},
        {planar(inference, 4, 16, 256), "vector=16 unroll=2 parallel=rows task=3 store=stream"},
        {planar(inference, 4, 16, 256, Activation::none), "vector=8 unroll=4 parallel=none task=1 store=stream"},
        {planar(inference, 3, 5, 49), "vector=16 unroll=2 parallel=rows task=2 store=cached"},
        {planar(inference, any, any, any), ""},
        {planar(train, 4, 16, 256), "vector=16 unroll=2 parallel=channels task=2 prefetch=0 store=cached"},
        {planar(train, 4, 16, 256), "vector=16 unroll=2 parallel=channels task=1 prefetch=1 store=stream"},
        {planar(train, 4, 16, 256), "vector=16 unroll=4 parallel=none task=2 prefetch=2 repeat=4 store=stream"},
        {planar(train, 4, 16, 196), "vector=4 unroll=1 parallel=channels task=1 prefetch=1 repeat=8 store=stream"},
        {planar(inference, 4, 16, 196), "vector=16 unroll=4 parallel=rows task=3 store=stream"},
        {with(planar(train, 4, 16, 196), add), "vector=8 unroll=1 parallel=channels task=4 store=stream"},
        {interleaved(back, 512, 100, Activation::none), "vector=8 unroll=2 parallel=rows task=16 store=stream"},
        {planar(train, 4, 16, 256), "vector=16 unroll=1 parallel=channels task=1 prefetch=3 store=cached"},
        {planar(train, 4, 16, 256), "vector=16 unroll=1 parallel=channels task=1 prefetch=1 ahead=1 store=stream"},
        {planar(train, 4, 16, 2064, Activation::none), "vector=16 unroll=1 parallel=rows task=3 store=stream"},
        {planar(train, 33, 5, 49), "vector=16 unroll=2 parallel=channels task=2 prefetch=0 store=cached"},
        {planar(train, any, any, any), ""},
        {interleaved(inference, 512, 64), "vector=16 unroll=4 parallel=rows task=16 store=stream"},
        {interleaved(inference, 513, 37, Activation::none), "vector=16 unroll=2 parallel=rows task=16 store=cached"},
        {interleaved(inference, any, any), ""},
        {interleaved(train, 512, 64), "vector=16 unroll=2 parallel=rows task=16 block=32 store=stream"},
        {interleaved(train, 512, 64, Activation::none), "vector=8 unroll=1 parallel=none task=1 block=0 store=stream"},
        {interleaved(train, 512, 128),
         "vector=16 unroll=4 parallel=rows task=16 block=64 prefetch=1 ahead=0 store=stream"},
        {interleaved(train, 512, 128),
         "vector=16 unroll=4 parallel=rows task=16 block=0 prefetch=0 ahead=2 repeat=2 store=stream"},
        {interleaved(train, 512, 64), "vector=16 unroll=4 parallel=rows task=16 steps=2 store=stream"},
        {interleaved(inference, 512, 128), "vector=16 unroll=4 parallel=rows task=16 ahead=2 store=stream"},
        {interleaved(train, 513, 37), "vector=16 unroll=2 parallel=rows task=16 block=16 store=cached"},
        {interleaved(train, any, any), ""},
        {planar(back, 4, 16, 256), "vector=16 unroll=2 parallel=channels task=1 prefetch=1 store=stream"},
        {planar(back, 4, 16, 256), "vector=16 unroll=2 parallel=channels task=1 prefetch=0 ahead=1 store=stream"},
        {planar(back, 4, 16, 2064, Activation::none), "vector=16 unroll=1 parallel=rows task=3 store=stream"},
        {planar(back, 4, 16, 4096), "vector=16 unroll=2 parallel=samples task=1 prefetch=0 ahead=1 store=stream"},
        {planar(train, 33, 6, 49), "vector=16 unroll=2 parallel=samples task=4 prefetch=1 store=cached"},
        {with(planar(back, 33, 5, 49), add), "vector=16 unroll=2 parallel=channels task=2 store=cached"},
        {with(planar(back, 4, 16, 49), add), "vector=16 unroll=1 parallel=channels task=16 join=1 store=stream"},
        {with(planar(back, 4, 16, 196, Activation::relu6), sum),
         "vector=16 unroll=7 parallel=channels task=4 join=1 prefetch=1 store=stream"},
        {planar(train, 4, 16, 49, silu), "vector=8 unroll=2 parallel=none task=16 join=1 store=cached"},
        {planar(inference, 4, 32, 49), "vector=16 unroll=1 parallel=channels task=16 join=1 store=stream"},
        {with(planar(back, 4, 16, 256, hardswish), sum, bf16), "vector=16 unroll=2 parallel=rows task=2 store=stream"},
        {with(planar(back, any, any, any, silu), add, f16), ""},
        {interleaved(back, 512, 128),
         "vector=16 unroll=2 parallel=rows task=16 block=64 prefetch=1 ahead=2 store=stream"},
        {interleaved(back, 512, 64), "vector=16 unroll=2 parallel=rows task=16 steps=2 store=stream"},
        {with(interleaved(back, 512, 128), alone, bf16),
         "vector=16 unroll=4 parallel=rows task=16 steps=1 ahead=2 store=stream"},
        {with(interleaved(back, 512, 64), add), "vector=32 unroll=2 parallel=rows task=16 block=32 store=stream"},
        {with(interleaved(back, 513, 37), sum), "vector=16 unroll=2 parallel=none task=16 block=16 store=cached"},
        {with(planar(train, 4, 16, 256), add), "vector=16 unroll=2 parallel=channels task=1 prefetch=1 store=stream"},
        {with(planar(train, 4, 16, 256), sum, bf16), "vector=32 unroll=1 parallel=rows task=2 store=stream"},
        {with(interleaved(train, 513, 37), add, f16), "vector=16 unroll=2 parallel=rows task=16 store=cached"},
        {with(planar(inference, 4, 16, 256), alone, bf16), "vector=16 unroll=4 parallel=rows task=3 store=stream"},
        {with(planar(inference, 4, 16, 256, hardswish), sum, bf16),
         "vector=16 unroll=2 parallel=rows task=3 store=cached"},
        {with(planar(inference, 4, 16, 256, silu), alone, f16), "vector=16 unroll=2 parallel=rows task=3 store=stream"},
        {with(interleaved(inference, 512, 64, hardswish), add, bf16),
         "vector=32 unroll=2 parallel=rows task=16 store=stream"},
    };
    return all;
}

const std::vector<InstructionSet>& instruction_sets() {
    static const std::vector<InstructionSet> all = {InstructionSet::x86_64, InstructionSet::x86_64_avx2,
                                                    InstructionSet::x86_64_avx512};
    return all;
}

Schedule schedule_of(const Row& row) { return spec_schedule(row.schedule, row.spec, default_schedule(row.spec)); }

namespace {

Lowered lowered(const Row& row, InstructionSet isa) {
    return lower(row.spec, schedule_of(row), isa, row.spec.outer == any_extent);
}

}  // namespace

Kernel assemble(const Row& row, InstructionSet isa) {
    const std::string symbol = "entry";
    const Kernel kernel{symbol, parse(emit_kernel(lowered(row, isa), isa, symbol, Emit::assembly).assembly)};
    if (kernel.reached_from(symbol).empty()) throw std::runtime_error("the assembly has no function " + symbol);
    return kernel;
}

std::string object(const Row& row, InstructionSet isa, const std::string& symbol) {
    return emit_kernel(lowered(row, isa), isa, symbol, Emit::object).bytes;
}

std::string describe(const Row& row, InstructionSet isa) {
    return kernel_name(row.spec) + " " + std::string(to_string(isa)) + " [" + to_text(schedule_of(row)) + "]";
}

// "   Num:    Value          Size Type    Bind   Vis      Ndx Name"
std::vector<Symbol> symbols(const std::string& path) {
    std::vector<Symbol> all;
    std::istringstream in(run(std::string(FUSEBN_READELF) + " --symbols --wide '" + path + "'"));
    for (std::string line; std::getline(in, line);) {
        std::istringstream words(line);
        std::string number, value, size, type, bind, visibility, section, name;
        words >> number >> value >> size >> type >> bind >> visibility >> section >> name;
        if (name.empty() || number == "Num:" || number.back() != ':') continue;
        all.push_back({name, section == "UND", bind != "LOCAL", visibility == "HIDDEN"});
    }
    return all;
}

// "  [Nr] Name              Type            Address          Off    Size   ES Flg Lk Inf Al", the flags left out where
// there are none.
std::vector<Section> sections(const std::string& object) {
    std::vector<Section> all;
    static const std::regex row(
        R"(^ *\[ *\d+\] (\S+) +[A-Z_0-9]+ +[0-9a-f]{16} [0-9a-f]+ [0-9a-f]+ [0-9a-f]+ +([A-Za-z]*) +\d+ +\d+ +\d+$)");
    std::istringstream in(run(std::string(FUSEBN_READELF) + " --sections --wide '" + object + "'"));
    for (std::string line; std::getline(in, line);) {
        std::smatch m;
        if (std::regex_match(line, m, row)) all.push_back({m[1], m[2]});
    }
    return all;
}

}  // namespace codegen
