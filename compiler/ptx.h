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

// What one function takes, by `ptxas -v` and by the launch of it.
struct DeviceFunction {
    static constexpr int any = -1;  // known at run time only

    std::string name;
    bool unaligned = false;        // of the entry for any tensors
    int registers = 0;             // of a thread
    int shared_bytes = 0;          // of a block, as compiled ..
    int dynamic_shared_bytes = 0;  // .. and as its launch asks for; or any
    int stack_bytes = 0;           // of a thread
    int spill_bytes = 0;           // of a thread, stored and loaded
    int threads = 0;               // of a block; or any
};

struct Cubin {
    int sm = 0;
    std::string bytes;
    std::vector<DeviceFunction> functions;
};

// The assembler of a CUDA toolkit: $FUSEBN_PTXAS, $CUDA_HOME/bin, $PATH, /usr/local/cuda/bin. Nothing where there is
// none. $FUSEBN_PTXAS set to nothing means none, too.
std::optional<std::string> find_ptxas();

// "13.0.88". Throws std::runtime_error where that is not to be found in what it says.
std::string ptxas_version(const std::string& ptxas);

// Throws std::runtime_error with what ptxas says. What its functions' launches ask for is not filled in.
Cubin assemble(const std::string& ptxas, const std::string& ptx, int sm);

}  // namespace fusebn
