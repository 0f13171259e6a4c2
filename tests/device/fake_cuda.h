// A CUDA driver for tests, whose devices are the host: memory that it gives out is noted with its device, kernels are
// functions by name, and what is queued on a stream runs at once or, while the stream is captured, goes into a graph.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace fusebn::test {

struct FakeLaunch {
    unsigned grid[3], block[3], shared_bytes;
    void** arguments;  // each to its value
};

struct FakeKernel {
    std::vector<std::size_t> argument_bytes;  // so that a graph can keep them
    std::function<void(const FakeLaunch&)> run;
};

struct FakeModule {
    std::string image;
};

class FakeCuda {
public:
    // --- what the test says
    int devices = 2;
    int capability = 90;
    std::map<std::string, FakeKernel> kernels;
    std::set<void*> captured;  // streams
    // The call that fails, counted from 1 from now on, and its code; 0: none. `fail_name`: only calls of this function
    // are counted ("": all).
    int fail_at = 0, fail_code = 719;
    std::string fail_name;
    void fail(int at, int code = 719, const std::string& name = "") {
        fail_at = at, fail_code = code, fail_name = name;
    }

    // --- what it saw
    std::vector<std::string> calls;   // of all functions, in their order
    std::vector<std::string> faults;  // what a driver would not forgive
    std::vector<FakeModule> loaded;   // all that were
    int modules = 0;                  // loaded now
    struct Block {
        std::size_t bytes;
        int device;
        void* context;
    };
    std::map<std::uint64_t, Block> memory;  // given out now
    std::vector<void*> contexts;            // this thread's stack, the current one last
    std::vector<std::function<void()>> graph;
    std::map<std::uint64_t, int> shared_limit;  // of functions

    // A context that is not the primary one.
    void* make_context(int device);
    void replay() const {
        for (const auto& node : graph) node();
    }
    bool failed() const { return has_failed; }
    void forget() { calls.clear(), faults.clear(), graph.clear(), fail(0), has_failed = false; }
    int count(const std::string& name) const;
    bool has_failed = false;
};

extern "C" FakeCuda* fusebn_fake_cuda();
inline FakeCuda& fake_cuda() { return *fusebn_fake_cuda(); }

}  // namespace fusebn::test
