// Damaged manifests: what is said of them names the key, and no code is made of one.

#include "compiler/manifest.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "codegen/generated.h"
#include "compiler/files.h"
#include "compiler/inspect.h"
#include "compiler/plan.h"
#include "compiler/variant.h"

using namespace fusebn;
using namespace codegen;

namespace {

Manifest example() {
    Manifest m;
    m.name = "example";
    m.generator = generator_version();
    m.digest = "0123456789abcdef0123456789abcdef";
    m.library_bytes = 12345;
    m.kernels =
        plan({m.name, {InstructionSet::x86_64}, {{planar(Op::inference, 4, 16, 256), "vector=8", 0}}}, m.caches);
    m.kernels.resize(1);
    return m;
}

// The example with the first value of `key` replaced.
std::string with(const std::string& key, const std::string& value) {
    std::string text = to_json(example());
    const std::string start = "\"" + key + "\": ";
    const std::size_t begin = text.find(start) + start.size();
    const char opening = text[begin];
    const char closing = opening == '[' ? ']' : opening == '{' ? '}' : '\0';
    std::size_t end = closing != '\0' ? text.find(closing, begin) + 1 : text.find_first_of(",\n", begin);
    if (opening == '"') end = text.find('"', begin + 1) + 1;
    return text.replace(begin, end - begin, value);
}

std::string said(const std::string& text) {
    return refusal([&] { manifest_from_json(text); });
}

TEST(DamagedManifests, OfAKernelWithoutVariantsNoCodeIsMade) {
    const TemporaryFolder folder;
    const std::string path = folder / "example.json";
    for (const char* variants : {"[]", "null", "{}"}) {
        write_file(path, with("variants", variants));
        for (const auto show :
             {InspectOptions::Show::summary, InspectOptions::Show::statement, InspectOptions::Show::assembly}) {
            EXPECT_EQ(refusal([&] {
                          inspect({path, "planar", "", show});
                      }),
                      path + ": not a manifest of fusebn: kernels[0].variants: found " + variants +
                          "; expected an array of one or more variants");
        }
    }
}

TEST(DamagedManifests, AreSaidWithTheKeysPath) {
    ASSERT_EQ(said(to_json(example())), "");
    EXPECT_EQ(said(with("op", "\"backwards\"")),
              "kernels[0].op: found \"backwards\"; expected \"inference\", \"train_forward\", \"backward\"");
    EXPECT_EQ(said(with("dtype", "32")), "kernels[0].dtype: found 32; expected \"f32\", \"bf16\", \"f16\"");
    EXPECT_EQ(said(with("large", "0")), "kernels[0].large: found 0; expected true or false");
    EXPECT_EQ(said(with("extents", "[1, 2]")), "kernels[0].extents: found an array of 2; expected three extents");
    EXPECT_EQ(said(with("extents", "[1, -2, 3]")),
              "kernels[0].extents[1]: found -2; expected a number from 1 to 1073741824");
    EXPECT_EQ(said(with("symbol", "null")), "kernels[0].variants[0].symbol: found null; expected a string");
    EXPECT_EQ(
        said(with("schedule", "\"wings=2\"")).rfind("kernels[0].variants[0].schedule: schedule: found \"wings", 0), 0u);
    EXPECT_EQ(said(with("kernels", "[]]")).rfind("found no JSON, by a mistake at byte ", 0), 0u);
    EXPECT_EQ(said("{\"name\": \"x\"}"), "generator: found none; expected one");
    EXPECT_EQ(said("[]"), "found []; expected an object");
    EXPECT_EQ(said("{\"name\": " + std::string(100000, '[') + std::string(100000, ']') + "}"),
              "name: found an array of 1; expected a string");
    for (const char* number : {"-1", "1.5", "1e300", "99999999999999999999", "18446744073709551615", "true"}) {
        EXPECT_EQ(said(with("library_bytes", number)).rfind("library_bytes: found ", 0), 0u) << number;
    }
}

TEST(DamagedManifests, OfAScheduleThatIsNotLegalNoCodeIsMade) {
    const TemporaryFolder folder;
    const std::string path = folder / "example.json";
    write_file(path, with("schedule", "\"vector=3\""));
    EXPECT_EQ(refusal([&] {
                  inspect({path, "planar", "", InspectOptions::Show::assembly});
              }).rfind(path + ": not a manifest of fusebn: schedule.vector: found 3 for bn_inference", 0),
              0u);
}

TEST(DamagedManifests, AFileWithoutAnEndIsRefused) {
    const TemporaryFolder folder;
    ASSERT_EQ(symlink("/dev/zero", (folder / "endless.json").c_str()), 0);
    EXPECT_NE(refusal([&] {
                  inspect({folder / "endless.json", "", "", InspectOptions::Show::summary});
              }).find("found more than 268435456 bytes; allowed: that many at most"),
              std::string::npos);
}

}  // namespace
