#!/usr/bin/env python3
"""Draws what digits_mlp and digits_cnn write with --sweep --out: training with batch norm and without.

    digits_mlp --sweep --runs 5 --out mlp.csv
    digits_cnn --sweep --runs 5 --out cnn.csv
    python3 plot.py mlp.csv cnn.csv -o digits.png

Lines are means over the seeds, bands reach from the lowest to the highest.
"""

import argparse
import collections
import csv
import sys

try:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
    from PIL import Image  # comes with matplotlib
except ImportError:
    sys.exit("plot.py needs matplotlib: python3 -m pip install matplotlib (or apt install python3-matplotlib)")

# Okabe and Ito's colours, which the colour-blind can tell apart.
COLOURS = ["#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9"]
TITLES = {"mlp": "Perceptron 64-128-128-10", "cnn": "Convolutional network 16-32-64"}
LOWEST_ERROR = 1e-3  # what no error at all is drawn as: one of the 360 images is 2.8e-3
LINES = {True: "-", False: (0, (4, 2))}


def read(paths: list) -> dict:
    """{network: {(batch_norm, lr): {epoch: [(loss, test error) of each seed]}}}"""
    networks = {}
    for path in paths:
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                runs = networks.setdefault(row["network"], {})
                key = (row["batch_norm"] == "1", float(row["lr"]))
                epochs = runs.setdefault(key, collections.defaultdict(list))
                error = max(1 - float(row["test_accuracy"]), LOWEST_ERROR)
                epochs[int(row["epoch"])].append((float(row["loss"]), error))
    return networks


def draw(axes, runs: dict, quantity: int, colour: dict) -> None:
    for (batch_norm, lr), epochs in sorted(runs.items()):
        x = sorted(epochs)
        values = [[seed[quantity] for seed in epochs[epoch]] for epoch in x]
        axes.fill_between(x, [min(v) for v in values], [max(v) for v in values], color=colour[lr], alpha=0.1, lw=0)
        mean = [sum(v) / len(v) for v in values]
        axes.plot(x, mean, color=colour[lr], linestyle=LINES[batch_norm], linewidth=1.8)
    axes.set_yscale("log")
    axes.set_xlim(min(x), max(x))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(which="major", color="0.88", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", metavar="FILE", help="CSV files of --out")
    parser.add_argument("-o", "--output", default="digits.png", metavar="FILE")
    options = parser.parse_args()
    networks = read(options.results)
    if not networks:
        parser.error("the files hold no results")
    rates = sorted({lr for runs in networks.values() for _, lr in runs})
    colour = {lr: COLOURS[i % len(COLOURS)] for i, lr in enumerate(rates)}

    height = 3.3 * len(networks) + 1.1
    figure, rows = plt.subplots(len(networks), 2, figsize=(10, height), squeeze=False, layout="constrained")
    for (network, runs), (loss, error) in zip(networks.items(), rows):
        title = TITLES.get(network, network)
        draw(loss, runs, 0, colour)
        loss.set_ylabel("training loss (cross-entropy, nats)")
        loss.set_title(f"{title}: training loss", fontsize=11, loc="left")
        draw(error, runs, 1, colour)
        error.set_yticks([0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1])
        error.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
        error.yaxis.set_minor_locator(NullLocator())
        error.set_ylabel("test error in eval mode")
        error.set_title(f"{title}: test error", fontsize=11, loc="left")
    for axes in rows[-1]:
        axes.set_xlabel("epoch")

    seeds = max(len(values) for runs in networks.values() for epochs in runs.values() for values in epochs.values())
    figure.suptitle("8x8 handwritten digits: training with batch norm and without", fontsize=13)
    handles = [Line2D([], [], color=colour[lr], linewidth=3, label=f"learning rate {lr:g}") for lr in rates]
    handles += [
        Line2D([], [], color="0.25", linewidth=1.8, linestyle=LINES[True], label="with batch norm (fusebn)"),
        Line2D([], [], color="0.25", linewidth=1.8, linestyle=LINES[False], label="without"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9.5)
    if seeds > 1:
        note = f"lines: mean of {seeds} seeds; bands: lowest to highest"
        rows[0][0].text(0.99, 0.98, note, transform=rows[0][0].transAxes, ha="right", va="top", fontsize=8, color="0.4")
    figure.savefig(options.output, dpi=110)
    if options.output.endswith(".png"):
        # A palette, at a quarter of the bytes: the file is kept in a repository.
        Image.open(options.output).convert("RGB").quantize(128).save(options.output, optimize=True)
    print(options.output)


if __name__ == "__main__":
    main()
