"""OpenVINO's CPU plugin, which has inference only: BatchNormInference (NCHW), or a multiplication and an addition by
constants that the running statistics were folded into, which its compiler makes of the former too; then the addition
and the activation. One stream for least latency, f32 (its own choice may be bf16), input and output in memory that
stays."""

import numpy
import openvino
from openvino import opset13 as ops


class OpenVino:
    name = "OpenVINO"
    operations = ("inference",)

    def __init__(self, threads):
        self.core = openvino.Core()
        self.settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": str(threads),
                         "INFERENCE_PRECISION_HINT": "f32", "ENABLE_HYPER_THREADING": True,
                         "ENABLE_CPU_PINNING": False}

    @staticmethod
    def version():
        return f"OpenVINO {openvino.get_version().split('-')[0]}"

    def candidates(self, case):
        forms = {"folded": folded} if case.layout == "NHWC" else {"BatchNormInference": batch_norm, "folded": folded}
        return [self.candidate(case, name, form) for name, form in forms.items()]

    def candidate(self, case, name, form):
        from peer_fusebn import aligned

        request = self.core.compile_model(model(case, form), "CPU", self.settings).create_infer_request()
        y = aligned(numpy.zeros(case.shape, numpy.float32))
        for entry in request.model_inputs:
            request.set_tensor(entry, openvino.Tensor(case.data[entry.get_any_name()], shared_memory=True))
        request.set_output_tensor(openvino.Tensor(y, shared_memory=True))

        def run():  # returns y, and so keeps it
            request.start_async()
            request.wait()
            return y

        return name, run, lambda: {"y": y}


def batch_norm(case, b, x):
    return ops.batch_norm_inference(x, *(case.data[name + b] for name in ("gamma", "beta", "mean", "var")), 1e-5)


def folded(case, b, x):
    shape = (1, 1, 1, -1) if case.layout == "NHWC" else (1, -1, 1, 1)
    scale, shift = (values.reshape(shape) for values in case.folded(b))
    return ops.add(ops.multiply(x, scale), shift)


def model(case, form):
    inputs = [ops.parameter(case.shape, numpy.float32, name="x" + b) for b in case.branches]
    terms = [form(case, b, x) for b, x in zip(case.branches, inputs)]
    if case.norm.residual == "add":
        inputs.append(ops.parameter(case.shape, numpy.float32, name="residual"))
        terms.append(inputs[-1])
    y = ops.add(*terms) if len(terms) == 2 else terms[0]
    activate = {"none": lambda v: v, "relu": ops.relu, "relu6": lambda v: ops.clamp(v, 0, 6), "silu": ops.swish}
    for parameter in inputs:
        parameter.output(0).get_tensor().set_names({parameter.get_friendly_name()})
    return openvino.Model([activate[case.norm.activation](y)], inputs, "layer")
