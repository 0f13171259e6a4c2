#!/usr/bin/env python3
"""PyTorch's part of scripts/accuracy.sh: reads the inputs that fusebn_accuracy --export wrote, and writes the results
of a training step beside them. Tensors are f32, results a channel f64."""

import pathlib
import sys

import numpy
import torch
import torch.nn.functional as F


def step(folder, name, layout, shape, eps):
    def load(what, extents):
        return torch.from_numpy(numpy.fromfile(folder / f"{name}.{what}", numpy.float32).reshape(extents))

    def save(what, t, dtype):
        t.detach().numpy().astype(dtype).tofile(folder / f"{name}.{what}")

    last = layout == "NHWC"
    channels = shape[3 if last else 1]
    x, dy = (load(what, shape) for what in ("x", "dy"))
    if last:
        x, dy = (t.permute(0, 3, 1, 2) for t in (x, dy))  # channels_last
    inputs = [x.requires_grad_(), *(load(what, (channels,)).requires_grad_() for what in ("gamma", "beta"))]
    mean, var = torch.zeros(channels), torch.ones(channels)
    # With a momentum of 1 the running variance is the batch's, by n - 1.
    y = F.batch_norm(inputs[0], mean, var, inputs[1], inputs[2], training=True, momentum=1.0, eps=eps)
    dx, dgamma, dbeta = torch.autograd.grad(y, inputs, dy)
    n = x.numel() // channels
    save("var", var.double() * ((n - 1) / n), numpy.float64)
    save("dgamma", dgamma, numpy.float64)
    save("dbeta", dbeta, numpy.float64)
    for what, t in (("y", y), ("dx", dx)):
        save(what, (t.permute(0, 2, 3, 1) if last else t).contiguous(), numpy.float32)


def main():
    folder = pathlib.Path(sys.argv[1])
    for line in (folder / "cases.txt").read_text().splitlines():
        name, layout, *shape, eps = line.split()
        step(folder, name, layout, tuple(map(int, shape)), float(eps))
    (folder / "version.txt").write_text(torch.__version__ + "\n")


if __name__ == "__main__":
    main()
