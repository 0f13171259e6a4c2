// The file form of a layer's state.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <thread>
#include <utility>

#include "fake_library.h"

namespace fusebn::test {
namespace {

class StateFile : public testing::Test {
protected:
    FakeLibrary library_ = generic_library();
    BatchNorm2d layer_{3, library_.table()};
    std::filesystem::path folder_ =
        std::filesystem::temp_directory_path() / ("fusebn_state_" + std::to_string(::getpid()));
    std::string path_ = (folder_ / "layer.safetensors").string();

    void SetUp() override { std::filesystem::create_directory(folder_); }
    void TearDown() override { std::filesystem::remove_all(folder_); }

    static BatchNormState some_state() {
        return {{1, 2, 3}, {4, 5, 6}, {-7, 8, std::numeric_limits<float>::infinity()}, {0, 1e-30f, 9}, 1234567890123};
    }
    static std::string data() {
        std::string bytes(56, '\0');
        const BatchNormState state = some_state();
        std::memcpy(bytes.data(), &state.num_batches_tracked, 8);
        std::memcpy(bytes.data() + 8, state.gamma.data(), 12);
        std::memcpy(bytes.data() + 20, state.beta.data(), 12);
        std::memcpy(bytes.data() + 32, state.running_mean.data(), 12);
        std::memcpy(bytes.data() + 44, state.running_var.data(), 12);
        return bytes;
    }
    static std::string header(const std::string& replaced = "", const std::string& by = "") {
        std::string text = R"({"num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
                           R"("weight":{"dtype":"F32","shape":[3],"data_offsets":[8,20]},)"
                           R"("bias":{"dtype":"F32","shape":[3],"data_offsets":[20,32]},)"
                           R"("running_mean":{"dtype":"F32","shape":[3],"data_offsets":[32,44]},)"
                           R"("running_var":{"dtype":"F32","shape":[3],"data_offsets":[44,56]}})";
        if (!replaced.empty()) {
            const std::size_t at = text.find(replaced);
            EXPECT_NE(at, std::string::npos) << replaced;
            text.replace(at, replaced.size(), by);
        }
        return text;
    }
    void write(const std::string& bytes) { std::ofstream(path_, std::ios::binary) << bytes; }
    static std::string file(const std::string& header, const std::string& data) {
        std::string length(8, '\0');
        const std::uint64_t size = header.size();
        std::memcpy(length.data(), &size, 8);
        return length + header + data;
    }
    void expect_equal(const BatchNormState& a, const BatchNormState& b) {
        EXPECT_EQ(a.gamma, b.gamma);
        EXPECT_EQ(a.beta, b.beta);
        EXPECT_EQ(a.running_mean, b.running_mean);
        EXPECT_EQ(a.running_var, b.running_var);
        EXPECT_EQ(a.num_batches_tracked, b.num_batches_tracked);
    }
    void expect_refused(ErrorCode code, const std::string& bytes, const std::string& words = "") {
        write(bytes);
        const BatchNormState before = layer_.state();
        const Status s = layer_.load(path_);
        EXPECT_EQ(s.code(), code) << s.message();
        EXPECT_NE(s.message().find(words), std::string::npos) << s.message();
        expect_equal(layer_.state(), before);
    }
};

TEST_F(StateFile, ComesBackAsItWasSaved) {
    ASSERT_TRUE(layer_.set_state(some_state()).ok());
    for (const std::string prefix : {"", "bn1.", "layer \"ü\"."}) {
        const Status saved = layer_.save(path_, prefix);
        ASSERT_TRUE(saved.ok()) << saved.message();
        BatchNorm2d other(3, library_.table());
        const Status loaded = other.load(path_, prefix);
        ASSERT_TRUE(loaded.ok()) << loaded.message();
        expect_equal(other.state(), some_state());
        EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1) << "nothing else is left";
    }
    bool reported = false;
    Diagnostics diagnostics;
    diagnostics.report = [&](const Diagnostic&) { reported = true; };
    BatchNorm2d evaluated(3, library_.table());
    ASSERT_TRUE(evaluated.set_diagnostics(diagnostics).ok());
    evaluated.eval();
    ASSERT_TRUE(evaluated.load(path_, "layer \"ü\".").ok());
    std::vector<float> x(6);
    const Tensor view = tensor(x.data(), Layout::NCHW, {2, 3, 1, 1});
    EXPECT_TRUE(evaluated.forward(view, view).ok());
    EXPECT_FALSE(reported) << "the running statistics are known";
    EXPECT_EQ(layer_.load(path_, "bn2.").code(), ErrorCode::bad_file);
    EXPECT_NE(layer_.load(path_, "bn2.").message().find("bn2.num_batches_tracked"), std::string::npos);
}

TEST_F(StateFile, HoldsOnlyWhatTheLayerHas) {
    for (const bool affine : {true, false}) {
        for (const bool tracks : {true, false}) {
            BatchNormOptions options;
            options.affine = affine;
            options.track_running_stats = tracks;
            BatchNorm2d layer(3, library_.table(), options);
            ASSERT_TRUE(layer.save(path_).ok());
            std::ifstream in(path_, std::ios::binary);
            const std::string text((std::istreambuf_iterator<char>(in)), {});
            EXPECT_EQ(text.find("\"weight\"") != std::string::npos, affine);
            EXPECT_EQ(text.find("\"bias\"") != std::string::npos, affine);
            EXPECT_EQ(text.find("\"running_mean\"") != std::string::npos, tracks);
            EXPECT_EQ(text.find("\"num_batches_tracked\"") != std::string::npos, tracks);
            std::uint64_t header_bytes = 0;
            std::memcpy(&header_bytes, text.data(), 8);
            EXPECT_EQ(header_bytes % 8, 0u);
            EXPECT_EQ(text.size() - 8 - header_bytes, (affine ? 24u : 0u) + (tracks ? 32u : 0u));
            EXPECT_TRUE(layer.load(path_).ok());
        }
    }
}

TEST_F(StateFile, LosesWhatTheLayerHasNoPlaceFor) {
    ASSERT_TRUE(layer_.set_state(some_state()).ok());
    ASSERT_TRUE(layer_.save(path_).ok());
    BatchNormOptions options;
    options.affine = false;
    BatchNorm2d plain(3, library_.table(), options);
    ASSERT_TRUE(plain.load(path_).ok());
    BatchNormState expected = some_state();
    expected.gamma = expected.beta = {};
    expect_equal(plain.state(), expected);
    options = {};
    options.track_running_stats = false;
    BatchNorm2d untracked(3, library_.table(), options);
    ASSERT_TRUE(untracked.load(path_).ok());
    expect_equal(untracked.state(), {some_state().gamma, some_state().beta, {}, {}, 0});
}

TEST_F(StateFile, MayHoldOtherTensorsAndMetadata) {
    std::string with_others = header("{\"num", R"({"__metadata__":{"format":"pt"},"conv.weight":{"dtype":"BF16",)"
                                               R"("shape":[2,2],"data_offsets":[56,64]},"num)");
    write(file(with_others, data() + std::string(8, 'x')));
    const Status s = layer_.load(path_);
    ASSERT_TRUE(s.ok()) << s.message();
    expect_equal(layer_.state(), some_state());
}

TEST_F(StateFile, ThatIsMalformedLeavesTheLayerAsItWas) {
    const auto bad = ErrorCode::bad_file;
    write(file(header(), data()));
    ASSERT_TRUE(BatchNorm2d(3, library_.table()).load(path_).ok()) << "what the cases below break is whole";

    const std::string whole = file(header(), data());
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{7}, std::size_t{8}, std::size_t{100}, whole.size() - 1}) {
        expect_refused(bad, whole.substr(0, size));
    }
    expect_refused(bad, std::string(8, '\xff') + header() + data(), "its header's length");
    expect_refused(bad, std::string("\0\0\x20\0\0\0\0\0", 8) + std::string(1 << 22, ' '), "1048576 at most");
    expect_refused(bad, file("", data()), "cannot be parsed");
    expect_refused(bad, file("{", data()), "cannot be parsed");
    expect_refused(bad, file("[]", data()), "no JSON object");
    expect_refused(bad, file("{}", ""), "no tensor \"num_batches_tracked\"");
    expect_refused(bad, file(std::string(100000, '['), data()), "too deep");
    expect_refused(bad, file("{\"weight\":3}", data()), "data_offsets");
    expect_refused(bad, file(header("\"weight\"", "\"weights\""), data()), "no tensor \"weight\"");
    expect_refused(bad, file(header("\"F32\"", "\"F16\""), data()), "has dtype \"F16\"; expected F32");
    expect_refused(bad, file(header("\"F32\"", "32"), data()), "dtype 32");
    expect_refused(bad, file(header("\"I64\"", "\"I32\""), data()), "expected I64");
    expect_refused(bad, file(header("\"dtype\":\"F32\",", ""), data()), "dtype none");
    expect_refused(
        bad, file(header("[8,20]", R"([8,16]},"more":{"dtype":"F32","shape":[1],"data_offsets":[16,20])"), data()),
        "its shape needs 12");
    expect_refused(bad, file(header("[8,20]", "[4,16]"), data()), "share bytes");
    expect_refused(bad, file(header("[20,32]", "[8,20]"), data()), "share bytes");
    expect_refused(bad, file(header("[44,56]", "[48,60]"), data()), "data_offsets within");
    expect_refused(bad, file(header("[44,56]", "[56,44]"), data()), "data_offsets within");
    expect_refused(bad, file(header("[44,56]", "[18446744073709551604,18446744073709551615]"), data()), "data_offsets");
    expect_refused(bad, file(header("[44,56]", "[44,18446744073709551616]"), data()), "data_offsets");
    expect_refused(bad, file(header("[44,56]", "[-12,0]"), data()), "data_offsets");
    expect_refused(bad, file(header("[44,56]", "[44.0,56]"), data()), "data_offsets");
    expect_refused(bad, file(header("[44,56]", "[44]"), data()), "data_offsets");
    expect_refused(bad, file(header("[44,56]", "{\"a\":44}"), data()), "data_offsets");
    expect_refused(ErrorCode::shape_mismatch, file(header("\"shape\":[3]", "\"shape\":[4]"), data()), "shape [4]");
    expect_refused(ErrorCode::shape_mismatch, file(header("\"shape\":[3]", "\"shape\":[1,3]"), data()), "shape [1,3]");
    expect_refused(ErrorCode::shape_mismatch, file(header("\"shape\":[]", "\"shape\":[1]"), data()));
    std::string negative = data();
    const float minus = -1;
    std::memcpy(negative.data() + 48, &minus, 4);
    expect_refused(bad, file(header(), negative), "running_var[1] is negative");
}

TEST_F(StateFile, ThatTheFormatForbidsLeavesTheLayerAsItWas) {
    const auto bad = ErrorCode::bad_file;
    const auto expect_bad = [&](const std::string& replaced, const std::string& by, const std::string& words) {
        SCOPED_TRACE(by);
        expect_refused(bad, file(header(replaced, by), data()), words);
    };
    // Of two that are called the same other readers may take the other.
    const std::string bias = R"({"dtype":"F32","shape":[3],"data_offsets":[20,32]})";
    const std::string twice = "the key \"weight\" is there twice";
    expect_bad("\"bias\"", "\"weight\"", twice);
    expect_bad("\"bias\"", "\"\\u0077eight\"", twice);
    expect_bad("\"bias\":" + bias, "\"weight\":" + bias + ",\"bias\":" + bias, twice);
    expect_bad("\"dtype\":\"F32\"", R"("dtype":"F32","dtype":"F64")", "the key \"dtype\" is there twice");
    expect_bad("{\"num", R"({"__metadata__":{"a":"1","a":"1"},"num)", "the key \"a\" is there twice");

    expect_refused(bad, file(header(), data() + "x"), "bytes 56 to 57 of its 57 bytes of data are no tensor's");
    const std::string gap = data().insert(8, "gap!");
    std::string behind_a_gap = header();
    for (const auto& [from, to] :
         {std::pair("[44,56]", "[48,60]"), {"[32,44]", "[36,48]"}, {"[20,32]", "[24,36]"}, {"[8,20]", "[12,24]"}}) {
        behind_a_gap.replace(behind_a_gap.find(from), std::strlen(from), to);
    }
    expect_refused(bad, file(behind_a_gap, gap), "bytes 8 to 12 of its 60 bytes of data are no tensor's");

    for (const std::string shape : {"[3.0]", "[-3]", "[[3]]", "\"3\"", "null", "{}", "3"}) {
        expect_bad("\"shape\":[3]", "\"shape\":" + shape, "tensor \"weight\" has shape " + shape + ";");
    }
    expect_bad("\"shape\":[3],", "", "tensor \"weight\" has shape none;");
    expect_bad("{\"num", R"({"other":{"dtype":"F32","shape":[0.0],"data_offsets":[0,0]},"num)", "shape [0.0]");
    expect_bad("{\"num", R"({"other":{"dtype":3,"shape":[0],"data_offsets":[0,0]},"num)", "dtype 3");

    expect_bad("{\"num", R"({"__metadata__":{"a":"1","b":1},"num)", "\"b\" in its __metadata__ is 1;");
    expect_bad("{\"num", R"({"__metadata__":{"a":{"b":"1"}},"num)", "\"a\" in its __metadata__ is {\"b\":\"1\"};");
    expect_bad("{\"num", R"({"__metadata__":["a"],"num)", "its __metadata__ is no JSON object");

    expect_bad("{\"num", " {\"num", "does not begin with a {");
    expect_refused(bad, file(header() + '\0', data()), "a zero byte");
    expect_refused(bad, file(header() + '\0' + "{\"", data()), "a zero byte");
    write(file(header() + "  ", data()));
    EXPECT_TRUE(layer_.load(path_).ok()) << "spaces at the end are the format's own";
}

TEST_F(StateFile, ThatNoPathNamesIsAnIoError) {
    const auto expect_refused = [&](const std::string& path, const std::string& words) {
        for (const Status& s : {layer_.save(path), layer_.load(path)}) {
            EXPECT_EQ(s.code(), ErrorCode::io_error);
            EXPECT_NE(s.message().find(words), std::string::npos) << s.message();
        }
    };
    expect_refused("", "path: it is empty");
    write(file(header(), data()));
    expect_refused(path_ + '\0' + "x", "path: it has a zero byte behind \"" + path_ + "\"");
    expect_refused(std::string(1, '\0'), "path: it has a zero byte behind \"\"");
    const std::string none = (folder_ / "none" / "file").string();
    EXPECT_EQ(layer_.save(none).message().rfind(none + ": cannot be written", 0), 0u) << layer_.save(none).message();
    EXPECT_EQ(layer_.save(none).message().find(".tmp"), std::string::npos) << layer_.save(none).message();
}

TEST_F(StateFile, ThatCannotBeReadOrWrittenIsAnIoError) {
    EXPECT_EQ(layer_.load((folder_ / "none").string()).code(), ErrorCode::io_error);
    EXPECT_EQ(layer_.load(folder_.string()).code(), ErrorCode::io_error);
    EXPECT_EQ(layer_.load("").code(), ErrorCode::io_error);
    const std::string fifo = (folder_ / "fifo").string();
    ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
    EXPECT_EQ(layer_.load(fifo).code(), ErrorCode::io_error) << "and does not wait";
    EXPECT_EQ(layer_.save((folder_ / "none" / "file").string()).code(), ErrorCode::io_error);
    std::filesystem::create_directory(folder_ / "folder");
    EXPECT_EQ(layer_.save((folder_ / "folder").string()).code(), ErrorCode::io_error) << "a folder is not replaced";
    EXPECT_EQ(layer_.save(path_, "\xff").code(), ErrorCode::invalid_argument) << "no UTF-8";
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 2) << "the fifo and the folder";
}

TEST_F(StateFile, TakesThePlaceOfRegularFilesOnly) {
    const auto expect_stays = [&](const std::string& path) {
        struct stat before {
        }, after{};
        ASSERT_EQ(lstat(path.c_str(), &before), 0) << path;
        const Status s = layer_.save(path);
        EXPECT_EQ(s.code(), ErrorCode::io_error) << path;
        EXPECT_NE(s.message().find("no regular file"), std::string::npos) << s.message();
        ASSERT_EQ(lstat(path.c_str(), &after), 0) << path;
        EXPECT_EQ(after.st_mode, before.st_mode) << path;
        EXPECT_EQ(after.st_ino, before.st_ino) << path;
    };
    const std::string fifo = (folder_ / "fifo").string(), folder = (folder_ / "folder").string();
    ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
    std::filesystem::create_directory(folder);
    std::filesystem::create_symlink("fifo", folder_ / "link");
    std::filesystem::create_symlink("folder", folder_ / "folder_link");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string bound = (folder_ / "socket").string();
    ASSERT_LT(bound.size(), sizeof(address.sun_path));
    std::memcpy(address.sun_path, bound.c_str(), bound.size() + 1);
    const int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
    ASSERT_EQ(bind(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    for (const char* name : {"fifo", "folder", "link", "folder_link", "socket"})
        expect_stays((folder_ / name).string());
    expect_stays(folder + "/");
    close(descriptor);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 5) << "nothing else is left";
}

TEST_F(StateFile, IsSavedThroughSymbolicLinks) {
    ASSERT_TRUE(layer_.set_state(some_state()).ok());
    std::filesystem::create_directory(folder_ / "there");
    std::filesystem::create_symlink("there/second", folder_ / "first");
    std::filesystem::create_symlink(folder_ / "there" / "file", folder_ / "there" / "second");
    for (const char* what : {"the file is not there yet", "it is"}) {
        const Status s = layer_.save((folder_ / "first").string());
        ASSERT_TRUE(s.ok()) << what << ": " << s.message();
        EXPECT_TRUE(std::filesystem::is_symlink(folder_ / "first")) << what;
        EXPECT_TRUE(std::filesystem::is_symlink(folder_ / "there" / "second")) << what;
        EXPECT_TRUE(std::filesystem::is_regular_file(std::filesystem::symlink_status(folder_ / "there" / "file")));
        BatchNorm2d other(3, library_.table());
        ASSERT_TRUE(other.load((folder_ / "there" / "file").string()).ok()) << what;
        expect_equal(other.state(), some_state());
    }
    std::filesystem::create_symlink("loop", folder_ / "loop");
    EXPECT_EQ(layer_.save((folder_ / "loop").string()).code(), ErrorCode::io_error);
    EXPECT_TRUE(std::filesystem::is_symlink(folder_ / "loop"));
}

TEST_F(StateFile, IsSavedBesideWhatACrashHasLeft) {
    const std::string stem = path_ + "." + std::to_string(::getpid());
    std::ofstream(stem + ".tmp") << "left";
    for (int i = 0; i < 1000; ++i) std::ofstream(stem + "." + std::to_string(i) + ".tmp") << "left";
    const Status s = layer_.save(path_);
    ASSERT_TRUE(s.ok()) << s.message();
    EXPECT_TRUE(layer_.load(path_).ok());
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1002) << "others' files stay";
}

TEST_F(StateFile, IsWholeWhenThreadsSaveToOnePath) {
    ASSERT_TRUE(layer_.set_state(some_state()).ok());
    std::string message[4];
    std::vector<std::thread> threads;
    for (std::string& failed : message) {
        threads.emplace_back([&] {
            for (int i = 0; i < 20; ++i) {
                if (const Status s = layer_.save(path_); !s.ok()) failed = s.message();
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (const std::string& failed : message) EXPECT_EQ(failed, "");
    BatchNorm2d other(3, library_.table());
    ASSERT_TRUE(other.load(path_).ok());
    expect_equal(other.state(), some_state());
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1) << "nothing else is left";
}

TEST_F(StateFile, HasTheModeOfANewFile) {
    write("old");
    ASSERT_EQ(chmod(path_.c_str(), 0600), 0);
    const mode_t before = umask(027);
    const Status s = layer_.save(path_);
    umask(before);
    ASSERT_TRUE(s.ok()) << s.message();
    struct stat information {};
    ASSERT_EQ(stat(path_.c_str(), &information), 0);
    EXPECT_EQ(information.st_mode & 07777, 0640u);
}

TEST_F(StateFile, IsSavedInAFolderThatCannotBeRead) {
    ASSERT_EQ(chmod(folder_.c_str(), 0300), 0);
    const Status s = layer_.save(path_);
    ASSERT_EQ(chmod(folder_.c_str(), 0700), 0);
    EXPECT_TRUE(s.ok()) << s.message();
}

TEST_F(StateFile, MayBeInTheWorkingDirectory) {
    const std::filesystem::path before = std::filesystem::current_path();
    std::filesystem::current_path(folder_);
    const Status s = layer_.save("plain_name");
    std::filesystem::current_path(before);
    EXPECT_TRUE(s.ok()) << s.message();
    EXPECT_TRUE(layer_.load((folder_ / "plain_name").string()).ok());
}

}  // namespace
}  // namespace fusebn::test
