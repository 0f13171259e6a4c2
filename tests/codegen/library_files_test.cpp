// What is at the names of a library's files: refused before anything is written, and told from damage by its contents.

#include "compiler/library_files.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "codegen/generated.h"
#include "compiler/files.h"
#include "compiler/inspect.h"

using namespace fusebn;
using namespace codegen;
namespace fs = std::filesystem;

namespace {

class LibraryFiles : public testing::Test {
protected:
    BuildResult run() {
        return build_files({"built", {InstructionSet::x86_64}, {{interleaved(Op::inference, 256, 16), "", 0}}},
                           {folder.path(), 2, {}, true});
    }
    std::string listed() const {
        return refusal([&] { inspect({library, "", "", InspectOptions::Show::summary}); });
    }
    TemporaryFolder folder;
    std::string library = folder / "libbuilt.a";
};

TEST_F(LibraryFiles, AFolderAtTheirNamesIsRefusedBeforeAnythingIsWritten) {
    for (const char* name : {"libbuilt.a", "built.h", "built.json"}) {
        fs::create_directory(folder / name);
        EXPECT_EQ(refusal([&] { run(); }), "-o " + folder.path() + ": found a folder at " + folder / name +
                                               "; allowed: a file to replace, or nothing");
        EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1) << name;
        fs::remove(folder / name);
    }
    ASSERT_EQ(symlink("/dev/null", (folder / "built.h").c_str()), 0);
    EXPECT_NE(refusal([&] { run(); }).find("found what is no regular file at "), std::string::npos);
}

TEST_F(LibraryFiles, NoNameOfAFolderIsRefused) {
    EXPECT_EQ(refusal([] { check_output("", "built"); }),
              "-o: found \"\"; allowed: a folder, which is made if it is not there");
    EXPECT_EQ(refusal([&] { check_output(folder / "new/one", "built"); }), "");
}

TEST_F(LibraryFiles, ALibraryThatWasDamagedIsSaidAndMadeAgain) {
    const BuildResult first = run();
    EXPECT_EQ(to_json(manifest_from_json(read_file(folder / "built.json"))), to_json(first.manifest));
    EXPECT_TRUE(run().up_to_date);
    EXPECT_EQ(listed(), "");
    const std::string good = read_file(library);
    std::string flipped = good;
    flipped[good.size() / 2] ^= 1;
    const std::string size = std::to_string(good.size());
    for (const auto& [damaged, words] : std::vector<std::pair<std::string, std::string>>{
             {flipped, "found other bytes than its manifest says"},
             {"", "found 0 bytes; its manifest says " + size + ": it was cut short"},
             {good.substr(0, 5000), "found 5000 bytes; its manifest says " + size},
             {good + "more", "found more than " + size + " bytes"}}) {
        write_file(library, damaged);
        EXPECT_EQ(listed().rfind(library + ": " + words, 0), 0u) << listed();
        const BuildResult again = run();
        EXPECT_FALSE(again.up_to_date) << words;
        EXPECT_EQ(again.compiled, 0) << words;
        EXPECT_EQ(read_file(library), good) << words;
        EXPECT_TRUE(run().up_to_date) << words;
        EXPECT_EQ(listed(), "");
    }
    fs::remove(library);
    EXPECT_EQ(listed(), library + ": cannot be read: No such file or directory");
    EXPECT_EQ(refusal([&] { inspect({folder / "built.json", "", "", InspectOptions::Show::summary}); }), "");
}

}  // namespace
