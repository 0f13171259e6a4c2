// Which of a kernel's variants for several processors a layer takes.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "check.h"
#include "cpu.h"
#include "dispatch.h"
#include "fake_library.h"
#include "fusebn/parallel.h"

namespace fusebn::test {
namespace {

constexpr char genoa[] = "AuthenticAMD family 25 model 17", rocket[] = "GenuineIntel family 6 model 167";

TEST(Processor, IsNamedAsTheSystemNamesIt) {
    if (std::getenv("FUSEBN_PROCESSOR") != nullptr) GTEST_SKIP() << "FUSEBN_PROCESSOR is set";
    std::string vendor, family, model;
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);) {
        const std::size_t colon = line.find(": ");
        if (colon == std::string::npos) continue;
        const std::string key = line.substr(0, line.find_first_of("\t:")), value = line.substr(colon + 2);
        if (key == "vendor_id" && vendor.empty()) vendor = value;
        if (key == "cpu family" && family.empty()) family = value;
        if (key == "model" && model.empty()) model = value;
    }
    if (vendor.empty()) GTEST_SKIP() << "/proc/cpuinfo names no vendor";
    EXPECT_EQ(std::string(processor()), detail::processor_name(vendor, std::stoi(family), std::stoi(model)));
}

TEST(Processor, HasOneWordForItsVendor) {
    EXPECT_EQ(detail::processor_name("AuthenticAMD", 25, 17), genoa);
    EXPECT_EQ(detail::processor_name("  Shanghai  ", 7, 59), "Shanghai family 7 model 59");
    EXPECT_EQ(detail::processor_name("            ", 6, 1), "unknown family 6 model 1");
    EXPECT_EQ(detail::processor_name({"VIA\0VIA VIA ", 12}, 6, 15), "VIAVIAVIA family 6 model 15");
}

TEST(Processor, IsChosenByANameOrItsBeginning) {
    const auto chosen = [](const char* wanted) {
        std::string complaint;
        const std::string name = detail::choose_processor(wanted, genoa, complaint);
        EXPECT_EQ(complaint, "") << wanted;
        return name;
    };
    EXPECT_EQ(chosen(nullptr), genoa);
    EXPECT_EQ(chosen(""), genoa);
    EXPECT_EQ(chosen("GenuineIntel"), "GenuineIntel");
    EXPECT_EQ(chosen("GenuineIntel family 6"), "GenuineIntel family 6");
    EXPECT_EQ(chosen(rocket), rocket);
    for (const char* wrong :
         {"Genuine Intel", "GenuineIntel family", "GenuineIntel family six", "GenuineIntel 6",
          "GenuineIntel family 6 model", "GenuineIntel family 6 model 167 stepping 1", "GenuineIntel  family 6",
          "GenuineIntel family -6", "GenuineIntel family 06", " ", "TheNameOfAVendorThatIsTooLong"}) {
        std::string complaint;
        EXPECT_EQ(detail::choose_processor(wrong, genoa, complaint), genoa) << wrong;
        EXPECT_EQ(complaint, "fusebn: FUSEBN_PROCESSOR=" + std::string(wrong) +
                                 " is not a processor's name (such as AuthenticAMD family 25 model 17, or how one "
                                 "begins); using AuthenticAMD family 25 model 17");
    }
}

TEST(Processor, IsOneOfThoseWhoseNamesBeginAlike) {
    EXPECT_TRUE(is_for_processor("", genoa));
    EXPECT_TRUE(is_for_processor("", ""));
    EXPECT_TRUE(is_for_processor("AuthenticAMD", genoa));
    EXPECT_TRUE(is_for_processor("AuthenticAMD family 25", genoa));
    EXPECT_TRUE(is_for_processor(genoa, genoa));
    EXPECT_FALSE(is_for_processor("AuthenticAMD family 2", genoa)) << "words are whole";
    EXPECT_FALSE(is_for_processor("AuthenticAMD family 25 model 1", genoa));
    EXPECT_FALSE(is_for_processor("GenuineIntel", genoa));
    EXPECT_FALSE(is_for_processor(genoa, "AuthenticAMD")) << "of which this one is one of many";
    EXPECT_FALSE(is_for_processor("AuthenticAMD", ""));
}

class Variants : public testing::Test {
protected:
    FakeLibrary library;
    alignas(64) float x_[36] = {}, y_[36] = {};

    // What describes the variant that `processor` takes for x, or why it takes none.
    std::string taken(std::string_view processor) {
        detail::KernelIndex index;
        const Status built = index.build(library.table(), 4, Activation::none, processor);
        if (!built.ok()) return built.message();
        const ConstTensor x = tensor(static_cast<const float*>(x_), Layout::NCL, {1, 4, 9}),
                          y = tensor(static_cast<const float*>(y_), Layout::NCL, {1, 4, 9});
        const detail::Given given[] = {{detail::Role::x, "x", &x}, {detail::Role::out, "y", &y}};
        detail::Call call;
        EXPECT_TRUE(detail::check_call(1, 4, given, 2, call).ok());
        const detail::Choice choice = index.find(Op::inference, Residual::none, call);
        if (choice.kernel == nullptr) return index.refusal(Op::inference, Residual::none, call, x).message();
        const std::string text = describe(choice);
        return text.substr(text.find(' ') + 1);
    }
    static FakeVariant variant(InstructionSet isa, const char* processor = nullptr) {
        FakeVariant v{isa};
        v.processor = processor;
        return v;
    }
};

TEST_F(Variants, AreTakenByTheMostOfAProcessorsNameThatOneSays) {
    using enum InstructionSet;
    library.add(Op::inference, View::planar, {1, 4, 9},
                {variant(x86_64), variant(x86_64, "GenuineIntel"), variant(x86_64, rocket),
                 variant(x86_64, "GenuineIntel family 6")});
    EXPECT_EQ(taken(genoa), "x86-64 [plain loops]");
    EXPECT_EQ(taken(""), "x86-64 [plain loops]");
    EXPECT_EQ(taken("GenuineIntel"), "x86-64 for GenuineIntel [plain loops]");
    EXPECT_EQ(taken("GenuineIntel family 19 model 1"), "x86-64 for GenuineIntel [plain loops]");
    EXPECT_EQ(taken("GenuineIntel family 6 model 143"), "x86-64 for GenuineIntel family 6 [plain loops]");
    EXPECT_EQ(taken(rocket), "x86-64 for " + std::string(rocket) + " [plain loops]");
}

TEST_F(Variants, OfABetterInstructionSetComeBeforeThoseForTheProcessor) {
    using enum InstructionSet;
    if (!supports(x86_64_avx2)) GTEST_SKIP() << "this CPU has no AVX2";
    library.add(Op::inference, View::planar, {1, 4, 9},
                {variant(x86_64), variant(x86_64, genoa), variant(x86_64_avx2), variant(x86_64_avx2, rocket)});
    EXPECT_EQ(taken(genoa), "x86-64-avx2 [plain loops]");
    EXPECT_EQ(taken(rocket), "x86-64-avx2 for " + std::string(rocket) + " [plain loops]");
}

TEST_F(Variants, ForOtherProcessorsAloneAreNamedInTheRefusal) {
    library.add(Op::inference, View::planar, {1, 4, 9},
                {variant(InstructionSet::x86_64, "GenuineIntel"), variant(InstructionSet::x86_64, "CentaurHauls")});
    EXPECT_EQ(taken(rocket), "x86-64 for GenuineIntel [plain loops]");
    const std::string message = taken(genoa);
    EXPECT_NE(message.find("is built for x86-64 on GenuineIntel, x86-64 on CentaurHauls, but"), std::string::npos)
        << message;
}

}  // namespace
}  // namespace fusebn::test
