// What digits_mlp and digits_cnn have in common: the options, the training, what is printed and written.
#pragma once

#include "training.h"

namespace digits {

struct Program {
    const char* name;         // "digits_mlp"
    const char* network;      // "mlp", in the file of results
    const char* description;  // "64-128-128-10"
    MakeNetwork make;
};

// The exit status.
int run(const Program& program, int argc, char** argv);

}  // namespace digits
