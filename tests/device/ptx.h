// Runs the PTX of the runtime's own kernels on the host, one thread after the other: of PTX as much as they use.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fake_cuda.h"

namespace fusebn::test {

class PtxKernel {
public:
    // `text`: from the parameters' "(" to the body's "}". Throws std::runtime_error for what it does not know.
    explicit PtxKernel(const std::string& text);

    std::vector<std::size_t> argument_bytes() const;
    void run(const FakeLaunch& launch) const;

private:
    using Values = std::vector<std::uint64_t>;  // registers, parameters and constants, by their number
    using Operation = void (*)(Values& values, const int* operands);
    struct Instruction {
        Operation operation = nullptr;  // null: a jump
        int operands[4] = {};
        int guard = -1;   // the predicate, or none
        int target = -1;  // of a jump; the end of the body for ret
    };

    int value(const std::string& name);
    void decode(const std::string& line, std::vector<std::pair<std::size_t, std::string>>& jumps);
    void run_thread(Values values) const;

    std::map<std::string, int> numbers_;
    Values initial_;
    std::vector<std::pair<int, std::size_t>> parameters_;  // the number of each, and its size
    std::vector<Instruction> body_;
    std::map<std::string, int> labels_;
};

// All kernels of a module's text, by their names.
std::map<std::string, std::shared_ptr<const PtxKernel>> ptx_kernels(const std::string& text);

}  // namespace fusebn::test
