#include "program.h"

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <exception>
#include <numeric>
#include <string>

#include "report.h"

namespace digits {

namespace {

constexpr float sweep_lr[] = {0.005f, 0.05f, 0.4f};

struct Options {
    TrainingOptions training;
    int runs = 1;
    bool quick = false, no_batch_norm = false, sweep = false;
    std::string data = DIGITS_CSV, out;
};

class Session {
public:
    Session(const Program& program, const Options& options)
        : program_(program), options_(options), data_(read_digits(options.data)), results_(options.out) {}

    void run() {
        std::printf("%s: %s; %zu images to train on, %zu to test, batches of %d\n", program_.name, program_.description,
                    data_.train.size(), data_.test.size(), options_.training.batch);
        if (options_.sweep) {
            sweep();
        } else {
            train_runs(options_.training);
        }
        results_.close();
    }

private:
    void sweep() {
        for (const bool batch_norm : {true, false}) {
            for (const float lr : sweep_lr) {
                TrainingOptions training = options_.training;
                training.batch_norm = batch_norm;
                training.sgd.lr = lr;
                train_runs(training);
            }
        }
    }

    void train_runs(TrainingOptions training) {
        const bool single = options_.runs == 1 && !options_.sweep;
        double sum = 0;
        for (int run = 0; run < options_.runs; ++run, ++training.seed) {
            Network network = train_once(training, single);
            sum += last_.test_accuracy;
            if (single && training.batch_norm) compare_modes(network, data_.test);
        }
        if (options_.runs > 1) {
            std::printf("test accuracy %.2f %%, the average of %d seeds\n", 100 * sum / options_.runs, options_.runs);
        }
    }

    // Prints each epoch, or one line at the end.
    Network train_once(const TrainingOptions& training, bool print_epochs) {
        Observer observer;
        observer.on_batch = [&](int epoch, int batch, int batches, double loss) {
            draw_bar(epoch, training.epochs, batch, batches, loss);
        };
        observer.on_epoch = [&](const Epoch& epoch) {
            results_.add(program_.network, training, epoch);
            last_ = epoch;
            if (!print_epochs) return;
            std::printf("epoch %3d/%d  loss %.4f  test accuracy %6.2f %%\n", epoch.number, training.epochs, epoch.loss,
                        100 * epoch.test_accuracy);
            std::fflush(stdout);
        };
        Network network = train(program_.make, data_, training, observer);
        if (!print_epochs) {
            std::printf("%s batch norm, learning rate %g, seed %u: loss %.4f, test accuracy %.2f %%\n",
                        training.batch_norm ? "with" : "without", static_cast<double>(training.sgd.lr), training.seed,
                        last_.loss, 100 * last_.test_accuracy);
            std::fflush(stdout);
        }
        return network;
    }

    const Program& program_;
    const Options& options_;
    Digits data_;
    Results results_;
    Epoch last_;
};

}  // namespace

int run(const Program& program, int argc, char** argv) {
    Options options;
    TrainingOptions& training = options.training;

    CLI::App app(std::string("Trains ") + program.description + " on 8x8 handwritten digits.", program.name);
    app.option_defaults()->always_capture_default();
    CLI::Option* const epochs = app.add_option("--epochs", training.epochs, "Times through the training images");
    epochs->check(CLI::Range(1, 10000));
    app.add_option("--batch", training.batch, "Images a step")->check(CLI::Range(2, 1024));
    CLI::Option* const lr = app.add_option("--lr", training.sgd.lr, "Learning rate")->check(CLI::PositiveNumber);
    app.add_option("--momentum", training.sgd.momentum, "Momentum of the optimiser")->check(CLI::Range(0.0, 1.0));
    app.add_option("--seed", training.seed, "Seed of the weights and of the order of the images");
    app.add_option("--runs", options.runs, "Trainings, each with the next seed")->check(CLI::Range(1, 1000));
    CLI::Option* const without =
        app.add_flag("--no-batch-norm", options.no_batch_norm, "Biases instead of batch norms");
    app.add_flag("--quick", options.quick, "Five epochs")->excludes(epochs);
    app.add_flag("--sweep", options.sweep, "Trains at learning rates 0.005, 0.05 and 0.4, with and without batch norm")
        ->excludes(lr)
        ->excludes(without);
    app.add_option("--out", options.out, "Where to write loss and accuracy of every epoch (CSV, for plot.py)");
    app.add_option("--data", options.data, "The images")->check(CLI::ExistingFile);
    CLI11_PARSE(app, argc, argv);
    if (options.quick) training.epochs = 5;
    training.batch_norm = !options.no_batch_norm;

    try {
        const auto start = std::chrono::steady_clock::now();
        Session(program, options).run();
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
        std::printf("%.1f s\n", elapsed.count());
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s: %s\n", program.name, error.what());
        return 1;
    }
}

}  // namespace digits
