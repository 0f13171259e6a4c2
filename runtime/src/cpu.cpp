#include "cpu.h"

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "fusebn/parallel.h"
#include "text.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fusebn {
namespace detail {
namespace {

constexpr int none = -1;
constexpr int not_asked_yet = -2;
std::atomic<int> ceiling{not_asked_yet};

// __builtin_cpu_supports also asks the operating system (XCR0) whether it saves the wide registers.
int best_instruction_set() noexcept {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("sse4.1")) return none;
    // clang 14's __builtin_cpu_supports has no word for F16C; its registers are AVX's, which are asked for below.
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c)) return FUSEBN_ISA_X86_64;
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512bw");
    return avx512 ? FUSEBN_ISA_X86_64_AVX512 : FUSEBN_ISA_X86_64_AVX2;
#else
    return none;
#endif
}

// Intel's manual, volume 2A, CPUID leaf 1: the extended family counts from 15 on, the extended model from 6 on (as
// Linux has it).
std::string processor_here() {
#if defined(__x86_64__)
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid(0, &eax, &ebx, &ecx, &edx) == 0) return "";
    char vendor[12];
    std::memcpy(vendor, &ebx, 4);
    std::memcpy(vendor + 4, &edx, 4);
    std::memcpy(vendor + 8, &ecx, 4);
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return "";
    const unsigned base = eax >> 8 & 15;
    const unsigned family = base == 15 ? base + (eax >> 20 & 255) : base;
    const unsigned model = (eax >> 4 & 15) | (base >= 6 ? eax >> 12 & 0xf0 : 0);
    return processor_name({vendor, 12}, static_cast<int>(family), static_cast<int>(model));
#else
    return "";
#endif
}

int initial_ceiling() {
    const int best = best_instruction_set();
    if (best == none) return none;
    std::string complaint;
    const InstructionSet chosen =
        choose_instruction_set(std::getenv("FUSEBN_CPU"), static_cast<InstructionSet>(best), complaint);
    if (!complaint.empty()) std::fprintf(stderr, "%s\n", complaint.c_str());
    return static_cast<int>(chosen);
}

int current_ceiling() noexcept {
    int value = ceiling.load(std::memory_order_relaxed);
    if (value != not_asked_yet) return value;
    static const int initial = initial_ceiling();  // once, so that a complaint is printed once
    ceiling.compare_exchange_strong(value, initial);
    return ceiling.load();
}

}  // namespace

InstructionSet choose_instruction_set(const char* wanted, InstructionSet best, std::string& complaint) {
    if (wanted == nullptr || *wanted == '\0') return best;
    for (const auto& row : instruction_set_names) {
        if (is_device(row.value)) continue;
        // "avx2" is short for "x86-64-avx2".
        constexpr std::string_view prefix = "x86-64-";
        const bool has_short_name = row.name.size() > prefix.size();
        if (wanted != row.name && !(has_short_name && wanted == row.name.substr(prefix.size()))) continue;
        if (row.value <= best) return row.value;
        complaint = sentence("fusebn: FUSEBN_CPU=", wanted, " is not supported here; using ", to_string(best));
        return best;
    }
    complaint =
        sentence("fusebn: FUSEBN_CPU=", wanted,
                 " is not known (x86-64, x86-64-avx2 or avx2, x86-64-avx512 or avx512); using ", to_string(best));
    return best;
}

std::string processor_name(std::string_view vendor, int family, int model) {
    std::string name;  // one word: some are padded with spaces
    for (const char c : vendor) {
        const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        if (plain) name += c;
    }
    if (name.empty()) name = "unknown";
    return sentence(name, " family ", family, " model ", model);
}

std::string choose_processor(const char* wanted, const std::string& here, std::string& complaint) {
    if (wanted == nullptr || *wanted == '\0') return here;
    char vendor[16], end;
    int family = 0, model = 0;
    const int numbers = std::sscanf(wanted, "%15s family %d model %d%c", vendor, &family, &model, &end) - 1;
    const std::string whole = numbers >= 0 ? processor_name(vendor, family, model) : "";
    const std::string of[] = {whole.substr(0, whole.find(" family")), whole.substr(0, whole.find(" model")), whole};
    if (numbers >= 0 && numbers <= 2 && family >= 0 && model >= 0 && wanted == of[numbers]) return wanted;
    complaint = sentence("fusebn: FUSEBN_PROCESSOR=", wanted, " is not a processor's name (such as ",
                         processor_name("AuthenticAMD", 25, 17), ", or how one begins); using ", here);
    return here;
}

std::optional<InstructionSet> usable_instruction_set() noexcept {
    const int value = current_ceiling();
    if (value == none) return std::nullopt;
    return static_cast<InstructionSet>(value);
}

}  // namespace detail

InstructionSet instruction_set() { return detail::usable_instruction_set().value_or(InstructionSet::x86_64); }

const char* processor() {
    // Without a destructor: layers may be made while the program's statics are destroyed. A name that is longer than
    // all there are is cut off.
    static const std::array<char, 96> chosen = [] {
        std::string complaint;
        const std::string name =
            detail::choose_processor(std::getenv("FUSEBN_PROCESSOR"), detail::processor_here(), complaint);
        if (!complaint.empty()) std::fprintf(stderr, "%s\n", complaint.c_str());
        std::array<char, 96> text{};
        name.copy(text.data(), text.size() - 1);
        return text;
    }();
    return chosen.data();
}

bool supports(InstructionSet isa) {
    static const int best = detail::best_instruction_set();
    return static_cast<int>(isa) >= 0 && static_cast<int>(isa) <= best;
}

Status set_instruction_set(InstructionSet isa) {
    if (!supports(isa)) {
        return Status(ErrorCode::unsupported_cpu,
                      detail::sentence("isa: ", detail::name_of(isa),
                                       " is not supported by this CPU and operating system; ask supports() first"));
    }
    detail::current_ceiling();  // so that a later first use does not put FUSEBN_CPU's in its place
    detail::ceiling.store(static_cast<int>(isa));
    return Status();
}

}  // namespace fusebn
