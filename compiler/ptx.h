// PTX: made exact, assembled, and what the assembler says of it.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace fusebn {

// The same PTX in which every multiplication and addition of floats is rounded by itself: LLVM contracts them whatever
// it is told, and ptxas does so with those that name no rounding.
std::string without_contraction(const std::string& ptx);

// The same PTX with the most registers that each of these functions may take, {name, registers}.
std::string with_register_limits(const std::string& ptx, const std::vector<std::pair<std::string, int>>& limits);

// What one function takes, in the words of `ptxas -v`.
struct DeviceFunction {
    std::string name;
    int registers = 0;
    int spill_bytes = 0;  // stored and loaded
    int stack_bytes = 0;
};

struct Cubin {
    int sm = 0;
    std::string bytes;
    std::vector<DeviceFunction> functions;
};

// The assembler of a CUDA toolkit: $FUSEBN_PTXAS, $CUDA_HOME/bin, $PATH, /usr/local/cuda/bin. Nothing where there is
// none. $FUSEBN_PTXAS set to nothing means none, too.
std::optional<std::string> find_ptxas();

// Throws std::runtime_error with what ptxas says.
Cubin assemble(const std::string& ptxas, const std::string& ptx, int sm);

}  // namespace fusebn
