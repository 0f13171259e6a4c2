"""The layers of a model: one for each BatchNormalization node, or for two that meet in an Add."""

import collections
import dataclasses

from import_fusion import Fusion, fusion_of, trains
from import_model import (
    ANY, Graph, ImportFailure, all_nodes, attribute_of, extents, kind_of, label_of, operand, other_operand, result_of,
    shown, subgraphs,
)

MAX_EXTENT = 1 << 30  # FUSEBN_MAX_EXTENT in runtime/include/fusebn/kernel_abi.h
MAX_ELEMENTS = 1 << 45  # compiler/spec.h
PARAMETERS = ("scale", "B", "input_mean", "input_var")  # ONNX's names of inputs 1 to 4
LAYOUTS = {2: "NC", 3: "NCL", 4: "NCHW", 5: "NCDHW"}  # ONNX: channels are axis 1, always
DTYPES = {"float": "f32", "float16": "f16", "bfloat16": "bf16"}  # by ONNX's names


@dataclasses.dataclass
class BatchNorm:
    """One node."""

    name: str
    shape: tuple  # in ONNX's order; ANY where only run time knows it
    dtype: str
    eps: float
    momentum: float  # ONNX's: the share of the old value
    training: bool
    redundant_bias: str  # the node before it whose bias its mean takes away, or ""


@dataclasses.dataclass
class Layer:
    """What one kernel computes."""

    batch_norms: list  # two where fusion.residual is "batch_norm", else one
    fusion: Fusion

    @property
    def name(self):
        return " + ".join(shown(batch_norm.name) for batch_norm in self.batch_norms)

    @property
    def shape(self):
        return self.batch_norms[0].shape

    @property
    def dtype(self):
        return self.batch_norms[0].dtype


def find(model, with_residual=True):
    """The layers in the order of the model, and a count of each reason why a batch norm is none."""
    graph = Graph(model.graph)
    found, skipped = batch_norms_of(graph)
    nodes = [node for node, _ in found]
    facts = {id(node): batch_norm for node, batch_norm in found}
    layers, in_a_pair = [], set()
    for node in nodes:
        if id(node) in in_a_pair:
            continue
        fusion = fusion_of(graph, node, facts, with_residual)
        pair = [node]
        if fusion.other is not None:
            in_a_pair.add(id(fusion.other))
            pair.append(fusion.other)
        layers.append(Layer([facts[id(each)] for each in pair], fusion))
    return layers, skipped


def is_batch_norm(node):
    return kind_of(node) == "BatchNormalization"


def batch_norms_of(graph):
    """(node, BatchNorm) of each that a kernel can be made for, and a count of each reason why one cannot."""
    found, skipped = [], collections.Counter()
    for node in graph.nodes:
        inside = sum(is_batch_norm(inner) for body in subgraphs(node) for inner in all_nodes(body))
        if inside:
            skipped[f"inside the body of {shown(node.name or node.op_type)} ({node.op_type})"] += inside
        if not is_batch_norm(node):
            continue
        label = label_of(node)
        if not operand(node, 0) or not result_of(node):
            raise ImportFailure(f"the batch norm {shown(label)} has no input or no output")
        if not attribute_of(node, "spatial", "i", 1):
            skipped["spatial=0 (statistics per element) is no batch norm over channels"] += 1
            continue
        dims = graph.dims(operand(node, 0))
        if dims is None:
            raise ImportFailure(
                f"the shape of the input of the batch norm {shown(label)} cannot be inferred; export the model with "
                "shapes, or with operators that ONNX's shape inference knows"
            )
        shape = extents(dims)
        if len(shape) > 1 and shape[1] == ANY:
            shape[1] = graph.channels(node) or ANY
        check_parameters(graph, node, shape)
        dtype = type_name(graph, operand(node, 0))
        reason = why_not(shape, dtype)
        if reason:
            skipped[reason] += 1
            continue
        batch_norm = BatchNorm(
            name=label,
            shape=tuple(shape),
            dtype=DTYPES[dtype],
            eps=attribute_of(node, "epsilon", "f", 1e-5),
            momentum=attribute_of(node, "momentum", "f", 0.9),
            training=trains(node),
            redundant_bias=redundant_bias(graph, node, len(shape)),
        )
        found.append((node, batch_norm))
    return found, skipped


def check_parameters(graph, node, shape):
    """Refuses what ONNX does not allow: a spec made of it would have kernels that no layer of the model can call."""
    label = shown(label_of(node))
    if len(node.input) != 5 or not all(node.input):
        given = sum(map(bool, node.input))
        raise ImportFailure(
            f"the batch norm {label} has {given} inputs; ONNX requires {len(PARAMETERS) + 1}: X, "
            + ", ".join(PARAMETERS)
        )
    for index, parameter in enumerate(PARAMETERS, 1):
        dims = graph.dims(operand(node, index))
        if dims is None or len(shape) < 2:
            continue
        if graph.constant(operand(node, index)) is None and len(dims) != 1:
            continue  # shape inference's word for what other nodes make
        if len(dims) != 1 or (isinstance(dims[0], int) and shape[1] not in (ANY, dims[0])):
            raise ImportFailure(
                f"the batch norm {label} has an input of {shape[1]} channels and {parameter} of the shape "
                f"{shown(list(extents(dims)))}; ONNX requires one value per channel"
            )


def type_name(graph, name):
    """ONNX's name of an element type, in lower case."""
    import onnx

    tensor = graph.constant(name)
    number = tensor.data_type if tensor is not None else graph.types[name].elem_type
    try:
        return onnx.TensorProto.DataType.Name(number).lower()
    except ValueError:
        return f"element type {number}"


def product(shape):
    value = 1
    for extent in shape:
        if extent != ANY:
            value *= extent
    return value


def why_not(shape, dtype):
    """Why there can be no kernel for this input, or None: what docs/spec.md refuses."""
    if dtype not in DTYPES:
        return f"there are no kernels for {dtype} ({', '.join(DTYPES)} have some)"
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


def redundant_bias(graph, node, rank):
    """The node before the batch norm `node` (whose input has `rank` extents) that adds a constant to each channel, for
    batch norms alone: their mean contains it and takes it away again. "" where there is none."""
    value = operand(node, 0)
    producer = graph.producers.get(value)
    if producer is None or value in graph.outputs:
        return ""
    if not all(is_batch_norm(reader) and list(reader.input).count(value) == 1 for reader in graph.readers(value)):
        return ""
    if any(operand(reader, 0) != value for reader in graph.readers(value)):
        return ""
    kind = kind_of(producer)
    if kind in ("Conv", "ConvTranspose") and operand(producer, 2):
        return label_of(producer)
    if kind == "Gemm":
        dims = graph.dims(operand(producer, 2))
        # One row for all: else it differs within a channel.
        return label_of(producer) if dims is not None and (len(dims) < 2 or dims[0] == 1) else ""
    if kind == "Add" and rank == 2:  # the last extent is the channels' then
        for factor in producer.input:
            product_node = graph.producers.get(factor)
            bias = graph.constant(other_operand(producer, factor) or "")
            if product_node is not None and kind_of(product_node) == "MatMul" and bias is not None:
                return label_of(producer) if len(bias.dims) == 1 else ""
    return ""
