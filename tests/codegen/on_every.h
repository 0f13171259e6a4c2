// Tests that look at every row of the table of generated code, on each instruction set: emitting code needs no CPU that
// runs it.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "codegen/generated.h"

namespace codegen {

// A test looks at every row of the table, on one instruction set.
class OnEvery : public testing::TestWithParam<fusebn::InstructionSet> {
public:
    static std::string test_name(const testing::TestParamInfo<fusebn::InstructionSet>& info) {
        std::string name(fusebn::to_string(info.param));
        for (char& c : name) c = c == '-' ? '_' : c;
        return name;
    }
    // Compiled once in a process.
    static const Kernel& assembled(const Row& r) {
        static std::map<std::string, Kernel> done;
        const std::string key = describe(r, GetParam());
        if (done.count(key) == 0) done[key] = assemble(r, GetParam());
        return done[key];
    }
    template <class Check>
    static void row(Check check) {
        for (const Row& r : rows()) {
            SCOPED_TRACE(describe(r, GetParam()));
            check(r.spec, schedule_of(r), assembled(r));
        }
    }
};

}  // namespace codegen
