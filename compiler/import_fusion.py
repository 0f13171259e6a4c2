"""What a batch norm's kernel takes over from the nodes behind it: y = act( bn(x) [+ residual] ).

A node is taken over only where nobody else needs what lies in between: a kernel writes y alone.
"""

import dataclasses
import math
import typing

from import_model import attribute_of, kind_of, nearly, operand, other_operand, result_of


@dataclasses.dataclass
class Match:
    """An activation, as the model computes it."""

    activation: str
    nodes: list
    values: list  # what the first node reads, and what lies between the nodes: theirs alone, or nothing is fused
    slope: typing.Optional[float] = None  # leaky_relu's


@dataclasses.dataclass
class Fusion:
    """What the kernel of one batch norm, or of two that meet, computes besides."""

    activation: str = "none"
    residual: str = "none"
    slope: typing.Optional[float] = None
    other: typing.Any = None  # the second batch norm's node, where residual is "batch_norm"
    follows: str = ""  # "Relu", "Add then Relu"; where nothing is fused, all that read the result: "Add, Conv"
    note: str = ""  # why a pattern that is there is not fused, or not as a whole


# ---- activations ----


def one_node(graph, value, node):
    """Relu, Clip(0..6), LeakyRelu, HardSwish, Swish of alpha 1."""
    kind, slope = kind_of(node), None
    if kind == "Relu":
        activation = "relu"
    elif is_relu6(graph, node, value):
        activation = "relu6"
    elif kind == "LeakyRelu":
        activation, slope = "leaky_relu", attribute_of(node, "alpha", "f", 0.01)
        if not math.isfinite(slope):
            return None
    elif kind == "HardSwish":
        activation = "hardswish"
    elif kind == "Swish" and attribute_of(node, "alpha", "f", 1.0) == 1:
        activation = "silu"
    else:
        return None
    return Match(activation, [node], [value], slope)


def gated(graph, value, node):
    """v * Sigmoid(v), v * HardSigmoid(v)."""
    if kind_of(node) == "Sigmoid":
        activation = "silu"
    elif kind_of(node) == "HardSigmoid" and is_sixth_and_half(node):
        activation = "hardswish"
    else:
        return None
    gate = result_of(node)
    for product in graph.readers(gate):
        if is_product(product, gate, value):
            return Match(activation, [node, product], [value, gate])
    return None


def hardswish_in_steps(graph, value, node):
    """v * Clip(v + 3, 0, 6) / 6, divided after the product or before it: operator sets before 14 have no HardSwish."""
    if kind_of(node) != "Add" or not graph.is_number(other_operand(node, value), 3):
        return None
    shifted = result_of(node)
    for clip in graph.readers(shifted):
        if not is_relu6(graph, clip, shifted):
            continue
        clipped = result_of(clip)
        for third in graph.readers(clipped):
            between = result_of(third)
            for last in graph.readers(between):
                product_first = is_product(third, clipped, value) and is_division_by_6(graph, last, between)
                product_last = is_division_by_6(graph, third, clipped) and is_product(last, between, value)
                if product_first or product_last:
                    return Match("hardswish", [node, clip, third, last], [value, shifted, clipped, between])
    return None


def is_relu6(graph, node, value):
    return kind_of(node) == "Clip" and operand(node, 0) == value and graph.clip_bounds(node) == [0, 6]


def is_sixth_and_half(node):
    """ONNX's own default of alpha is 0.2, which is another function."""
    alpha, beta = attribute_of(node, "alpha", "f", 0.2), attribute_of(node, "beta", "f", 0.5)
    return nearly(alpha, 1 / 6) and beta == 0.5


def is_product(node, one, other):
    return kind_of(node) == "Mul" and other_operand(node, one) == other


def is_division_by_6(graph, node, value):
    if kind_of(node) == "Div":
        return operand(node, 0) == value and graph.is_number(operand(node, 1), 6)
    return kind_of(node) == "Mul" and graph.is_number(other_operand(node, value), 1 / 6)


PATTERNS = (one_node, gated, hardswish_in_steps)


def activation_of(graph, value, owner):
    """(the Match that reads `value`, which is the result of `owner`, or None; why one that is there is not fused)."""
    note = ""
    for reader in graph.readers(value):
        for pattern in PATTERNS:
            match = pattern(graph, value, reader)
            if match is None:
                continue
            reason = needed_elsewhere(graph, match.values, match.nodes, owner)
            if not reason:
                return match, ""
            note = note or f"{chain(graph, match.nodes)} follows, but {reason}"
    return None, note


def needed_elsewhere(graph, values, nodes, owner):
    """Who else needs one of the values that only `nodes` may read, or ""."""
    for value in values:
        whose = owner if value == values[0] else f"the {kind_of(graph.producers[value])}"
        if value in graph.outputs:
            return f"{whose}'s result is also an output of the model"
        if any(all(reader is not node for node in nodes) for reader in graph.readers(value)):
            return f"others read {whose}'s result too"
    return ""


def chain(graph, nodes):
    return " then ".join(graph.describe(node) for node in nodes)


# ---- residuals ----


def residual_of(graph, node, batch_norms):
    """(the Add that the kernel of the batch norm `node` takes over, or None; the second batch norm; why not)."""
    value = result_of(node)
    add = next((reader for reader in graph.readers(value) if kind_of(reader) == "Add"), None)
    if add is None:
        return None, None, ""
    reason = needed_elsewhere(graph, [value], [add], "the batch norm")
    other = other_operand(add, value)
    if not reason and (other is None or other == value):
        reason = "it adds the batch norm's result to itself"
    if not reason:
        reason = not_of_one_shape(graph, value, other)
    if reason:
        return None, None, f"Add follows, but {reason}"
    second = graph.producers.get(other)
    if id(second) not in batch_norms:
        return add, None, ""
    if needed_elsewhere(graph, [other], [add], "the batch norm"):
        return add, None, ""  # the second's result must be written anyway
    if trains(node) != trains(second):
        if add.input[0] == value:
            return add, None, ""
        return None, None, "Add follows, but training_mode is 1 in one of its two batch norms only"
    return add, second, ""


def not_of_one_shape(graph, one, other):
    """Why the Add may broadcast, or ""."""
    one, other = graph.dims(one), graph.dims(other)
    if one is None or other is None:
        return "the shape of what is added cannot be inferred"
    if len(one) != len(other):
        return "it broadcasts"
    pairs = [(a, b) for a, b in zip(one, other) if a is None or a != b]
    if any(isinstance(a, int) and isinstance(b, int) for a, b in pairs):
        return "it broadcasts"
    return "it may broadcast (extents that are known at run time only)" if pairs else ""


def trains(node):
    return bool(attribute_of(node, "training_mode", "i", 0))


# ---- both ----


def fusion_of(graph, node, batch_norms, with_residual):
    """What the kernel of the batch norm `node` takes over. `batch_norms` has the id of each that kernels are for."""
    value = result_of(node)
    match, note = activation_of(graph, value, "the batch norm")
    if match is not None:
        return Fusion(match.activation, "none", match.slope, follows=chain(graph, match.nodes))
    if with_residual and not note:
        add, second, note = residual_of(graph, node, batch_norms)
        if add is not None:
            return with_add(graph, add, second)
    readers = graph.readers(value)
    follows = ", ".join(sorted({graph.describe(reader) for reader in readers}))
    return Fusion(follows=follows or ("an output of the model" if value in graph.outputs else "nothing"), note=note)


def with_add(graph, add, second):
    match, note = activation_of(graph, result_of(add), "the Add")
    fusion = Fusion(residual="add" if second is None else "batch_norm", other=second)
    fusion.follows = chain(graph, [add, *(match.nodes if match is not None else [])])
    if match is not None:
        fusion.activation, fusion.slope = match.activation, match.slope
    elif note:
        fusion.note = f"after the Add, {note}"
    return fusion
