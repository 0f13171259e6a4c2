"""What the tests of the importer share: how it is run, and tiny models to run it on.

What is run is the script itself, or the command in FUSEBN_IMPORT (then it is `fusebn import` that is tested).
"""

import contextlib
import io
import math
import os
import shlex
import subprocess
import sys
import tempfile
import tomllib
import unittest

import onnx
from onnx import TensorProto, helper

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODELS = os.path.join(ROOT, "examples", "models")
SCRIPT = os.path.join(ROOT, "compiler", "import_onnx.py")

sys.path.insert(0, os.path.dirname(SCRIPT))
import import_onnx


def run(*args):
    command = shlex.split(os.environ.get("FUSEBN_IMPORT", "")) or [sys.executable, "-B", SCRIPT]
    return subprocess.run([*command, *map(str, args)], capture_output=True, text=True, timeout=120)


def batch_norm(x="x", y="y", name="bn", **attributes):
    return helper.make_node("BatchNormalization", [x, "gamma", "beta", "mean", "var"], [y], name=name, **attributes)


def node(kind, inputs, output, name="", **attributes):
    """node("Add", "b x", "y")"""
    return helper.make_node(kind, inputs.split(), [output], name=name, **attributes)


class ImportTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.spec = os.path.join(self.directory, "spec.toml")

    def model(
        self, nodes, x=("N", 8, 6, 5), outputs=("y",), channels=8, dtype=TensorProto.FLOAT, opset=17, constants=None,
        inputs=None,
    ):
        """A model of one input x; gamma, beta, mean and var have `channels` elements.

        `constants`: further ones by name, each a number, or a tuple of dims for zeros of that shape. `inputs`: further
        ones by name, with their shapes.
        """
        tensors = [
            helper.make_tensor(name, TensorProto.FLOAT, [channels], [1.0] * channels)
            for name in ("gamma", "beta", "mean", "var")
        ]
        for name, value in (constants or {}).items():
            dims, number = (value, 0.0) if isinstance(value, tuple) else ((), value)
            tensors.append(helper.make_tensor(name, dtype, dims, [number] * math.prod(dims)))
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info(name, dtype, shape) for name, shape in {"x": x, **(inputs or {})}.items()],
            [helper.make_tensor_value_info(name, dtype, None) for name in outputs],
            initializer=tensors,
        )
        path = os.path.join(self.directory, "tiny.onnx")
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("some.where", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets), path)
        return path

    def imported(self, path, *args, batch=4):
        """(the spec as tomllib reads it, what was printed) of an import that must succeed. In this process, where no
        other command is to be run: a Python for each model would take minutes."""
        args = [str(word) for word in (path, "--batch", batch, "-o", self.spec, *args)]
        if "FUSEBN_IMPORT" in os.environ:
            result = run(*args)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            printed = result.stdout
        else:
            said, complained = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
                import_onnx.run(args)
            self.assertEqual(complained.getvalue(), "")
            printed = said.getvalue()
        with open(self.spec, "rb") as file:
            return tomllib.load(file), printed

    def text(self):
        """The spec as it was written, comments too."""
        with open(self.spec, encoding="utf-8") as file:
            return file.read()

    def refused(self, *args, status=1):
        """What is said of an import that must fail, which writes nothing."""
        result = run(*args)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        self.assertNotIn("Traceback", result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertFalse(os.path.exists(self.spec))
        return result.stderr

    def one(self, path, *args, **keywords):
        spec, _ = self.imported(path, *args, **keywords)
        self.assertEqual(len(spec["kernel"]), 1)
        return spec["kernel"][0]
