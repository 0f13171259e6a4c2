#include "scaling.h"

#include <semaphore>
#include <stdexcept>
#include <thread>

#include "fusebn/parallel.h"
#include "report.h"

namespace fusebn::bench {
namespace {

void check(const Status& status) {
    if (!status.ok()) throw std::runtime_error(status.message());
}

// A thread of the program's own that makes calls when it is told to.
class Caller {
public:
    Caller(Workload& workload, int calls)
        : thread_([this, &workload, calls] {
              while (true) {
                  begin_.acquire();
                  if (ends_) return;
                  for (int i = 0; i < calls; ++i) workload.run_or_exit();
                  done_.release();
              }
          }) {}
    ~Caller() {
        ends_ = true;
        begin_.release();
    }
    Caller(const Caller&) = delete;
    Caller& operator=(const Caller&) = delete;

    void begin() { begin_.release(); }
    void wait() { done_.acquire(); }

private:
    std::binary_semaphore begin_{0}, done_{0};
    bool ends_ = false;
    std::jthread thread_;  // last: it uses the others
};

}  // namespace

Scaling measure_scaling(const LayerCase& c, int threads, const Budget& budget, Workspace& workspace,
                        Workspace& other_workspace) {
    Workload workload(c, workspace), other(c, other_workspace);
    check(workload.prepare());
    check(other.prepare());
    const auto run = [](Workload& w, int calls) {
        for (int i = 0; i < calls; ++i) w.run_or_exit();
    };
    constexpr int calls = 8;  // of each layer: what starting and awaiting the other thread takes is shared by them
    Caller caller(other, calls);
    const std::vector<Contender> contenders = {
        {"one thread", [&] { check(set_num_threads(1)), run(workload, 1); }},
        {"all threads", [&] { check(set_num_threads(threads)), run(workload, 1); }},
        {"in turn", [&] { check(set_num_threads(threads)), run(workload, calls), run(other, calls); }},
        {"at once", [&] {
             check(set_num_threads(threads));
             caller.begin();
             run(workload, calls);
             caller.wait();
         }}};
    const std::vector<Samples> s = race(contenders, budget);
    return {c, s[0], s[1], s[2], s[3]};
}

void print_scaling(std::ostream& out, const std::vector<Scaling>& all, const Machine& machine, bool markdown) {
    out << "machine: " << to_string(machine) << "\n"
        << "Gain: the time of one thread over that of " << machine.threads << ". Two callers: the time of calls of two "
        << "layers in turn\nover that of the same calls by a thread of the program's for each layer, at once: 1 where "
           "nothing is lost.\nMedians of pairs (quartiles).\n\n";
    std::vector<Cells> lines = {
        {"operation", "type", "layout", "shape", "one thread, us", "all, us", "gain", "two callers"}};
    for (const Scaling& s : all) {
        const LayerCase& c = s.layer_case;
        lines.push_back({c.op_name(), std::string(to_string(c.dtype())), std::string(to_string(c.layout)),
                         c.shape_name(), fixed(1e3 * quartiles(s.one.ms).median, 1),
                         fixed(1e3 * quartiles(s.all.ms).median, 1), with_quartiles(paired_ratio(s.one, s.all)),
                         with_quartiles(paired_ratio(s.in_turn, s.at_once))});
    }
    print_cells(out, lines, markdown);
    out << "\n";
}

}  // namespace fusebn::bench
