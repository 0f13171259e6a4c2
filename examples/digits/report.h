// What the programs print, and the file they write.
#pragma once

#include <cstdio>
#include <memory>
#include <string>

#include "training.h"

namespace digits {

// The file of --out: a line an epoch of every training.
class Results {
public:
    // Writes nothing where `path` is empty. Throws std::runtime_error: it cannot be written.
    explicit Results(const std::string& path);
    void add(const char* network, const TrainingOptions& training, const Epoch& epoch);
    void close();  // throws where something could not be written

private:
    struct Close {
        void operator()(std::FILE* file) const { std::fclose(file); }
    };
    std::string path_;
    std::unique_ptr<std::FILE, Close> file_;
};

// A bar that fills while an epoch runs and is gone at its end. On a terminal alone.
void draw_bar(int epoch, int epochs, int batch, int batches, double loss);

// The mistake of forgetting eval(): accuracy in evaluation mode beside that of a network that tests in training mode,
// so by its batches' own statistics. Leaves the network as it was.
void compare_modes(Network& network, const Images& test);

}  // namespace digits
