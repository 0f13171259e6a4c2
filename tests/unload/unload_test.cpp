// A module that runs layers is loaded, used and unloaded: nothing of it stays.

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <filesystem>
#include <iterator>
#include <string>

namespace {

using RunLayer = const char*(int threads, unsigned long long* sum);

class Module {
public:
    explicit Module(const char* path) : path_(path), handle_(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
        EXPECT_NE(handle_, nullptr) << dlerror();
    }
    ~Module() { EXPECT_EQ(dlclose(handle_), 0) << path_; }
    Module(const Module&) = delete;
    Module& operator=(const Module&) = delete;

    // A number that says which bits y has.
    unsigned long long run(int threads) {
        auto* run_layer = reinterpret_cast<RunLayer*>(dlsym(handle_, "run_layer"));
        if (run_layer == nullptr) {
            ADD_FAILURE() << dlerror();
            return 0;
        }
        unsigned long long sum = 0;
        const char* failure = run_layer(threads, &sum);
        EXPECT_EQ(failure, nullptr) << failure;
        return sum;
    }

private:
    const char* path_;
    void* handle_;
};

bool is_loaded(const char* path) {
    void* handle = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    if (handle != nullptr) dlclose(handle);
    return handle != nullptr;
}

int threads_of_this_process() {
    return static_cast<int>(
        std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator()));
}

TEST(Unload, LeavesNoThreadNoCodeAndNoMemoryBehindFiftyTimes) {
    const int threads = threads_of_this_process();
    unsigned long long first = 0;
    std::size_t in_use = 0;
    for (int turn = 0; turn < 50; ++turn) {
        {
            Module module(FUSEBN_MODULE_ONE);
            const unsigned long long sum = module.run(2);
            if (turn == 0) first = sum;
            ASSERT_EQ(sum, first) << turn;
            ASSERT_EQ(threads_of_this_process(), threads + 1) << "the kernels are to run in parallel here";
            ASSERT_TRUE(is_loaded(FUSEBN_MODULE_ONE));
        }
        ASSERT_EQ(threads_of_this_process(), threads) << turn;
        ASSERT_FALSE(is_loaded(FUSEBN_MODULE_ONE)) << turn;
        if (turn == 0) in_use = mallinfo2().uordblks;
    }
    // The sums of NHWC take more than 4 KB, which the runtime keeps from call to call.
    EXPECT_LT(mallinfo2().uordblks, in_use + 49 * 1024);
}

TEST(Unload, OfOneModuleLeavesTheOtherAtWork) {
    const int threads = threads_of_this_process();
    for (int turn = 0; turn < 10; ++turn) {
        Module one(FUSEBN_MODULE_ONE);
        const unsigned long long sum = one.run(2);
        {
            Module two(FUSEBN_MODULE_TWO);
            ASSERT_EQ(two.run(3), sum);
            ASSERT_EQ(one.run(2), sum);
            ASSERT_EQ(threads_of_this_process(), threads + 3) << "each has a pool of its own";
        }
        ASSERT_FALSE(is_loaded(FUSEBN_MODULE_TWO));
        ASSERT_EQ(threads_of_this_process(), threads + 1);
        ASSERT_EQ(one.run(2), sum);
    }
    EXPECT_FALSE(is_loaded(FUSEBN_MODULE_ONE));
    EXPECT_EQ(threads_of_this_process(), threads);
}

TEST(Unload, OfAModuleThatRanNothingIsAsClean) {
    const int threads = threads_of_this_process();
    { const Module module(FUSEBN_MODULE_ONE); }
    EXPECT_FALSE(is_loaded(FUSEBN_MODULE_ONE));
    EXPECT_EQ(threads_of_this_process(), threads);
}

}  // namespace
