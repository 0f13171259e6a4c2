// PTX as tests look at it: the accesses of a function, and which of its pointers each goes through.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

namespace codegen {

struct GlobalAccess {
    std::string parameter;  // of the function; the pointer that the address is made from
    std::string text;       // the instruction
    bool store;
    int bytes;
};

// Every load from and store to global memory of the functions whose names begin with `prefix`, by function. Throws
// std::runtime_error where an address is made from no pointer, or from two.
std::map<std::string, std::vector<GlobalAccess>> global_accesses(const std::string& ptx, const std::string& prefix);

}  // namespace codegen
