#include "ptx.h"

#include <cmath>
#include <cstring>
#include <sstream>
#include <stdexcept>

namespace fusebn::test {
namespace {

using U64 = std::uint64_t;
using I64 = std::int64_t;
using U32 = std::uint32_t;
using I32 = std::int32_t;
using Values = std::vector<U64>;

template <class T>
T read(U64 bits) {
    T value;
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}
template <class T>
U64 bits_of(T value) {
    U64 bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    return bits;
}
template <class T>
T* at(U64 address) {
    return reinterpret_cast<T*>(static_cast<std::uintptr_t>(address));
}
U64& operand(Values& v, const int* operands, int i) { return v[static_cast<std::size_t>(operands[i])]; }

// Of three values of type T, the result of type R. An instruction with fewer operands reads what it does not use.
template <class T, class R, class F>
void compute(Values& v, const int* o, F f) {
    const T a = read<T>(operand(v, o, 1)), b = read<T>(operand(v, o, 2)), c = read<T>(operand(v, o, 3));
    operand(v, o, 0) = bits_of(static_cast<R>(f(a, b, c)));
}
template <class T>
void load(Values& v, const int* o) {
    operand(v, o, 0) = bits_of(*at<T>(operand(v, o, 1)));
}
template <class T>
void store(Values& v, const int* o) {
    *at<T>(operand(v, o, 0)) = read<T>(operand(v, o, 1));
}
template <class T>
void copy(Values& v, const int* o) {
    operand(v, o, 0) = bits_of(read<T>(operand(v, o, 1)));
}
void multiply_add_wide(Values& v, const int* o) {
    const I64 product = I64{read<I32>(operand(v, o, 1))} * read<I32>(operand(v, o, 2));
    operand(v, o, 0) = static_cast<U64>(product) + operand(v, o, 3);
}

using Operation = void (*)(Values&, const int*);

const std::map<std::string, Operation>& operations() {
#define FUSEBN_PTX(T, R, expression)                                                                                \
    [](Values& v, const int* o) {                                                                                   \
        compute<T, R>(v, o,                                                                                         \
                      []([[maybe_unused]] T a, [[maybe_unused]] T b, [[maybe_unused]] T c) { return expression; }); \
    }
    static const std::map<std::string, Operation> table = {
        {"mov.u32", copy<U32>},
        {"mov.u64", copy<U64>},
        {"ld.param.u32", copy<U32>},
        {"ld.param.u64", copy<U64>},
        {"ld.param.f64", copy<U64>},
        {"cvta.to.global.u64", copy<U64>},
        {"cvt.u64.u32", copy<U32>},
        {"ld.global.u8", load<std::uint8_t>},
        {"ld.global.u16", load<std::uint16_t>},
        {"ld.global.u32", load<U32>},
        {"ld.global.f32", load<float>},
        {"st.global.u8", store<std::uint8_t>},
        {"st.global.f32", store<float>},
        {"st.global.f64", store<double>},
        {"mad.wide.s32", multiply_add_wide},
        {"mul.wide.u32", FUSEBN_PTX(U32, U64, U64{a} * b)},
        {"mul.lo.s64", FUSEBN_PTX(U64, U64, (a * b))},
        {"mad.lo.s32", FUSEBN_PTX(U32, U32, (a * b) + c)},
        {"mad.lo.s64", FUSEBN_PTX(U64, U64, (a * b) + c)},
        {"add.s64", FUSEBN_PTX(U64, U64, a + b)},
        {"sub.s32", FUSEBN_PTX(U32, U32, a - b)},
        {"and.b32", FUSEBN_PTX(U32, U32, (a & b))},
        {"div.s64", FUSEBN_PTX(I64, I64, a / b)},
        {"rem.s64", FUSEBN_PTX(I64, I64, a % b)},
        {"setp.ge.s32", FUSEBN_PTX(I32, U64, a >= b)},
        {"setp.ge.s64", FUSEBN_PTX(I64, U64, a >= b)},
        {"setp.lt.u32", FUSEBN_PTX(U32, U64, a < b)},
        {"selp.u32", FUSEBN_PTX(U32, U32, c != 0 ? a : b)},
        {"cvt.f64.f32", FUSEBN_PTX(float, double, a)},
        {"add.rn.f32", FUSEBN_PTX(float, float, a + b)},
        {"add.rn.f64", FUSEBN_PTX(double, double, a + b)},
        {"sqrt.rn.f64", FUSEBN_PTX(double, double, std::sqrt(a))},
        {"rcp.rn.f64", FUSEBN_PTX(double, double, 1 / a)},
    };
#undef FUSEBN_PTX
    return table;
}

constexpr const char* special[] = {"%tid.x",   "%tid.y",   "%ntid.x",   "%ntid.y",
                                   "%ctaid.x", "%ctaid.y", "%nctaid.x", "%nctaid.y"};

std::vector<std::string> words(std::string text, const std::string& separators) {
    for (char& c : text) {
        if (separators.find(c) != std::string::npos) c = ' ';
    }
    std::istringstream in(text);
    std::vector<std::string> found;
    for (std::string word; in >> word;) found.push_back(word);
    return found;
}

}  // namespace

int PtxKernel::value(const std::string& name) {
    const auto [entry, is_new] = numbers_.try_emplace(name, static_cast<int>(initial_.size()));
    if (is_new) {
        const bool is_number = name[0] == '-' || (name[0] >= '0' && name[0] <= '9');
        initial_.push_back(is_number ? static_cast<U64>(std::stoll(name)) : 0);
    }
    return entry->second;
}

void PtxKernel::decode(const std::string& line, std::vector<std::pair<std::size_t, std::string>>& jumps) {
    std::vector<std::string> parts = words(line, ",[];");
    if (parts.empty() || parts[0] == ".reg") return;
    if (parts[0].back() == ':') {
        labels_[parts[0].substr(0, parts[0].size() - 1)] = static_cast<int>(body_.size());
        return;
    }
    Instruction instruction;
    if (parts[0][0] == '@') {
        instruction.guard = value(parts[0].substr(1));
        parts.erase(parts.begin());
    }
    if (parts[0] == "bra" || parts[0] == "ret") {
        jumps.emplace_back(body_.size(), parts[0] == "ret" ? "" : parts.at(1));
    } else {
        const auto found = operations().find(parts[0]);
        if (found == operations().end() || parts.size() > 5) throw std::runtime_error("PTX: " + line);
        instruction.operation = found->second;
        for (std::size_t i = 1; i < parts.size(); ++i) instruction.operands[i - 1] = value(parts[i]);
    }
    body_.push_back(instruction);
}

PtxKernel::PtxKernel(const std::string& text) {
    const std::size_t body = text.find('{');
    for (const char* name : special) value(name);
    const std::vector<std::string> parameters = words(text.substr(0, body), "(),");
    for (std::size_t i = 0; i + 2 < parameters.size(); i += 3) {  // ".param .u64 y"
        parameters_.emplace_back(value(parameters[i + 2]), parameters[i + 1].find("64") != std::string::npos ? 8 : 4);
    }
    std::vector<std::pair<std::size_t, std::string>> jumps;
    std::istringstream lines(text.substr(body + 1, text.rfind('}') - body - 1));
    for (std::string line; std::getline(lines, line);) decode(line, jumps);
    labels_[""] = static_cast<int>(body_.size());
    for (const auto& [place, label] : jumps) body_[place].target = labels_.at(label);
}

std::vector<std::size_t> PtxKernel::argument_bytes() const {
    std::vector<std::size_t> bytes;
    for (const auto& [number, size] : parameters_) bytes.push_back(size);
    return bytes;
}

void PtxKernel::run(const FakeLaunch& launch) const {
    Values values = initial_;
    const auto set = [&](const char* name, unsigned to) { values[static_cast<std::size_t>(numbers_.at(name))] = to; };
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
        std::memcpy(&values[static_cast<std::size_t>(parameters_[i].first)], launch.arguments[i],
                    parameters_[i].second);
    }
    set("%ntid.x", launch.block[0]), set("%ntid.y", launch.block[1]);
    set("%nctaid.x", launch.grid[0]), set("%nctaid.y", launch.grid[1]);
    for (unsigned y = 0; y < launch.grid[1] * launch.block[1]; ++y) {
        for (unsigned x = 0; x < launch.grid[0] * launch.block[0]; ++x) {
            set("%tid.x", x % launch.block[0]), set("%tid.y", y % launch.block[1]);
            set("%ctaid.x", x / launch.block[0]), set("%ctaid.y", y / launch.block[1]);
            run_thread(values);
        }
    }
}

void PtxKernel::run_thread(Values values) const {
    for (std::size_t place = 0; place < body_.size();) {
        const Instruction& instruction = body_[place++];
        if (instruction.guard >= 0 && values[static_cast<std::size_t>(instruction.guard)] == 0) continue;
        if (instruction.operation != nullptr) {
            instruction.operation(values, instruction.operands);
        } else {
            place = static_cast<std::size_t>(instruction.target);
        }
    }
}

std::map<std::string, std::shared_ptr<const PtxKernel>> ptx_kernels(const std::string& text) {
    const std::string mark = ".visible .entry ";
    std::map<std::string, std::shared_ptr<const PtxKernel>> kernels;
    for (std::size_t begin = text.find(mark); begin != std::string::npos;) {
        const std::size_t next = text.find(mark, begin + 1);
        const std::string kernel = text.substr(begin + mark.size(), next - begin - mark.size());
        const std::size_t name_end = kernel.find('(');
        kernels[kernel.substr(0, name_end)] = std::make_shared<const PtxKernel>(kernel.substr(name_end));
        begin = next;
    }
    return kernels;
}

}  // namespace fusebn::test
