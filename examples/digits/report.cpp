#include "report.h"

#include <unistd.h>

#include <algorithm>
#include <exception>
#include <numeric>
#include <stdexcept>

namespace digits {

Results::Results(const std::string& path) : path_(path) {
    if (path.empty()) return;
    file_.reset(std::fopen(path.c_str(), "w"));
    if (!file_) throw std::runtime_error(path + ": cannot be written");
    std::fputs("network,batch_norm,lr,seed,epoch,loss,test_accuracy\n", file_.get());
}

void Results::add(const char* network, const TrainingOptions& training, const Epoch& epoch) {
    if (!file_) return;
    // 9 digits tell every float from the next, 17 every double.
    std::fprintf(file_.get(), "%s,%d,%g,%u,%d,%.17g,%.17g\n", network, training.batch_norm ? 1 : 0,
                 static_cast<double>(training.sgd.lr), training.seed, epoch.number, epoch.loss, epoch.test_accuracy);
}

void Results::close() {
    if (!file_) return;
    const bool failed = std::ferror(file_.get()) != 0;
    if (std::fclose(file_.release()) != 0 || failed) throw std::runtime_error(path_ + ": cannot be written");
}

void draw_bar(int epoch, int epochs, int batch, int batches, double loss) {
    static const bool terminal = isatty(STDOUT_FILENO) == 1;
    if (!terminal) return;
    constexpr int width = 30;
    const std::string bar(static_cast<std::size_t>(width * batch / batches), '#');
    std::printf("\repoch %3d/%d  [%-*s]  loss %.4f ", epoch, epochs, width, bar.c_str(), loss);
    if (batch == batches) std::printf("\r\033[K");
    std::fflush(stdout);
}

namespace {

Images sorted_by_label(const Images& images) {
    std::vector<int> rows(images.size());
    std::iota(rows.begin(), rows.end(), 0);
    const auto label = [&](int row) { return images.labels[static_cast<std::size_t>(row)]; };
    std::stable_sort(rows.begin(), rows.end(), [&](int a, int b) { return label(a) < label(b); });
    return pick(images, rows);
}

void restore(const std::vector<fusebn::BatchNorm*>& layers, const std::vector<fusebn::BatchNormState>& states) {
    for (std::size_t i = 0; i < layers.size(); ++i) {
        if (const fusebn::Status s = layers[i]->set_state(states[i]); !s.ok()) throw std::runtime_error(s.message());
    }
}

}  // namespace

void compare_modes(Network& network, const Images& test) {
    const Images by_digit = sorted_by_label(test);
    struct Case {
        const char* name;
        const Images& images;
        std::size_t batch;
    };
    const Case cases[] = {{"all images at once", test, test.size()},
                          {"batches of 32", test, 32},
                          {"batches of 8", test, 8},
                          {"batches of 2", test, 2},
                          {"one image at a time", test, 1},
                          {"batches of 32, sorted by digit", by_digit, 32}};

    const std::vector<fusebn::BatchNorm*> layers = network.batch_norms();
    // Forward calls in training mode move the running statistics, also when they are only meant to test.
    std::vector<fusebn::BatchNormState> states;
    for (const fusebn::BatchNorm* const layer : layers) states.push_back(layer->state());

    std::printf("\n%-34s%12s  %22s\n", "Test accuracy on", "in eval mode", "left in training mode");
    for (const auto& [name, images, batch] : cases) {
        {
            const fusebn::EvalGuard evaluating(layers);
            std::printf("  %-32s%10.2f %%", name, 100 * accuracy(network, images, batch));
        }
        try {
            std::printf("  %20.2f %%\n", 100 * accuracy(network, images, batch));
        } catch (const std::exception& refusal) {
            std::printf("  %22s\n      %s\n", "refused", refusal.what());
        }
        restore(layers, states);
    }
}

}  // namespace digits
