"""The model: read, its shapes inferred, and what is asked of its graph. Weights may be missing."""

import collections
import math
import os
import shlex
import sys

ANY = "any"  # an extent that only run time knows
MAX_MODEL_BYTES = (1 << 31) - 1  # protobuf reads no larger message; weights of larger models are in external files
MAX_NODES = 1000000


class ImportFailure(Exception):
    """A sentence for the user."""


def one_line(error):
    return shown(" ".join(str(error).split()), 300)


def shown(text, limit=80):
    """Text of the model on one line: a comment cannot be left, a terminal not be steered."""
    text = "".join(c if c.isprintable() else "?" for c in str(text)).encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= limit else text[: limit - 3] + "..."


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


# ---- nodes ----


def subgraphs(node):
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_nodes(body):
    pending = [body]
    while pending:
        graph = pending.pop()
        for node in graph.node:
            yield node
            pending += subgraphs(node)


def attribute_of(node, name, kind, default):
    """The value of an attribute that is in the field `kind` of ONNX's message: "f", "i" or "t"."""
    for attribute in node.attribute:
        if attribute.name == name:
            if not attribute.HasField(kind):
                raise ImportFailure(f"the attribute {name} of the node {shown(node.name)} is of the wrong type")
            return getattr(attribute, kind)
    return default


def kind_of(node):
    """The operator's name; with its domain in front where that is not ONNX's own, so that it equals none of those."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def label_of(node):
    return node.name or (node.output[0] if node.output else "") or "without a name"


def result_of(node):
    return node.output[0] if node.output else ""


def operand(node, index):
    """The name of an input, "" where it is left out."""
    return node.input[index] if index < len(node.input) else ""


def other_operand(node, name):
    """The second operand of a node of two, one of which is `name`; None where it has another form."""
    if len(node.input) != 2 or name not in node.input:
        return None
    return node.input[1] if node.input[0] == name else node.input[0]


# ---- the graph ----


class Graph:
    """What is asked of the model's graph: types, readers, producers and constants, by the names of values."""

    def __init__(self, graph):
        self.nodes = list(graph.node)  # one object a node from here on: nodes are compared by identity
        self.outputs = {value.name for value in graph.output}
        self.types = {}
        for value in [*graph.input, *graph.output, *graph.value_info]:
            self.types[value.name] = value.type.tensor_type
        self.initialisers = {tensor.name: tensor for tensor in graph.initializer}
        self.producers = {name: node for node in self.nodes for name in node.output if name}
        self.all_readers = collections.defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(self.names_read(node)):
                self.all_readers[name].append(node)

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

    def readers(self, name):
        return self.all_readers.get(name, []) if name else []  # "" is an input that is left out

    def constant(self, name):
        """The tensor that `name` always is, or None. Exporters share equal weights through an Identity."""
        for _ in range(100):  # a broken model may have a cycle
            if name in self.initialisers:
                return self.initialisers[name]
            producer = self.producers.get(name)
            if producer is None or kind_of(producer) not in ("Constant", "Identity"):
                return None
            if kind_of(producer) == "Constant":
                return attribute_of(producer, "value", "t", None)
            name = operand(producer, 0)
        return None

    def scalar(self, name):
        """The number that `name` always is, or None."""
        import onnx

        tensor = self.constant(name)
        if tensor is None or tensor.external_data:
            return None
        try:
            value = onnx.numpy_helper.to_array(tensor)
            return float(value.reshape(())) if value.size == 1 else None
        except Exception:  # a broken tensor, text, or a type that this version of onnx cannot hold
            return None

    def is_number(self, name, wanted):
        """Whether `name` is always `wanted`, as near as the tensor's type can say it."""
        import onnx

        value = self.scalar(name)
        half_a_unit = {onnx.TensorProto.FLOAT16: 2**-11, onnx.TensorProto.BFLOAT16: 2**-8}
        return value is not None and nearly(value, wanted, half_a_unit.get(self.constant(name).data_type, 0))

    def dims(self, name):
        """Each extent as a number, as a symbol, or None where neither is known; None where their count is not."""
        tensor = self.constant(name)
        if tensor is not None:
            return list(tensor.dims)
        tensor_type = self.types.get(name)
        if tensor_type is None or not tensor_type.HasField("shape"):
            return None
        return [
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in tensor_type.shape.dim
        ]

    def channels(self, node):
        """C from gamma, for an input whose own shape does not say it."""
        dims = self.dims(operand(node, 1))
        return dims[0] if dims is not None and len(dims) == 1 and isinstance(dims[0], int) else None

    def clip_bounds(self, node):
        """Attributes before operator set 11, inputs since; None for each that there is not."""
        bounds = []
        for index, name in ((1, "min"), (2, "max")):
            value = attribute_of(node, name, "f", None)
            if operand(node, index):
                value = self.scalar(operand(node, index))
            bounds.append(value)
        return bounds

    def describe(self, reader):
        kind = kind_of(reader)
        if kind == "LeakyRelu":
            return f"LeakyRelu({attribute_of(reader, 'alpha', 'f', 0.01):g})"
        if kind != "Clip":
            return kind
        low, high = self.clip_bounds(reader)
        if low is None and high is None:
            return "Clip"
        return f"Clip({'' if low is None else f'{low:g}'}..{'' if high is None else f'{high:g}'})"


def nearly(value, wanted, tolerance=0):
    """Equal to six digits at least, which is how exporters print 1/6; `tolerance` is relative."""
    return math.isclose(value, wanted, rel_tol=max(tolerance, 5e-6))


def extents(dims):
    """The extents that a kernel can be made for: ANY for each unknown one."""
    return [dim if isinstance(dim, int) else ANY for dim in dims]
