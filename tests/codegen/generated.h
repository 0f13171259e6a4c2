// Generated code as tests look at it: a kernel's instructions, and the symbols of objects and archives.
#pragma once

#include <string>
#include <vector>

#include "compiler/files.h"
#include "compiler/spec.h"
#include "schedules/schedule.h"

namespace codegen {

struct Instruction {
    std::string name, operands;
    bool label = false;  // then `name` is the label's
};

// "vmovntps %ymm4, -96(%rax,%rdx)" and "movntps %xmm4, (%rax)"
bool is_streaming_store(const Instruction& i);
// Of two elements or more, to memory that the function was given: not to its own stack frame.
bool is_ordinary_vector_store(const Instruction& i);
bool is_prefetch(const Instruction& i);
bool is_masked_load(const Instruction& i);  // of a vector, from memory that the function was given
bool is_fused(const Instruction& i);        // a multiply-add in one rounding
int register_bytes(const Instruction& i);   // of the widest vector register among the operands; 0: none

struct Function {
    std::string name;
    std::vector<Instruction> body;

    template <class Predicate>
    int count(Predicate p) const {
        int n = 0;
        for (const Instruction& i : body) n += !i.label && p(i);
        return n;
    }
};

struct Kernel {
    std::string symbol;
    std::vector<Function> functions;

    // The functions that an entry reaches, itself included, by the names in their operands.
    std::vector<Function> reached_from(const std::string& entry) const;

    template <class Predicate>
    int count(Predicate p) const {
        int n = 0;
        for (const Function& f : functions) n += f.count(p);
        return n;
    }
};

template <class Predicate>
int count(const std::vector<Function>& functions, Predicate p) {
    return Kernel{"", functions}.count(p);
}

// A row of the tests' table: a kernel, and a schedule in text form over the default one.
struct Row {
    fusebn::KernelSpec spec;
    std::string schedule;
};
fusebn::KernelSpec planar(fusebn::Op op, std::int64_t N, std::int64_t C, std::int64_t S,
                          fusebn::Activation activation = fusebn::Activation::relu);
fusebn::KernelSpec interleaved(fusebn::Op op, std::int64_t R, std::int64_t C,
                               fusebn::Activation activation = fusebn::Activation::relu);
// The same with a residual, and of a type.
fusebn::KernelSpec with(fusebn::KernelSpec spec, fusebn::Residual residual,
                        fusebn::DataType dtype = fusebn::DataType::f32);

// Every algorithm, with the schedules that make different code of it.
const std::vector<Row>& rows();
const std::vector<fusebn::InstructionSet>& instruction_sets();

fusebn::Schedule schedule_of(const Row& row);
Kernel assemble(const Row& row, fusebn::InstructionSet isa);
std::string object(const Row& row, fusebn::InstructionSet isa, const std::string& symbol);

// Says which case failed: "bn_inference_f32_... x86-64 [store=stream]".
std::string describe(const Row& row, fusebn::InstructionSet isa);

struct Symbol {
    std::string name;
    bool undefined, global, hidden;
};
// Of an object, or of all members of an archive.
std::vector<Symbol> symbols(const std::string& path);

struct Section {
    std::string name, flags;  // in readelf's letters: "AX"
};
std::vector<Section> sections(const std::string& object);

using TemporaryDirectory = fusebn::TemporaryFolder;

// What f throws, as text; "" when it throws nothing.
template <class F>
std::string refusal(F&& f) {
    try {
        f();
    } catch (const std::exception& e) {
        return e.what();
    }
    return "";
}

}  // namespace codegen
