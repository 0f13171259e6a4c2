#!/usr/bin/env python3
"""The batch norms of well-known networks: how many of which shape, and the spec of a library with all of them.

    networks.py --list                              the networks, and what each has
    networks.py --spec NAME [--networks a,b] ...    a spec (docs/spec.md) of their distinct shapes

Shapes are those of torchvision's models at 224 x 224 (U-Net: Ronneberger, Fischer and Brox 2015, padded, at 256 x 256,
with a batch norm behind each convolution). An activation is the one that follows the batch norm directly; a residual is
what is added before it."""

import argparse
import collections
import sys

# channels, rows, columns: of one sample. rows = columns = 0: [B, D]. columns = 0: [B, D, T].
Norm = collections.namedtuple("Norm", "channels rows columns activation residual")


def norm(channels, side, activation="relu", residual="none"):
    return Norm(channels, side, side, activation, residual)


def resnet18():
    yield norm(64, 112)
    side = 56
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for block in range(2):
            downsamples = block == 0 and stride == 2
            side = side // stride if downsamples else side
            yield norm(width, side)
            yield norm(width, side, "relu", "batch_norm" if downsamples else "add")


def resnet50():
    yield norm(64, 112)
    side = 56
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            first = block == 0
            yield norm(width, side)
            side = side // stride if first else side
            yield norm(width, side)
            # Where a stage begins, the downsample branch's batch norm and the block's last one meet in one kernel.
            yield norm(4 * width, side, "relu", "batch_norm" if first else "add")


def inverted_residuals(activation, last, stages):
    """Sandler et al. 2018: stages of (expansion, channels, repeats, stride) behind a stem of 32 channels."""
    yield norm(32, 112, activation)
    inputs, side = 32, 112
    for expand, channels, repeats, stride in stages:
        for i in range(repeats):
            if expand != 1:
                yield norm(inputs * expand, side, activation)
            side = side // stride if i == 0 else side
            yield norm(inputs * expand, side, activation)
            yield norm(channels, side, "none", "add" if i > 0 else "none")
            inputs = channels
    yield norm(last, side, activation)


def mobilenet_v2():
    return inverted_residuals("relu6", 1280, ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                              (6, 160, 3, 2), (6, 320, 1, 1)))


def densenet121():
    yield norm(64, 112)
    channels, side = 64, 56
    for block, layers in enumerate((6, 12, 24, 16)):
        for _ in range(layers):
            yield norm(channels, side)
            yield norm(128, side)
            channels += 32
        if block < 3:
            yield norm(channels, side)
            channels, side = channels // 2, side // 2
    yield norm(channels, side)


def efficientnet_b0():
    return inverted_residuals("silu", 1280, ((1, 16, 1, 1), (6, 24, 2, 2), (6, 40, 2, 2), (6, 80, 3, 2), (6, 112, 3, 1),
                                             (6, 192, 4, 2), (6, 320, 1, 1)))


def unet():
    for channels, side in ((64, 256), (128, 128), (256, 64), (512, 32), (1024, 16)):
        yield norm(channels, side)
        yield norm(channels, side)
    for channels, side in ((512, 32), (256, 64), (128, 128), (64, 256)):
        yield norm(channels, side)
        yield norm(channels, side)


NETWORKS = {f.__name__.replace("_", "-"): f for f in (resnet18, resnet50, mobilenet_v2, densenet121, efficientnet_b0, unet)}
# [B, D] and [B, D, T]
ONE_D = ((32, 128), (1024, 512), (32, 128, 50), (64, 512, 400))


def counts(network):
    """How many calls of each kind a pass of the network has; two batch norms that meet are one call."""
    return collections.Counter(NETWORKS[network]())


def distinct(networks):
    seen = dict.fromkeys(n for network in networks for n in NETWORKS[network]())
    return list(seen)


def kernel_name(op, layout, dtype, batch, n):
    """What a library calls the kernel of a norm of these networks."""
    if layout == "NCHW" and n.rows * n.columns > 1:
        extents = f"planar_n{batch}_c{n.channels}_s{n.rows * n.columns}"
    else:
        extents = f"interleaved_r{batch * n.rows * n.columns}_c{n.channels}"
    residual = "" if n.residual == "none" else f"_{n.residual}"
    return f"bn_{op}_{dtype}_{extents}{residual}_{n.activation}"


def spec(arguments):
    lines = [f'name    = "{arguments.spec}"', f'targets = ["{arguments.target}"]', "", "[defaults]",
             "op = [" + ", ".join(f'"{op}"' for op in arguments.ops) + "]"]
    for dtype in arguments.dtypes:
        for layout in arguments.layouts:
            for batch in arguments.batches:
                for n in distinct(arguments.networks):
                    shape = ([batch, n.channels, n.rows, n.columns] if layout == "NCHW"
                             else [batch, n.rows, n.columns, n.channels])
                    lines += ["", "[[kernel]]", f'layout = "{layout}"', f"shape = {shape}", f'dtype = "{dtype}"',
                              f'activation = "{n.activation}"', f'residual = "{n.residual}"']
        for extents in ONE_D:
            lines += ["", "[[kernel]]", f'layout = "{"NC" if len(extents) == 2 else "NCL"}"', f"shape = {list(extents)}",
                      f'dtype = "{dtype}"', 'activation = "relu"']
    return "\n".join(lines) + "\n"


def main():
    words = lambda text: text.split(",")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--spec", metavar="NAME", help="print the spec of a library of this name")
    parser.add_argument("--networks", type=words, default=list(NETWORKS))
    parser.add_argument("--ops", type=words, default=["inference", "train_forward", "backward"])
    parser.add_argument("--layouts", type=words, default=["NCHW", "NHWC"])
    parser.add_argument("--dtypes", type=words, default=["f32"])
    parser.add_argument("--batches", type=lambda text: [int(word) for word in words(text)], default=[32])
    parser.add_argument("--target", default="host")
    arguments = parser.parse_args()
    unknown = set(arguments.networks) - set(NETWORKS)
    if unknown:
        sys.exit(f"networks.py: --networks: found {', '.join(sorted(unknown))}; allowed: {', '.join(NETWORKS)}")
    if arguments.spec:
        sys.stdout.write(spec(arguments))
    else:
        for name in arguments.networks:
            found = counts(name)
            norms = sum(count * (2 if n.residual == "batch_norm" else 1) for n, count in found.items())
            print(f"{name}: {norms} batch norms in {sum(found.values())} calls of {len(found)} kinds")


if __name__ == "__main__":
    main()
