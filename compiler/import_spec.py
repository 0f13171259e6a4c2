"""The spec: equal layers merged into one [[kernel]] each, and the table of them that is printed."""

import collections
import dataclasses
import os
import shlex

from import_layers import LAYOUTS, MAX_EXTENT, product
from import_model import ANY, shown

CHANNELS_LAST = {"NC": "NC", "NCL": "NLC", "NCHW": "NHWC", "NCDHW": "NDHWC"}


@dataclasses.dataclass
class Row:
    """One [[kernel]]."""

    layout: str
    shape: tuple  # in the layout's order
    dtype: str
    activation: str
    residual: str
    ops: list
    layers: list

    @property
    def batch_norms(self):
        return [batch_norm for layer in self.layers for batch_norm in layer.batch_norms]


def rows_of(layers, args):
    """The rows, and a count of each note on what is left out of them."""
    rows, notes = {}, collections.Counter()
    for layer in layers:
        layout, shape = LAYOUTS[len(layer.shape)], layer.shape
        if args.layout == "NHWC":
            layout = CHANNELS_LAST[layout]
            shape = (shape[0], *shape[2:], shape[1])
        values = layer.shape[:1] + layer.shape[2:]
        if view_is_interleaved(layout) and product(values) > MAX_EXTENT:
            notes[f"batch norm of {format_shape(shape)}: it is too large for {layout}: skipped"] += 1
            continue
        ops = list(args.ops)
        if ANY not in values and product(values) == 1:
            ops = [op for op in args.ops if op == "inference"]
            for op in (op for op in args.ops if op not in ops):
                notes[f"batch norm of {format_shape(shape)}: one value per channel has no variance: no {op}"] += 1
        if not ops:
            continue
        fusion = layer.fusion
        key = (layout, shape, args.dtype or layer.dtype, fusion.activation, fusion.residual)
        rows.setdefault(key, Row(*key, ops, [])).layers.append(layer)
    return list(rows.values()), notes


def view_is_interleaved(layout):
    return layout.endswith("C")


def format_shape(shape):
    return "[" + ", ".join(f'"{ANY}"' if extent == ANY else str(extent) for extent in shape) + "]"


def format_words(words):
    return "[" + ", ".join(f'"{word}"' for word in words) + "]"


def format_numbers(numbers):
    return ", ".join(f"{number:g}" for number in sorted(set(numbers)))


def format_names(names, limit=3):
    return ", ".join(shown(name, 200) for name in names[:limit]) + (", ..." if len(names) > limit else "")


def format_slopes(layers):
    """"0.1 (first, second); 0.2 (third)" of the LeakyRelus among `layers`, "" where there are none."""
    names = collections.defaultdict(list)
    for layer in layers:
        if layer.fusion.slope is not None:
            names[layer.fusion.slope].append(layer.name)
    return "; ".join(f"{slope:g} ({format_names(names[slope])})" for slope in sorted(names))


def most_common(values):
    return collections.Counter(values).most_common(1)[0][0]  # of equally many, the first


# ---- the spec ----


def format_spec(rows, args, argv):
    out = [
        f"# The batch norms of {shown(os.path.basename(args.model))}, batch {args.batch}. Written by",
        f"#   fusebn import {shown(shlex.join(argv), 1000)}",
        "# eps, momentum and leaky_relu's slope are options of a layer at run time, not of its kernel. ONNX's momentum",
        "# is the share of the old value: 0.9 there is 0.1 in fusebn. ONNX trains with the biased running variance.",
    ]
    if args.name:
        out.append(f'name = "{args.name}"')
    if args.targets:
        out.append(f"targets = {format_words(args.targets)}")
    dtype = most_common([row.dtype for row in rows])
    out += ["", "[defaults]", f"op = {format_words(args.ops)}", f'dtype = "{dtype}"']
    for row in rows:
        out += ["", *format_comment(row), "[[kernel]]", f'layout = "{row.layout}"']
        out += [f"shape = {format_shape(row.shape)}", f'activation = "{row.activation}"']
        if row.residual != "none":
            out.append(f'residual = "{row.residual}"')
        if row.dtype != dtype:
            out.append(f'dtype = "{row.dtype}"')
        if row.ops != args.ops:
            out.append(f"op = {format_words(row.ops)}")
    return "\n".join(out) + "\n"


def format_comment(row):
    """Which nodes a row is for, and what their layers are to be given at run time."""
    eps = format_numbers(batch_norm.eps for batch_norm in row.batch_norms)
    momentum = format_numbers(batch_norm.momentum for batch_norm in row.batch_norms)
    training = sum(batch_norm.training for batch_norm in row.batch_norms)
    out = [
        f"# {len(row.layers)} x: {format_names([layer.name for layer in row.layers])}",
        f"# followed by {shown('; '.join(sorted({layer.fusion.follows for layer in row.layers})))}",
        f"# eps {eps}; ONNX momentum {momentum}" + (f"; {training} with training_mode = 1" if training else ""),
    ]
    slopes = format_slopes(row.layers)
    if slopes:
        out.append(f"# BatchNormOptions::slope {slopes}")
    biases = biases_of(row.layers)
    if biases:
        out.append(f"# redundant bias: {format_names(biases, 100)}")
    return out


def biases_of(layers):
    biases = [batch_norm.redundant_bias for layer in layers for batch_norm in layer.batch_norms]
    return list(dict.fromkeys(bias for bias in biases if bias))


# ---- the summary ----


def format_summary(layers, rows, skipped, notes, args):
    found = sum(len(layer.batch_norms) for layer in layers) + sum(skipped.values())
    out = [
        f"{shown(os.path.basename(args.model))}: {counted(found, 'batch norm')}, "
        f"{len({(layer.shape, layer.fusion.residual, layer.fusion.follows) for layer in layers})} distinct (shape, "
        f"what follows); {counted(len(rows), 'kernel row')}, each for {enumerated(args.ops)}"
    ]
    out += format_table(rows)
    lines = collections.Counter(fate(layer) for layer in layers)
    training = sum(batch_norm.training for layer in layers for batch_norm in layer.batch_norms)
    if training:
        lines["training_mode = 1 in the model: its training kernel is train_forward"] += training
    lines.update(notes)
    for reason, count in skipped.items():
        lines[f"batch norm skipped: {reason}"] += count
    out += [f"  {count} x {line}" for line, count in lines.items()]
    slopes = format_slopes(layers)
    if slopes:
        out.append(f"  leaky_relu's slope is an option of the layer, BatchNormOptions::slope: {slopes}")
    biases = biases_of(layers)
    if biases:
        out.append(
            "  redundant bias (the batch norm behind it subtracts the mean, and beta takes its place; fold_batch_norm "
            f"folds it for inference): {format_names(biases, 10)}"
        )
    return "\n".join(out) + "\n"


def format_table(rows):
    table = [("count", "layout", "shape", "type", "residual", "activation", "what follows")]
    for row in rows:
        follows = shown("; ".join(sorted({layer.fusion.follows for layer in row.layers})), 60)
        count = str(len(row.layers))
        table.append((count, row.layout, format_shape(row.shape), row.dtype, row.residual, row.activation, follows))
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        cells = [line[0].rjust(widths[0])] + [cell.ljust(width) for cell, width in zip(line[1:], widths[1:])]
        yield "  " + "  ".join(cells).rstrip()


def fate(layer):
    """What became of the nodes behind a batch norm."""
    fusion, follows = layer.fusion, shown(layer.fusion.follows)
    if fusion.residual == "batch_norm":
        line = f"two batch norms meet, {follows} follows: fused into one kernel (residual batch_norm)"
    elif fusion.residual == "add":
        line = f"{follows} follows: fused (residual add)"
    elif fusion.activation != "none":
        return f"{follows} follows: fused"
    else:
        return f"{fusion.note or follows + ' follows'}: emitted unfused (activation none)"
    return line + (f"; {fusion.note}: activation none" if fusion.note else "")


def enumerated(words):
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def counted(count, noun):
    return f"{count} {noun}" + ("" if count == 1 else "s")
