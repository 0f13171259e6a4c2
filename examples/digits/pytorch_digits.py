#!/usr/bin/env python3
"""Trains the same networks in PyTorch and prints their test accuracy beside that of digits_mlp or digits_cnn.

    digits_mlp --runs 10 --out mlp.csv
    python3 pytorch_digits.py mlp --ours mlp.csv       needs torch and numpy

Data, split, layers, optimiser, first weights and the order of the images are the same. Only sums are added up in another
order: the losses of the first epoch agree to about seven digits, and training amplifies the difference from there.
"""

import argparse
import csv
import math
import pathlib

import numpy as np
import torch
from torch import nn

HERE = pathlib.Path(__file__).parent


class Random:
    """random.h: the raw output of std::mt19937, which numpy's RandomState gives too."""

    def __init__(self, seed: int):
        self.state = np.random.RandomState(seed)

    def next(self, count: int) -> np.ndarray:
        return self.state.randint(0, 2**32, size=count, dtype=np.uint32)

    def he_uniform(self, shape: tuple, fan_in: int) -> torch.Tensor:
        bound = np.float32(math.sqrt(6 / fan_in))
        uniform = (self.next(math.prod(shape)) >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24)
        return torch.from_numpy((bound * (2 * uniform - 1)).reshape(shape))

    def permutation(self, count: int) -> torch.Tensor:
        return torch.from_numpy(np.argsort(self.next(count), kind="stable"))


def linear(inputs: int, outputs: int, bias: bool, random: Random) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        layer.weight.copy_(random.he_uniform((inputs, outputs), inputs).T)
        if bias:
            layer.bias.zero_()
    return layer


def convolution(inputs: int, outputs: int, stride: int, random: Random) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    with torch.no_grad():
        weight = random.he_uniform((3, 3, inputs, outputs), 9 * inputs)
        layer.weight.copy_(weight.permute(3, 2, 0, 1))
    return layer


def mlp(random: Random) -> nn.Module:
    layers = []
    for inputs in (64, 128):
        layers += [linear(inputs, 128, False, random), nn.BatchNorm1d(128), nn.ReLU()]
    return nn.Sequential(*layers, linear(128, 10, True, random))


def cnn(random: Random) -> nn.Module:
    layers = [nn.Unflatten(1, (1, 8, 8))]
    for inputs, outputs, stride in ((1, 16, 1), (16, 32, 2), (32, 64, 1)):
        layers += [convolution(inputs, outputs, stride, random), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear(64, 10, True, random))


def read_digits() -> dict:
    sets = {"train": [], "test": []}
    with (HERE / "digits.csv").open(newline="") as file:
        for row in list(csv.reader(file))[1:]:
            sets[row[0]].append([int(value) for value in row[1:]])
    return {
        name: (torch.tensor(rows)[:, 1:].float() / 16, torch.tensor(rows)[:, 0]) for name, rows in sets.items()
    }


def train(network: str, seed: int, data: dict, options: argparse.Namespace) -> list:
    """[(loss, test accuracy)] of every epoch."""
    random = Random(seed)
    model = {"mlp": mlp, "cnn": cnn}[network](random)
    optimiser = torch.optim.SGD(model.parameters(), lr=options.lr, momentum=options.momentum)
    pixels, labels = data["train"]
    epochs = []
    for _ in range(options.epochs):
        model.train()
        order = random.permutation(len(labels))
        losses = []
        for first in range(0, len(labels) - options.batch + 1, options.batch):
            rows = order[first : first + options.batch]
            loss = nn.functional.cross_entropy(model(pixels[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        model.eval()
        with torch.no_grad():
            right = model(data["test"][0]).argmax(1) == data["test"][1]
        epochs.append((sum(losses) / len(losses), right.double().mean().item()))
    return epochs


def read_ours(path: str, network: str) -> dict:
    """{(seed, epoch): (loss, test accuracy)}"""
    with open(path, newline="") as file:
        return {
            (int(row["seed"]), int(row["epoch"])): (float(row["loss"]), float(row["test_accuracy"]))
            for row in csv.DictReader(file)
            if row["network"] == network and row["batch_norm"] == "1"
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=["mlp", "cnn"])
    parser.add_argument("--ours", metavar="FILE", help="what digits_mlp or digits_cnn wrote with --out")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--momentum", type=float, default=0.9)
    options = parser.parse_args()
    ours = read_ours(options.ours, options.network) if options.ours else {}
    missing = [seed for seed in range(options.runs) if ours and (seed, options.epochs) not in ours]
    if missing:
        parser.error(f"{options.ours} has no epoch {options.epochs} of {options.network} with seed {missing[0]}")

    data = read_digits()
    theirs = []
    print("      loss of epoch 1         test accuracy\nseed  PyTorch    fusebn      PyTorch   fusebn")
    for seed in range(options.runs):
        epochs = train(options.network, seed, data, options)
        theirs.append(epochs[-1][1])
        line = f"{seed:4}  {epochs[0][0]:.6f}"
        if ours:
            line += f"   {ours[seed, 1][0]:.6f}   {theirs[-1]:8.2%}  {ours[seed, options.epochs][1]:7.2%}"
        else:
            line += f"              {theirs[-1]:8.2%}"
        print(line, flush=True)
    average = sum(theirs) / options.runs
    print(f"average{'':22} {average:8.2%}", end="")
    if ours:
        our_average = sum(ours[seed, options.epochs][1] for seed in range(options.runs)) / options.runs
        print(f"  {our_average:7.2%}\ndifference {100 * (our_average - average):+.2f} percentage points", end="")
    print()


if __name__ == "__main__":
    main()
