#include "compiler/ptx.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <regex>
#include <sstream>
#include <stdexcept>

#include "compiler/files.h"

extern char** environ;

namespace fusebn {

namespace {

bool executable(const std::string& path) { return access(path.c_str(), X_OK) == 0; }

// Runs a program without a shell; its standard output and error together.
std::string run(const std::vector<std::string>& arguments, int& status) {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error(std::string("pipe: ") + std::strerror(errno));
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    std::vector<char*> argv;
    for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    pid_t child = 0;
    const int error = posix_spawn(&child, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (error != 0) {
        close(ends[0]);
        throw std::runtime_error(arguments[0] + ": " + std::strerror(error));
    }
    std::string output;
    char piece[4096];
    for (ssize_t n = 0; (n = read(ends[0], piece, sizeof(piece))) != 0;) {
        if (n > 0) output.append(piece, static_cast<size_t>(n));
        if (n < 0 && errno != EINTR) break;
    }
    close(ends[0]);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return output;
}

}  // namespace

std::string without_contraction(const std::string& ptx) {
    // <op>.f32 or .f64, with or without a rounding: "fma.rn.f32 \t%r1, %r2, %r3, %r4;"
    static const std::regex instruction(R"(^(\s*(?:@!?%p\d+\s+)?)(fma\.rn|mul|add|sub)\.(f32|f64)\s+(.*);(.*)$)");
    std::istringstream in(ptx);
    std::string out;
    out.reserve(ptx.size() + ptx.size() / 8);
    for (std::string line; std::getline(in, line);) {
        std::smatch m;
        if (line.find(".f") == std::string::npos || !std::regex_match(line, m, instruction)) {
            out += line + "\n";
            continue;
        }
        const std::string before = m[1], op = m[2], type = m[3], operands = m[4];
        if (op != "fma.rn") {
            out += before + op + ".rn." + type + " \t" + operands + ";\n";
            continue;
        }
        std::vector<std::string> operand;
        std::istringstream list(operands);
        for (std::string o; std::getline(list, o, ',');) operand.push_back(o);
        if (operand.size() != 4) throw std::runtime_error("PTX: an fma that is not understood: " + line);
        const std::string product = type == "f32" ? "%product32" : "%product64";
        out += before + "mul.rn." + type + " \t" + product + "," + operand[1] + "," + operand[2] + ";\n";
        out += before + "add.rn." + type + " \t" + operand[0] + ", " + product + "," + operand[3] + ";\n";
    }
    // The products' registers, at the head of every function that has any.
    static const std::regex body(R"(\n\{\n)");
    return std::regex_replace(out, body, "\n{\n\t.reg .b32 \t%product32;\n\t.reg .b64 \t%product64;\n");
}

std::string with_register_limits(const std::string& ptx, const std::vector<std::pair<std::string, int>>& limits) {
    std::string out = ptx;
    for (const auto& [name, registers] : limits) {
        const std::size_t entry = out.find(".entry " + name + "(");
        const std::size_t body = entry == std::string::npos ? entry : out.find("\n{", entry);
        if (body == std::string::npos) throw std::runtime_error("PTX: there is no function " + name);
        out.insert(body, "\n.maxnreg " + std::to_string(registers));
    }
    return out;
}

std::optional<std::string> find_ptxas() {
    if (const char* named = std::getenv("FUSEBN_PTXAS")) {
        if (!*named) return std::nullopt;
        if (!executable(named)) throw std::runtime_error(std::string("FUSEBN_PTXAS: ") + named + " cannot be run");
        return named;
    }
    std::vector<std::string> folders;
    if (const char* home = std::getenv("CUDA_HOME")) folders.push_back(std::string(home) + "/bin");
    if (const char* path = std::getenv("PATH")) {
        std::istringstream list(path);
        for (std::string folder; std::getline(list, folder, ':');) folders.push_back(folder);
    }
    folders.push_back("/usr/local/cuda/bin");
    for (const std::string& folder : folders) {
        if (executable(folder + "/ptxas")) return folder + "/ptxas";
    }
    return std::nullopt;
}

std::string ptxas_version(const std::string& ptxas) {
    int status = 0;
    const std::string said = run({ptxas, "--version"}, status);
    static const std::regex version(R"(\bV(\d+(?:\.\d+)+))");
    std::smatch m;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || !std::regex_search(said, m, version)) {
        throw std::runtime_error(ptxas + " --version: expected a version like V13.0.88, found: " + said);
    }
    return m[1];
}

Cubin assemble(const std::string& ptxas, const std::string& ptx, int sm) {
    const TemporaryFile in, out;
    write_file(in.path(), ptx);
    int status = 0;
    const std::string said =
        run({ptxas, "-arch=sm_" + std::to_string(sm), "-v", "-O3", in.path(), "-o", out.path()}, status);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw std::runtime_error(ptxas + ": " + said);
    Cubin cubin;
    cubin.sm = sm;
    cubin.bytes = read_file(out.path());
    static const std::regex entry(R"(Compiling entry function '([^']+)')"), registers(R"(Used (\d+) registers)"),
        shared(R"((\d+) bytes smem)"),
        spills(R"((\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads)");
    std::istringstream lines(said);
    for (std::string line; std::getline(lines, line);) {
        std::smatch m;
        if (std::regex_search(line, m, entry)) {
            cubin.functions.emplace_back();
            cubin.functions.back().name = m[1];
        } else if (!cubin.functions.empty() && std::regex_search(line, m, spills)) {
            cubin.functions.back().stack_bytes = std::stoi(m[1]);
            cubin.functions.back().spill_bytes = std::stoi(m[2]) + std::stoi(m[3]);
        } else if (!cubin.functions.empty() && std::regex_search(line, m, registers)) {
            cubin.functions.back().registers = std::stoi(m[1]);
            if (std::regex_search(line, m, shared)) cubin.functions.back().shared_bytes = std::stoi(m[1]);
        }
    }
    return cubin;
}

}  // namespace fusebn
