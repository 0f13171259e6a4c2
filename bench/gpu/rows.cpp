#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <thread>

#include "modes.h"
#include "timer.h"

using namespace fusebn;

namespace {

constexpr unsigned row_seconds = 180;

const char* text(bool b) { return b ? "true" : "false"; }

void print_machine() {
    int version = 0;
    check(cuda().driver_version(&version), "cuDriverGetVersion");
    std::printf("{\"machine\": {\"gpu\": \"%s\", \"gpus\": %d, \"cuda\": \"%d.%d\"}}\n",
                device_name(Device::cuda()).c_str(), device_count(DeviceKind::cuda), version / 1000,
                version % 1000 / 10);
    std::fflush(stdout);
}

bool run_row(const Row& row, const Timer* timer) {
    const Values& v = values(row);
    Layer gpu(row, Device::cuda(), v);
    gpu.call();
    const Bytes first = gpu.result();
    const std::string ran = BatchNorm::last_kernel();
    gpu.call();
    const bool repeatable = gpu.result() == first;
    bool as_cpu = false;
    {
        Layer cpu(row, Device::cpu(), v);
        cpu.call();
        as_cpu = cpu.result() == first;
    }
    std::array<char, 256> times{};
    if (timer != nullptr) {
        const auto call = [&] { gpu.call(); };
        const auto copy = [&] { timer->copy(gpu.out(), gpu.x(), v.x.size()); };
        const double hot = timer->back_to_back(call), cold = timer->cold(call), copy_hot = timer->back_to_back(copy),
                     copy_cold = timer->cold(copy);
        // Tensors that have to be moved: once each where one launch keeps a channel's slabs, else what sums read twice.
        const bool staged = ran.find("parallel=channels") != std::string::npos;
        const int tensors = row.op == Op::inference ? 2
                                                    : (row.op == Op::train_forward ? 3 : 5) -
                                                          (staged ? (row.op == Op::train_forward ? 1 : 2) : 0);
        std::snprintf(times.data(), times.size(),
                      ", \"us\": %.1f, \"us_cold\": %.1f, \"copy_us\": %.1f, \"copy_us_cold\": %.1f, "
                      "\"tensors_moved\": %d, \"share_of_copy\": %.3f, \"share_of_copy_cold\": %.3f",
                      hot, cold, copy_hot, copy_cold, tensors, copy_hot * tensors / 2 / hot,
                      copy_cold * tensors / 2 / cold);
    }
    // All at once: a row that fails leaves no half of a line.
    std::printf("{\"kernel\": \"%s\"%s, \"bits_as_cpu\": %s, \"repeatable\": %s, \"ran\": \"%s\"}\n", row.name.c_str(),
                times.data(), text(as_cpu), text(repeatable), ran.c_str());
    std::fflush(stdout);
    return as_cpu && repeatable;
}

void start() {
    (void)cuda();  // says where there is no driver
    (void)set_num_threads(std::max(1, static_cast<int>(std::thread::hardware_concurrency()) - 1));
}

// What a process that runs rows has told the one that started it.
struct Progress {
    std::size_t next;  // the row that is being run
    bool started;      // there is a driver
    bool all_agreed;
    char failure[failure_bytes];
};

[[noreturn]] void run_from(const std::vector<Row>& rows, Progress& progress) {
    failure_text = progress.failure;
    start();
    const Timer timer;
    if (progress.next == 0) print_machine();
    progress.started = true;
    for (; progress.next < rows.size(); ++progress.next) {
        alarm(row_seconds);
        if (!run_row(rows[progress.next], &timer)) progress.all_agreed = false;
    }
    std::exit(0);
}

std::string escaped(const std::string& sentence) {
    std::string result;
    for (const char c : sentence) {
        if (c == '"' || c == '\\') result += '\\';
        result += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
    }
    return result;
}

}  // namespace

bool run_rows(const std::vector<Row>& rows, bool timed) {
    start();
    const std::unique_ptr<Timer> timer = timed ? std::make_unique<Timer>() : nullptr;
    bool all_agreed = true;
    for (const Row& row : rows) all_agreed = run_row(row, timer.get()) && all_agreed;
    return all_agreed;
}

bool run_rows_apart(const std::vector<Row>& rows) {
    void* const shared = mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) fail("there is no memory to share with the process that runs rows");
    auto& progress = *new (shared) Progress{0, false, true, ""};
    // This process itself must not meet the driver: it cannot be used beyond a fork.
    while (progress.next < rows.size()) {
        std::fflush(stdout);
        progress.started = false;
        progress.failure[0] = '\0';
        const pid_t child = fork();
        if (child < 0) fail("no process can be started");
        if (child == 0) run_from(rows, progress);
        int status = 0;
        if (waitpid(child, &status, 0) != child) fail("the process that runs rows is lost");
        if (progress.next >= rows.size()) break;
        progress.all_agreed = false;
        if (!progress.started) break;
        std::string why = progress.failure;
        if (why.empty()) why = WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status)) : "it ended";
        std::printf("{\"kernel\": \"%s\", \"failure\": \"%s\"}\n", rows[progress.next].name.c_str(),
                    escaped(why).c_str());
        ++progress.next;
    }
    return progress.all_agreed;
}
