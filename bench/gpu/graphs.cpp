#include "modes.h"
#include "timer.h"

using namespace fusebn;

namespace {

constexpr int replays = 3;

// A stream, and what one call on it was captured as.
class Graph {
public:
    explicit Graph(Layer& layer) {
        constexpr int global_mode = 0;  // nothing that allocates or waits is let pass, on any thread
        check(cuda().create_stream(&stream_, 0), "cuStreamCreate");
        layer.prepare_on(stream_);
        check(cuda().begin_capture(stream_, global_mode), "cuStreamBeginCapture");
        layer.call();
        check(cuda().end_capture(stream_, &graph_), "cuStreamEndCapture");
        check(cuda().instantiate(&executable_, graph_, 0), "cuGraphInstantiateWithFlags");
    }
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;
    ~Graph() {
        (void)cuda().destroy_executable(executable_);
        (void)cuda().destroy_graph(graph_);
    }
    void replay() const { check(cuda().launch_graph(executable_, stream_), "cuGraphLaunch"); }

private:
    void *stream_ = nullptr, *graph_ = nullptr, *executable_ = nullptr;  // the stream stays the layer's
};

}  // namespace

bool run_graphs(const std::vector<Row>& rows) {
    bool all_agreed = true;
    const Timer timer;
    for (const Row& row : rows) {
        Layer direct(row, Device::cuda(), values(row)), captured(row, Device::cuda(), values(row));
        const Graph graph(captured);
        for (int i = 0; i < replays; ++i) {
            direct.call();
            graph.replay();
        }
        check(cuda().synchronize(), "cuCtxSynchronize");
        const bool agreed = direct.result(true) == captured.result(true);
        all_agreed = all_agreed && agreed;
        const double us = timer.back_to_back([&] { direct.call(); });
        const double graph_us = timer.back_to_back([&] { graph.replay(); });
        std::printf(
            "{\"graph_of\": \"%s\", \"replays\": %d, \"bits_as_direct\": %s, \"us\": %.1f, \"graph_us\": %.1f}\n",
            row.name.c_str(), replays, agreed ? "true" : "false", us, graph_us);
        std::fflush(stdout);
    }
    return all_agreed;
}
