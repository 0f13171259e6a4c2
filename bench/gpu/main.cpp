// The kernels of gpu_shapes on CUDA device 0, one line of JSON a row; see `usage`. The exit status is 1 where a result
// differs or a row fails, 2 for a command line that cannot be understood.
#include <cstring>

#include "modes.h"

namespace {

constexpr const char* usage =
    "fusebn_gpu_bench [MODE] [PART]    rows whose kernel's name has PART in it, or all\n"
    "  (no mode)     the bits beside the CPU's kernel and a second run's, and times beside a device copy\n"
    "  --check       the bits alone, in one process: for compute-sanitizer\n"
    "  --graphs      a captured CUDA graph, replayed, beside direct calls: the smallest rows of each kind\n"
    "  --devices     every GPU beside the first: the smallest rows of each kind\n"
    "  --first-call  milliseconds from the start of the process to the first result, of one forward row\n"
    "  --list        the rows' names; needs no GPU\n"
    "  --help        this\n";

int refuse(const std::string& sentence) {
    std::fprintf(stderr, "fusebn_gpu_bench: %s\n", sentence.c_str());
    return 2;
}

int run(const std::string& mode, const std::string& part) {
    const std::vector<Row> chosen = rows(part);
    if (chosen.empty()) return refuse("no row's name has \"" + part + "\" in it; --list says the names");
    if (mode == "--list") {
        for (const Row& row : chosen) std::printf("%s\n", row.name.c_str());
        return 0;
    }
    if (mode == "--check") return run_rows(chosen, false) ? 0 : 1;
    if (mode == "--graphs") return run_graphs(smallest_of_each(chosen)) ? 0 : 1;
    if (mode == "--devices") return run_devices(smallest_of_each(chosen)) ? 0 : 1;
    if (mode == "--first-call") {
        for (const Row& row : chosen) {
            if (row.op != fusebn::Op::backward) return run_first_call(row) ? 0 : 1;
        }
        return refuse("--first-call: found only backward rows; expected a forward row");
    }
    if (!mode.empty()) return refuse("found the option " + mode + "; --help says which there are");
    return run_rows_apart(chosen) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    std::string mode, part;
    for (int i = 1; i < argc; ++i) {
        const bool option = std::strncmp(argv[i], "-", 1) == 0;
        std::string& word = option ? mode : part;
        if (!word.empty()) {
            const char* const what = option ? "mode" : "part of a name";
            return refuse("found " + word + " and " + argv[i] + "; expected one " + what);
        }
        word = argv[i];
    }
    if (mode == "--help") return std::fputs(usage, stdout), 0;
    return run(mode, part);
}
