// How the importer's script is run: the arguments and the exit status go through, a missing Python is explained.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "compiler/import.h"

namespace fusebn {
namespace {

// A directory with a stand-in for Python: a shell script that does as `body` says.
class RunImport : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = testing::TempDir() + "/run_importXXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        directory_ = pattern;
    }
    void TearDown() override {
        unsetenv("FUSEBN_PYTHON");
        std::filesystem::remove_all(directory_);
    }

    void use_python(const std::string& body) {
        const std::string path = directory_ + "/python";
        std::ofstream(path) << "#!/bin/sh\n" << body << "\n";
        chmod(path.c_str(), 0755);
        setenv("FUSEBN_PYTHON", path.c_str(), 1);
    }

    std::string directory_;
};

TEST_F(RunImport, PassesOnTheScriptAndEveryArgumentAsItIs) {
    use_python("printf '%s|' \"$@\"");
    testing::internal::CaptureStdout();
    EXPECT_EQ(run_import({"a b.onnx", "--batch", "4", "", "$HOME"}), 0);
    const std::string said = testing::internal::GetCapturedStdout();
    EXPECT_NE(said.find("import_onnx.py|a b.onnx|--batch|4||$HOME|"), std::string::npos) << said;
}

TEST_F(RunImport, ReturnsTheExitStatusOfTheScript) {
    use_python("exit 7");
    EXPECT_EQ(run_import({}), 7);
}

TEST_F(RunImport, ReturnsTheSignalThatEndedTheScript) {
    use_python("kill -9 $$");
    EXPECT_EQ(run_import({}), 128 + 9);
}

TEST_F(RunImport, SaysSoWhereTheScriptSucceedsAndWritesNothing) {
    const std::string spec = directory_ + "/spec.toml";
    const auto said = [&](const std::vector<std::string>& args, int status) {
        testing::internal::CaptureStderr();
        EXPECT_EQ(run_import(args), status);
        return testing::internal::GetCapturedStderr();
    };
    use_python("exit 0");
    const std::string nothing = "fusebn import: " + spec + ": nothing was written to it";
    EXPECT_EQ(said({"a.onnx", "-o", spec}, 1).rfind(nothing, 0), 0u);
    std::ofstream(spec) << "old";
    for (const std::string& word : {"-o" + spec, "--output=" + spec}) {
        EXPECT_EQ(said({"a.onnx", word}, 1).rfind(nothing, 0), 0u) << word;
    }
    EXPECT_EQ(said({"-o", spec, "--help"}, 0), "");
    EXPECT_EQ(said({"-o", "-"}, 0), "");
    EXPECT_EQ(said({"-o", "/dev/null"}, 0), "");
    use_python("echo new > \"$4.new\"; mv \"$4.new\" \"$4\"");
    EXPECT_EQ(said({"-o", spec}, 0), "");
}

TEST_F(RunImport, SaysWhatToInstallWhenPythonIsMissing) {
    setenv("FUSEBN_PYTHON", (directory_ + "/none").c_str(), 1);
    testing::internal::CaptureStderr();
    EXPECT_EQ(run_import({}), 1);
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_NE(said.find("/none) cannot be run: No such file or directory; install Python"), std::string::npos) << said;
    EXPECT_NE(said.find("pip install onnx"), std::string::npos) << said;
}

}  // namespace
}  // namespace fusebn
