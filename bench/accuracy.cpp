// How accurate training is where the mean is far from zero: the batch's variance, y, and the gradients of fusebn and
// its peers against the double-precision oracle. scripts/accuracy.sh runs it, twice where PyTorch takes part:
//
//   fusebn_accuracy --export DIR     writes the inputs, for accuracy_torch.py to read
//   fusebn_accuracy --import DIR     prints the table, with the results that are in DIR
//
// The exit status is 1 where fusebn is worse than the best of its peers, and 2 where it has none.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "experiment.h"
#include "measure/machine.h"

namespace {

using namespace fusebn::bench;
using fusebn::Layout;

// Errors below this are roundings of the result itself, and a tie: y reaches 5, where half a unit in the last place is
// 4 * 2^-24, and every library takes some four roundings to it.
constexpr double tie = 16 * 0x1p-24;

constexpr double ratios[] = {1, 1e2, 1e4, 1e6};
constexpr Layout layouts[] = {Layout::NCHW, Layout::NHWC};

struct Peer {
    const char *name, *title;
};
constexpr Peer peers[] = {{"onednn", "oneDNN"}, {"onednn-blocked", "oneDNN blocked"}, {"torch", "PyTorch"}};

std::string name_of(Layout layout, double ratio) {
    std::ostringstream out;
    out << fusebn::to_string(layout) << "_" << static_cast<std::int64_t>(ratio);
    return out.str();
}

template <class T>
void write(const std::filesystem::path& path, const T* values, std::int64_t count) {
    std::ofstream out(path, std::ios::binary);
    out.write(reinterpret_cast<const char*>(values), count * static_cast<std::int64_t>(sizeof(T)));
    if (!out.flush()) throw std::runtime_error(path.string() + " cannot be written");
}

template <class T>
std::vector<T> read(const std::filesystem::path& path, std::int64_t count) {
    std::vector<T> values(static_cast<std::size_t>(count));
    std::ifstream in(path, std::ios::binary);
    in.read(reinterpret_cast<char*>(values.data()), count * static_cast<std::int64_t>(sizeof(T)));
    if (!in || in.peek() != std::ifstream::traits_type::eof()) {
        throw std::runtime_error(path.string() + " does not have " + std::to_string(count) + " values");
    }
    return values;
}

void export_to(const std::filesystem::path& folder) {
    std::filesystem::create_directories(folder);
    std::ofstream list(folder / "cases.txt");  // name, layout, extents in its order, eps
    for (const Layout layout : layouts) {
        for (const double ratio : ratios) {
            const Experiment experiment(layout, ratio);
            const LayerCase& c = experiment.layer_case();
            const std::string name = name_of(layout, ratio);
            list << name << " " << fusebn::to_string(layout);
            for (int axis = 0; axis < 4; ++axis) list << " " << c.extents()[axis];
            list << " " << experiment.eps() << "\n";
            write(folder / (name + ".x"), static_cast<const float*>(experiment.operands().x), c.elements());
            write(folder / (name + ".dy"), static_cast<const float*>(experiment.operands().dy), c.elements());
            write(folder / (name + ".gamma"), experiment.state().gamma.data(), c.C);
            write(folder / (name + ".beta"), experiment.state().beta.data(), c.C);
        }
    }
    if (!list.flush()) throw std::runtime_error((folder / "cases.txt").string() + " cannot be written");
}

Results import_from(const std::filesystem::path& folder, const std::string& name, const LayerCase& c) {
    Results r;
    r.var = read<double>(folder / (name + ".var"), c.C);
    r.dgamma = read<double>(folder / (name + ".dgamma"), c.C);
    r.dbeta = read<double>(folder / (name + ".dbeta"), c.C);
    r.y = read<float>(folder / (name + ".y"), c.elements());
    r.dx = read<float>(folder / (name + ".dx"), c.elements());
    return r;
}

std::string shown(double error) {
    std::ostringstream out;
    out << std::scientific << std::setprecision(1) << error;
    return out.str();
}

std::string padded(const std::string& text, std::size_t width) {
    return text + std::string(width > text.size() ? width - text.size() : 0, ' ');
}

// The table; `worse` counts its rows where fusebn is.
std::string table(const std::string& folder, int& worse) {
    std::ostringstream out;
    out << "| mean/sigma | layout | value  | fusebn  |";
    for (const Peer& peer : peers) out << " " << padded(peer.title, 14) << " |";
    out << " fusebn |\n|-----------:|--------|--------|--------:|";
    for (std::size_t i = 0; i < std::size(peers); ++i) out << "---------------:|";
    out << "--------|\n";
    for (const double ratio : ratios) {
        for (const Layout layout : layouts) {
            Experiment experiment(layout, ratio);
            std::map<std::string, Errors> errors;
            for (const auto& [name, results] : experiment.run()) errors[name] = experiment.errors_of(results);
            if (!folder.empty()) {
                errors["torch"] =
                    experiment.errors_of(import_from(folder, name_of(layout, ratio), experiment.layer_case()));
            }
            for (const char* value : value_names) {
                const double ours = errors["fusebn"][value];
                double best = HUGE_VAL;
                out << "| "
                    << padded(shown(ratio).substr(0, 1) + "e" + std::to_string(std::lround(std::log10(ratio))), 10)
                    << " | " << padded(std::string(fusebn::to_string(layout)), 6) << " | " << padded(value, 6) << " | "
                    << shown(ours) << " |";
                for (const Peer& peer : peers) {
                    const auto found = errors.find(peer.name);
                    out << " " << padded(found != errors.end() ? shown(found->second[value]) : "-", 14) << " |";
                    if (found != errors.end()) best = std::min(best, found->second[value]);
                }
                const bool alone = errors.size() == 1, is_worse = !alone && !(ours <= std::max(best, tie));
                const bool is_tie = ours <= tie && best <= tie;
                out << (alone ? " -      |\n" : is_worse ? " WORSE  |\n" : is_tie ? " equal  |\n" : " better |\n");
                worse += is_worse ? 1 : 0;
            }
        }
    }
    return out.str();
}

int compare(const std::string& folder, const std::string& markdown) {
    std::ostringstream out;
    out << "machine: " << to_string(this_machine()) << "\n"
        << "oneDNN:  " << (onednn_version().empty() ? "missing; built without it" : onednn_version()) << "\n"
        << "PyTorch: ";
    std::string version = "missing; no Python with torch was given";
    if (!folder.empty()) std::getline(std::ifstream(std::filesystem::path(folder) / "version.txt"), version);
    out << version << "\n"
        << "Largest errors of a training step against double precision, f32, without an activation, 8x16x56x56: var as "
           "a "
           "share of\nits true value, y in standard deviations of y, dx in |gamma| * inv_std, dgamma and dbeta in the "
           "sum of the magnitudes\nof what they sum. Equal: both at rounding level, below "
        << shown(tie) << ".\n\n";
    int worse = 0;
    const bool alone = folder.empty() && onednn_version().empty();
    out << table(folder, worse) << "\n"
        << (alone        ? "there is no peer to compare fusebn with"
            : worse == 0 ? "fusebn is nowhere worse than the best of its peers"
                         : "fusebn is worse than the best of its peers in " + std::to_string(worse) + " rows")
        << "\n";
    std::cout << out.str();
    if (!markdown.empty()) {
        const std::filesystem::path parent = std::filesystem::path(markdown).parent_path();
        if (!parent.empty()) std::filesystem::create_directories(parent);
        std::ofstream file(markdown);
        file << out.str();
        if (!file.flush()) throw std::runtime_error(markdown + " cannot be written");
    }
    return alone ? 2 : worse == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("The accuracy of a training step, beside oneDNN and PyTorch");
    std::string to, from, markdown;
    app.add_option("--export", to, "Only write the inputs into this folder");
    app.add_option("--import", from, "Take PyTorch's results from this folder");
    app.add_option("--markdown", markdown, "Write the table to this file too");
    CLI11_PARSE(app, argc, argv);
    try {
        if (to.empty()) return compare(from, markdown);
        export_to(to);
        return 0;
    } catch (const std::exception& e) {
        std::cerr << e.what() << "\n";
        return 2;
    }
}
