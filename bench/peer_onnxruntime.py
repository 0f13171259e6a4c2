"""ONNX Runtime's CPU provider, which has inference only. Two models are tried and the faster one competes:
BatchNormalization (NCHW only, as in ONNX), and a multiplication and an addition by constants that the running
statistics were folded into. All of its graph optimisations are on, and input and output are bound to memory that stays.
Its threads spin for work within a call, but not behind it (force_spinning_stop): they would for longer than a turn's
wait, and take a CPU from who comes next."""

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


class OnnxRuntime:
    name = "ONNX Runtime"
    operations = ("inference",)

    def __init__(self, threads):
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1
        self.options.add_session_config_entry("session.force_spinning_stop", "1")
        self.options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL

    @staticmethod
    def version():
        return f"ONNX Runtime {onnxruntime.__version__}"

    def candidates(self, case):
        forms = {"folded": folded} if case.layout == "NHWC" else {"BatchNormalization": batch_norm, "folded": folded}
        return [self.candidate(case, name, form) for name, form in forms.items()]

    def candidate(self, case, name, form):
        from peer_fusebn import aligned

        session = onnxruntime.InferenceSession(model(case, form).SerializeToString(), self.options,
                                               providers=["CPUExecutionProvider"])
        y, binding = aligned(numpy.zeros(case.shape, numpy.float32)), session.io_binding()
        for entry in session.get_inputs():
            array = case.data[entry.name]
            binding.bind_input(entry.name, "cpu", 0, numpy.float32, case.shape, array.ctypes.data)
        binding.bind_output("y", "cpu", 0, numpy.float32, case.shape, y.ctypes.data)

        def run():  # returns y, and so keeps it: the binding has its address only
            session.run_with_iobinding(binding)
            return y

        return name, run, lambda: {"y": y}


def batch_norm(case, b, constants, nodes):
    names = [constants(name + b, case.data[name + b]) for name in ("gamma", "beta", "mean", "var")]
    nodes.append(helper.make_node("BatchNormalization", ["x" + b, *names], ["bn" + b], epsilon=1e-5))


def folded(case, b, constants, nodes):
    channels = (-1,) if case.layout == "NHWC" else (-1, 1, 1)
    pair = [constants(name + b, values.reshape(channels)) for name, values in zip(("scale", "shift"), case.folded(b))]
    nodes += [helper.make_node("Mul", ["x" + b, pair[0]], ["scaled" + b]),
              helper.make_node("Add", ["scaled" + b, pair[1]], ["bn" + b])]


def model(case, form):
    nodes, initialisers = [], []

    def constants(name, array):
        initialisers.append(numpy_helper.from_array(array, name))
        return name

    for b in case.branches:
        form(case, b, constants, nodes)
    inputs, last = ["x" + b for b in case.branches], "bn"
    if case.norm.residual != "none":
        inputs += ["residual"] if case.norm.residual == "add" else []
        nodes.append(helper.make_node("Add", ["bn", "residual" if case.norm.residual == "add" else "bn2"], ["sum"]))
        last = "sum"
    if case.norm.activation == "relu6":
        names = [constants("low", numpy.float32(0)), constants("high", numpy.float32(6))]
        nodes.append(helper.make_node("Clip", [last, *names], ["y"]))
    elif case.norm.activation == "silu":
        nodes += [helper.make_node("Sigmoid", [last], ["sigmoid"]), helper.make_node("Mul", [last, "sigmoid"], ["y"])]
    else:
        nodes.append(helper.make_node({"relu": "Relu", "none": "Identity"}[case.norm.activation], [last], ["y"]))
    tensor = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, case.shape) for name in [*inputs, "y"]}
    graph = helper.make_graph(nodes, "layer", [tensor[name] for name in inputs], [tensor["y"]], initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
