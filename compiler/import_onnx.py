#!/usr/bin/env python3
"""Lists the batch norms of an ONNX model as a spec: `fusebn import MODEL --batch N --ops inference -o spec.toml`.

Three steps: load (the model with its shapes inferred), find (one Layer per BatchNormalization node, with what reads its
result), write (equal layers merged into one [[kernel]] each). Only shapes are read: weights may be missing.
"""

import argparse
import collections
import dataclasses
import os
import re
import shlex
import sys
import tempfile

ANY = "any"
MAX_EXTENT = 1 << 30  # FUSEBN_MAX_EXTENT in runtime/include/fusebn/kernel_abi.h
MAX_ELEMENTS = 1 << 45  # compiler/spec.h
MAX_KERNELS = 10000  # compiler/spec.h
MAX_MODEL_BYTES = (1 << 31) - 1  # protobuf reads no larger message; weights of larger models are in external files
MAX_NODES = 1000000
OPS = ("inference", "train_forward")
TARGETS = ("x86-64", "x86-64-avx2", "x86-64-avx512", "host")
LAYOUTS = {2: "NC", 3: "NCL", 4: "NCHW", 5: "NCDHW"}  # ONNX: channels are axis 1, always
CHANNELS_LAST = {"NC": "NC", "NCL": "NLC", "NCHW": "NHWC", "NCDHW": "NDHWC"}


class ImportFailure(Exception):
    """A sentence for the user."""


@dataclasses.dataclass
class Layer:
    name: str
    shape: tuple  # in ONNX's order; ANY where only run time knows it
    follows: str  # what reads the result: "Relu", "Add", "Add, Conv", "Clip(0..6)", "nothing"
    fused: bool  # whether that is a Relu that the kernel computes
    note: str  # why a Relu that follows is not fused, or ""
    eps: float
    momentum: float  # ONNX's: the share of the old value
    training: bool


# ---- load ----


def load(path, batch):
    """The model at `path` with its batch extent set and every shape inferred that can be."""
    try:
        import onnx
        import onnx.inliner
        import onnx.shape_inference
    except ImportError as error:
        raise ImportFailure(
            f"the Python package onnx cannot be imported ({error}); install it with: "
            f"{shlex.quote(sys.executable or 'python3')} -m pip install onnx"
        ) from None
    try:
        size = os.stat(path).st_size
        if not os.path.isfile(path):
            raise ImportFailure(f"{path}: not a file")
        if size > MAX_MODEL_BYTES:
            raise ImportFailure(f"{path}: {size} bytes; a model of {MAX_MODEL_BYTES} at most can be read")
        model = onnx.load(path, format="protobuf", load_external_data=False)  # whatever its name
    except OSError as error:
        raise ImportFailure(f"{path}: {error.strerror or error}") from None
    except ImportFailure:
        raise
    except Exception as error:  # protobuf has its own exceptions, and which depends on its version
        raise ImportFailure(f"{path}: not an ONNX model ({one_line(error)})") from None
    # Protobuf reads many a file of another kind as a message without a single known field.
    if not model.HasField("graph") or not model.opset_import or not model.graph.node:
        raise ImportFailure(f"{path}: not an ONNX model (it has no graph, no operator set or no node)")
    if len(model.graph.node) > MAX_NODES:
        raise ImportFailure(f"{path}: {len(model.graph.node)} nodes; {MAX_NODES} at most are read")
    check_text(path, model.graph)
    try:
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        set_batch(model.graph, batch)
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except ImportFailure:
        raise
    except Exception as error:
        raise ImportFailure(f"{path}: the shapes cannot be inferred ({one_line(error)})") from None
    return model


def check_text(path, graph):
    """Protobuf hands out a string that is no UTF-8 as bytes, where everything below expects text."""
    for node in all_nodes(graph):
        if any(isinstance(text, bytes) for text in (node.name, node.op_type, node.domain, *node.input, *node.output)):
            raise ImportFailure(f"{path}: not an ONNX model (a name in it is not UTF-8)")


def set_batch(graph, batch):
    """Gives the batch symbol, the first extent of an input, its value wherever it occurs."""
    initialised = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initialised and value.type.HasField("tensor_type")]
    symbols = set()
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        if len(dims) < 2:  # a scalar or a list: a threshold, a length
            continue
        if dims[0].HasField("dim_value"):
            if batch != dims[0].dim_value:
                raise ImportFailure(
                    f"the input {shown(value.name)} has a fixed batch of {dims[0].dim_value}, and --batch is {batch}; "
                    f"give --batch {dims[0].dim_value}, or export the model with a dynamic batch"
                )
        elif dims[0].dim_param:
            symbols.add(dims[0].dim_param)
        elif batch != ANY:
            dims[0].dim_value = batch
    if batch == ANY:
        return
    for value in [*graph.input, *graph.output, *graph.value_info]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in symbols and not dim.HasField("dim_value"):
                dim.dim_value = batch


# ---- find ----


def subgraphs(node):
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def attribute_of(node, name, kind, default):
    """The value of an attribute that is in the field `kind` of ONNX's message: "f", "i" or "t"."""
    for attribute in node.attribute:
        if attribute.name == name:
            if not attribute.HasField(kind):
                raise ImportFailure(f"the attribute {name} of the node {shown(node.name)} is of the wrong type")
            return getattr(attribute, kind)
    return default


def is_batch_norm(node):
    return node.op_type == "BatchNormalization" and node.domain in ("", "ai.onnx")


class Graph:
    """What is asked of the model's graph: types by name, readers by name, constants by name."""

    def __init__(self, graph):
        self.nodes = graph.node
        self.outputs = {value.name for value in graph.output}
        self.types = {}
        for value in [*graph.input, *graph.output, *graph.value_info]:
            self.types[value.name] = value.type.tensor_type
        self.initialisers = {tensor.name: tensor for tensor in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self.readers = collections.defaultdict(list)
        for node in graph.node:
            for name in dict.fromkeys(self.names_read(node)):
                self.readers[name].append(node)

    @staticmethod
    def names_read(node):
        """Also what the bodies of an If or a Loop take from outside: the node that holds them is the reader."""
        names, pending = list(node.input), list(subgraphs(node))
        while pending:
            body = pending.pop()
            names += [value.name for value in body.output]
            for inner in body.node:
                names += inner.input
                pending += subgraphs(inner)
        return names

    def scalar(self, name):
        """The number that `name` always is, or None."""
        import onnx

        tensor = self.initialisers.get(name)
        producer = self.producers.get(name)
        if tensor is None and producer is not None and producer.op_type == "Constant":
            tensor = attribute_of(producer, "value", "t", None)
        if tensor is None or tensor.external_data:
            return None
        try:
            value = onnx.numpy_helper.to_array(tensor)
            return float(value.reshape(())) if value.size == 1 else None
        except Exception:
            return None

    def channels(self, node):
        """C from gamma, for an input whose own shape does not say it."""
        gamma = node.input[1] if len(node.input) > 1 else ""
        if gamma in self.initialisers and len(self.initialisers[gamma].dims) == 1:
            return self.initialisers[gamma].dims[0]
        shape = extents(self.types.get(gamma))
        return shape[0] if shape is not None and len(shape) == 1 and shape[0] != ANY else None

    def describe(self, reader):
        if reader.op_type != "Clip":
            return reader.op_type
        # Attributes before operator set 11, inputs since.
        low, high = attribute_of(reader, "min", "f", None), attribute_of(reader, "max", "f", None)
        if len(reader.input) > 1 and reader.input[1]:
            low = self.scalar(reader.input[1])
        if len(reader.input) > 2 and reader.input[2]:
            high = self.scalar(reader.input[2])
        if low is None and high is None:
            return "Clip"
        return f"Clip({'' if low is None else f'{low:g}'}..{'' if high is None else f'{high:g}'})"


def extents(tensor_type):
    """The extents, ANY for each unknown one; None where not even their count is known."""
    if tensor_type is None or not tensor_type.HasField("shape"):
        return None
    return [dim.dim_value if dim.HasField("dim_value") else ANY for dim in tensor_type.shape.dim]


def product(shape):
    value = 1
    for extent in shape:
        if extent != ANY:
            value *= extent
    return value


def why_not(shape, tensor_type):
    """Why there can be no kernel for this input, or None: what docs/spec.md refuses, and other types."""
    import onnx

    if tensor_type.elem_type != onnx.TensorProto.FLOAT:
        try:
            name = onnx.TensorProto.DataType.Name(tensor_type.elem_type).lower()
        except ValueError:
            name = f"element type {tensor_type.elem_type}"
        return f"{name} is not supported yet (only float is)"
    if len(shape) not in LAYOUTS:
        return f"an input of {len(shape)} extents has no layout (2 to 5 have)"
    if shape[1] == ANY:
        return "its channels are known at run time only"
    for extent in shape:
        if extent != ANY and not 1 <= extent <= MAX_EXTENT:
            return f"an extent of {extent} (1 to {MAX_EXTENT} are allowed)"
    spatial = product(shape[2:])
    if spatial > MAX_EXTENT or spatial * product(shape[:1]) * shape[1] > MAX_ELEMENTS:
        return "it is too large"
    return None


def find(model):
    """The layers, and a count of each reason why a batch norm is none."""
    graph = Graph(model.graph)
    layers, skipped = [], collections.Counter()
    for node in graph.nodes:
        inside = sum(is_batch_norm(inner) for body in subgraphs(node) for inner in all_nodes(body))
        if inside:
            skipped[f"inside the body of {shown(node.name or node.op_type)} ({node.op_type})"] += inside
        if not is_batch_norm(node):
            continue
        label = node.name or (node.output[0] if node.output else "") or "without a name"
        if not node.input or not node.output:
            raise ImportFailure(f"the batch norm {shown(label)} has no input or no output")
        if not attribute_of(node, "spatial", "i", 1):
            skipped["spatial=0 (statistics per element) is no batch norm over channels"] += 1
            continue
        tensor_type = graph.types.get(node.input[0])
        shape = extents(tensor_type)
        if shape is None:
            raise ImportFailure(
                f"the shape of the input of the batch norm {shown(label)} cannot be inferred; export the model with "
                "shapes, or with operators that ONNX's shape inference knows"
            )
        if len(shape) > 1 and shape[1] == ANY:
            shape[1] = graph.channels(node) or ANY
        reason = why_not(shape, tensor_type)
        if reason:
            skipped[reason] += 1
            continue
        layers.append(layer_of(graph, node, label, tuple(shape)))
    return layers, skipped


def all_nodes(body):
    pending = [body]
    while pending:
        graph = pending.pop()
        for node in graph.node:
            yield node
            pending += subgraphs(node)


def layer_of(graph, node, label, shape):
    result = node.output[0]
    readers = graph.readers.get(result, [])
    follows = ", ".join(sorted({graph.describe(reader) for reader in readers}))
    is_output = result in graph.outputs
    relu = any(reader.op_type == "Relu" for reader in readers)
    note = ""
    if relu and is_output:
        note = "the batch norm's result is also an output of the model"
    elif relu and len(readers) > 1:
        note = "others read the batch norm's result too"
    return Layer(
        name=label,
        shape=shape,
        follows=follows or ("an output of the model" if is_output else "nothing"),
        fused=relu and not note,
        note=note,
        eps=attribute_of(node, "epsilon", "f", 1e-5),
        momentum=attribute_of(node, "momentum", "f", 0.9),
        training=bool(attribute_of(node, "training_mode", "i", 0)),
    )


# ---- write ----


def one_line(error):
    return shown(" ".join(str(error).split()), 300)


def shown(text, limit=80):
    """Text of the model on one line: a comment cannot be left, a terminal not be steered."""
    text = "".join(c if c.isprintable() else "?" for c in str(text)).encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= limit else text[: limit - 3] + "..."


@dataclasses.dataclass
class Row:
    """One [[kernel]]."""

    layout: str
    shape: tuple  # in the layout's order
    activation: str
    ops: list
    layers: list


def rows_of(layers, args):
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
        if "train_forward" in ops and ANY not in values and product(values) == 1:
            ops.remove("train_forward")
            notes[f"batch norm of {format_shape(shape)}: one value per channel has no variance: no train_forward"] += 1
        if not ops:
            continue
        key = (layout, shape, layer.fused)
        row = rows.setdefault(key, Row(layout, shape, "relu" if layer.fused else "none", ops, []))
        row.layers.append(layer)
    return list(rows.values()), notes


def view_is_interleaved(layout):
    return layout.endswith("C")


def format_shape(shape):
    return "[" + ", ".join(f'"{ANY}"' if extent == ANY else str(extent) for extent in shape) + "]"


def format_words(words):
    return "[" + ", ".join(f'"{word}"' for word in words) + "]"


def format_spec(rows, args, argv):
    out = [
        f"# The batch norms of {shown(os.path.basename(args.model))}, batch {args.batch}. Written by",
        f"#   fusebn import {shown(shlex.join(argv), 1000)}",
        "# eps and momentum are options of a layer at run time, not of its kernel. ONNX's momentum is the share of the",
        "# old value: 0.9 there is 0.1 in fusebn. ONNX trains with the biased running variance.",
    ]
    if args.name:
        out.append(f'name = "{args.name}"')
    if args.targets:
        out.append(f"targets = {format_words(args.targets)}")
    out += ["", "[defaults]", f"op = {format_words(args.ops)}", 'dtype = "f32"']
    for row in rows:
        names = ", ".join(shown(layer.name) for layer in row.layers[:3]) + (", ..." if len(row.layers) > 3 else "")
        eps = ", ".join(f"{eps:g}" for eps in sorted({layer.eps for layer in row.layers}))
        momentum = ", ".join(f"{momentum:g}" for momentum in sorted({layer.momentum for layer in row.layers}))
        training = sum(layer.training for layer in row.layers)
        follows = "; ".join(sorted({layer.follows for layer in row.layers}))
        out += [
            "",
            f"# {len(row.layers)} x: {names}",
            f"# followed by {shown(follows)}",
            f"# eps {eps}; ONNX momentum {momentum}" + (f"; {training} with training_mode = 1" if training else ""),
            "[[kernel]]",
            f'layout = "{row.layout}"',
            f"shape = {format_shape(row.shape)}",
            f'activation = "{row.activation}"',
        ]
        if row.ops != args.ops:
            out.append(f"op = {format_words(row.ops)}")
    return "\n".join(out) + "\n"


def format_summary(layers, rows, skipped, notes, args):
    found = len(layers) + sum(skipped.values())
    out = [
        f"{shown(os.path.basename(args.model))}: {counted(found, 'batch norm')}, "
        f"{len({(layer.shape, layer.follows) for layer in layers})} distinct (shape, what follows); "
        f"{counted(len(rows), 'kernel row')}, each for {' and '.join(args.ops)}"
    ]
    table = [("count", "layout", "shape", "activation", "what follows")]
    for row in rows:
        follows = "; ".join(sorted({layer.follows for layer in row.layers}))
        table.append((str(len(row.layers)), row.layout, format_shape(row.shape), row.activation, shown(follows, 60)))
    widths = [max(len(line[column]) for line in table) for column in range(5)]
    for line in table:
        cells = [line[0].rjust(widths[0])] + [cell.ljust(width) for cell, width in zip(line[1:], widths[1:])]
        out.append("  " + "  ".join(cells).rstrip())
    lines = collections.Counter()
    for layer in layers:
        if layer.fused:
            lines["Relu follows: fused"] += 1
        elif layer.note:
            lines[f"Relu follows, but {layer.note}: emitted unfused (activation none)"] += 1
        elif layer.follows.startswith("Clip") and "," not in layer.follows:
            lines[f"{layer.follows} after the batch norm is not fused yet: emitted unfused (activation none)"] += 1
        else:
            lines[f"{shown(layer.follows)} follows: emitted unfused (activation none)"] += 1
    training = sum(layer.training for layer in layers)
    if training:
        lines["training_mode = 1 in the model: its training kernel is train_forward"] += training
    lines.update(notes)
    for reason, count in skipped.items():
        lines[f"batch norm skipped: {reason}"] += count
    out += [f"  {count} x {line}" for line, count in lines.items()]
    return "\n".join(out) + "\n"


def counted(count, noun):
    return f"{count} {noun}" + ("" if count == 1 else "s")


def write_file(path, text):
    """Whole or not at all: a build that is stopped leaves no half spec behind."""
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=os.path.dirname(path) or ".", prefix=".fusebn-", delete=False
        ) as file:
            temporary = file.name
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # a temporary file is made for its owner alone
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise ImportFailure(f"{path}: {error.strerror or error}") from None


# ---- the command ----


def batch_value(text):
    if text == ANY:
        return ANY
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 1 <= int(text) <= MAX_EXTENT:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: 1 to {MAX_EXTENT}, or {ANY}")
    return int(text)


def words_value(allowed):
    def read(text):
        words = list(dict.fromkeys(text.split(",")))
        for word in words:
            if word not in allowed:
                raise argparse.ArgumentTypeError(f"found {word!r}; allowed: {', '.join(allowed)}, separated by commas")
        return words

    return read


def name_value(text):
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,99}", text):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a C identifier of at most 100 characters")
    return text


def parse_args(argv):
    parser = argparse.ArgumentParser(
        prog="fusebn import",
        description="Writes a spec with one kernel row for each distinct batch norm of an ONNX model.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="the .onnx file; its weights need not be there")
    parser.add_argument("--batch", metavar="N", type=batch_value, required=True, help=f"the batch extent, or {ANY}")
    parser.add_argument(
        "--ops", metavar="OP,...", type=words_value(OPS), default=["inference"],
        help=f"what to have kernels for: {', '.join(OPS)}; default: inference",
    )
    parser.add_argument(
        "--layout", choices=("NCHW", "NHWC"), default="NCHW",
        help="NCHW: tensors as ONNX has them. NHWC: for a runtime that holds its tensors channels-last (rows are NC, "
        "NLC, NHWC and NDHWC then). Default: NCHW",
    )
    parser.add_argument("--name", type=name_value, help="the library's name; default: the spec's file name")
    parser.add_argument(
        "--targets", metavar="TARGET,...", type=words_value(TARGETS),
        help=f"instruction sets: {', '.join(TARGETS)}; default: the first three",
    )
    parser.add_argument("-o", "--output", metavar="SPEC", required=True, help="the spec to write; - for stdout")
    return parser.parse_args(argv)


def run(argv):
    args = parse_args(argv)
    layers, skipped = find(load(args.model, args.batch))
    if not layers and not skipped:
        raise ImportFailure(f"{args.model}: it has no BatchNormalization node (an export may have folded them away)")
    rows, notes = rows_of(layers, args)
    summary = format_summary(layers, rows, skipped, notes, args)
    if not rows:
        raise ImportFailure(f"{args.model}: no kernel is left to write\n{summary}".rstrip())
    if sum(len(row.ops) for row in rows) > MAX_KERNELS:
        raise ImportFailure(f"{args.model}: more than {MAX_KERNELS} kernels, which is a spec's limit")
    spec = format_spec(rows, args, argv)
    if args.output == "-":
        sys.stdout.write(spec)
        sys.stderr.write(summary)
    else:
        write_file(args.output, spec)
        sys.stdout.write(summary)


def main():
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names of any script, terminals of any encoding
    try:
        run(sys.argv[1:])
        sys.stdout.flush()
    except ImportFailure as failure:
        print(f"fusebn import: {failure}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit complains again
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
