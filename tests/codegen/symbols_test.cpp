// What a generated library asks of the program it is linked into, and what it shows to it.

#include <Halide.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "codegen/generated.h"
#include "compiler/build.h"
#include "compiler/emit.h"
#include "compiler/files.h"
#include "compiler/lower.h"

using namespace fusebn;
using namespace codegen;

namespace {

const std::set<std::string> libc = {"memcpy", "memset", "memmove"};

LibrarySpec small_library(const std::string& name) {
    return {name,
            {InstructionSet::x86_64, InstructionSet::x86_64_avx2},
            {{planar(Op::inference, 4, 16, 256), "parallel=rows unroll=2 store=stream", 0},
             {planar(Op::train_forward, 4, 16, 256), "parallel=channels", 0},
             {planar(Op::backward, 4, 16, 256), "", 0}}};
}

std::vector<Symbol> built(const std::string& name) {
    const TemporaryDirectory directory;
    build(small_library(name), {directory.path(), 2, {}, true});
    return symbols(directory / ("lib" + name + ".a"));
}

std::set<std::string> global_definitions(const std::vector<Symbol>& all) {
    std::set<std::string> names;
    for (const Symbol& s : all) {
        if (s.global && !s.undefined) names.insert(s.name);
    }
    return names;
}

TEST(Objects, NeedNothingButLibc) {
    const TemporaryDirectory directory;
    for (InstructionSet isa : instruction_sets()) {
        for (const Row& row : rows()) {
            SCOPED_TRACE(describe(row, isa));
            write_file(directory / "kernel.o", object(row, isa, "kernel"));
            for (const Symbol& s : symbols(directory / "kernel.o")) {
                if (s.undefined) {
                    EXPECT_EQ(libc.count(s.name), 1u) << s.name;
                }
                if (s.global && !s.undefined) {
                    EXPECT_TRUE(s.name == "kernel" || s.name == "kernel_unaligned") << s.name;
                    EXPECT_TRUE(s.hidden) << s.name;
                }
            }
        }
    }
}

TEST(Libraries, NeedNothingButLibcAndThemselves) {
    const std::vector<Symbol> all = built("needs");
    const std::set<std::string> own = global_definitions(all);
    for (const Symbol& s : all) {
        if (s.undefined) {
            EXPECT_TRUE(libc.count(s.name) + own.count(s.name) == 1) << s.name;
        }
    }
}

TEST(Libraries, ShowTheirTableAndHideTheRest) {
    for (const Symbol& s : built("shown")) {
        if (!s.global || s.undefined) continue;
        if (s.name == "shown_kernel_table") {
            EXPECT_FALSE(s.hidden);
        } else {
            EXPECT_TRUE(s.hidden) << s.name;
            EXPECT_EQ(s.name.rfind("shown__bn_", 0), 0u) << s.name;
        }
    }
}

TEST(Libraries, OfTheSameKernelsHaveNoNameInCommon) {
    const std::set<std::string> one = global_definitions(built("one")), two = global_definitions(built("two"));
    EXPECT_EQ(one.size(), two.size());
    EXPECT_GT(one.size(), 10u);
    for (const std::string& name : one) EXPECT_EQ(two.count(name), 0u) << name;
}

// A kernel that calls somebody else's function, as a change of the compiler may make one without meaning to.
Lowered calls_a_stranger() {
    using namespace Halide;
    Func f("f");
    Var i("i");
    f(i) = Internal::Call::make(Float(32), "a_strangers_function", {cast<float>(i)}, Internal::Call::Extern);
    const Target target(Target::Linux, Target::X86, 64,
                        {Target::NoRuntime, Target::NoBoundsQuery, Target::NoAsserts, Target::UserContext});
    const TemporaryDirectory directory;
    Pipeline(f)
        .compile_to_module({}, "stranger", target, LinkageType::ExternalPlusArgv)
        .compile({{OutputFileType::bitcode, directory / "stranger.bc"}});
    Lowered lowered;
    lowered.bitcode = read_file(directory / "stranger.bc");
    lowered.entry = "stranger_argv";
    lowered.inputs = {"x"};
    lowered.outputs = {f.name()};
    return lowered;
}

TEST(Objects, ThatNeedMoreAreRefused) {
    const std::string message =
        refusal([] { emit_kernel(calls_a_stranger(), InstructionSet::x86_64, "my_kernel", Emit::object); });
    EXPECT_EQ(message,
              "the object of my_kernel needs the symbol 'a_strangers_function', which no program is required to have");
}

TEST(Objects, ThatLackTheirEntryAreRefused) {
    Lowered lowered = calls_a_stranger();
    lowered.entry = "no_such_entry";
    EXPECT_EQ(refusal([&] { emit_kernel(lowered, InstructionSet::x86_64, "my_kernel", Emit::object); }),
              "Halide emitted no function no_such_entry");
}

// Else a change of Halide's names would silently cost what streaming gives.
TEST(Objects, ThatAreToStreamButFindNothingToStreamAreRefused) {
    const Row row{planar(Op::inference, 4, 16, 256), "store=cached"};
    Lowered lowered = lower(row.spec, schedule_of(row), InstructionSet::x86_64, false);
    lowered.stream_alignment = 64;
    lowered.outputs = {"nothing_of_this_name"};
    EXPECT_EQ(refusal([&] { emit_kernel(lowered, InstructionSet::x86_64, "my_kernel", Emit::object); }),
              "my_kernel: store=stream, but no vector store to an output was found");
}

TEST(Objects, OfDamagedBitcodeAreRefusedByName) {
    Lowered lowered;
    lowered.bitcode = "this is no bitcode at all";
    lowered.entry = "entry";
    const std::string message =
        refusal([&] { emit_kernel(lowered, InstructionSet::x86_64, "my_kernel", Emit::object); });
    EXPECT_EQ(message.rfind("my_kernel: ", 0), 0u) << message;
}

}  // namespace
