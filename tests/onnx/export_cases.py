"""Writes ONNX's own batch-norm cases, as its backend test has them, for a C++ test to read.

    export_cases.py DIRECTORY      writes DIRECTORY/cases.json and DIRECTORY/cases.bin

They are those of onnx.backend.test that include("test_batchnorm_.*_cpu") and include("test_BatchNorm.*_cpu") select:
of the operator itself, and models converted from PyTorch, whose data are files of the package.
"""
import json
import pathlib
import re
import sys
import warnings

import numpy
import onnx
from onnx import helper, numpy_helper

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of other operators' cases
    from onnx.backend.test.loader import load_model_tests

    CASES = [case for kind in ("node", "pytorch-converted") for case in load_model_tests(kind=kind)
             if re.match(r"test_batchnorm_.*_cpu|test_BatchNorm.*_cpu", case.name + "_cpu")]


def tensor_of(path):
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


def arrays(case):
    """The model, its inputs by name, and the wanted outputs."""
    if case.model is not None:
        inputs, outputs = case.data_sets[0]
        return case.model, dict(zip((i.name for i in case.model.graph.input), inputs)), outputs
    folder = pathlib.Path(case.model_dir)
    model = onnx.load(folder / "model.onnx")
    values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    free = [i.name for i in model.graph.input if i.name not in values]
    data = folder / "test_data_set_0"
    values.update((name, tensor_of(data / f"input_{i}.pb")) for i, name in enumerate(free))
    return model, values, [tensor_of(data / f"output_{i}.pb") for i in range(len(model.graph.output))]


def main(directory):
    index, numbers = [], []

    def stored(array):
        assert array.dtype == numpy.float32, array.dtype
        place = {"offset": sum(n.size for n in numbers), "shape": list(array.shape)}
        numbers.append(array.astype("<f4").ravel())
        return place

    for case in CASES:
        model, values, outputs = arrays(case)
        (node,) = model.graph.node
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        x, scale, bias, mean, var = (values[name] for name in node.input)
        index.append({
            "name": case.name,
            "converted": case.model is None,
            "training": bool(attributes.get("training_mode", 0)),
            "epsilon": attributes.get("epsilon", 1e-5),
            "momentum": attributes.get("momentum", 0.9),
            "x": stored(x), "scale": stored(scale), "bias": stored(bias), "mean": stored(mean), "var": stored(var),
            "outputs": [stored(numpy.asarray(o)) for o in outputs],
        })
    (directory / "cases.bin").write_bytes(numpy.concatenate(numbers).tobytes())
    (directory / "cases.json").write_text(json.dumps({"onnx": onnx.__version__, "cases": index}, indent=1))


main(pathlib.Path(sys.argv[1]))
