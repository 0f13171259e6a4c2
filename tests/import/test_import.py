"""The importer: two real models, and a tiny model for every branch.

Run as `python3 -m unittest` here, with a Python that has onnx. What is run is the script itself, or the command in
FUSEBN_IMPORT (then it is `fusebn import` that is tested).
"""

import contextlib
import io
import os
import random
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


def run(*args):
    command = shlex.split(os.environ.get("FUSEBN_IMPORT", "")) or [sys.executable, SCRIPT]
    return subprocess.run([*command, *map(str, args)], capture_output=True, text=True, timeout=120)


def batch_norm(x="x", y="y", name="bn", **attributes):
    return helper.make_node("BatchNormalization", [x, "gamma", "beta", "mean", "var"], [y], name=name, **attributes)


class ImportTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.spec = os.path.join(self.directory, "spec.toml")

    def model(self, nodes, x=("N", 8, 6, 5), outputs=("y",), channels=8, dtype=TensorProto.FLOAT, opset=17):
        """A model of one input x; gamma, beta, mean and var have `channels` elements."""
        constants = [
            helper.make_tensor(name, TensorProto.FLOAT, [channels], [1.0] * channels)
            for name in ("gamma", "beta", "mean", "var")
        ]
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("x", dtype, x)],
            [helper.make_tensor_value_info(name, dtype, None) for name in outputs],
            initializer=constants,
        )
        path = os.path.join(self.directory, "tiny.onnx")
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("some.where", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets), path)
        return path

    def imported(self, path, *args, batch=4):
        """(the spec as tomllib reads it, what was printed) of an import that must succeed."""
        result = run(path, "--batch", batch, "-o", self.spec, *args)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr, "")
        with open(self.spec, "rb") as file:
            return tomllib.load(file), result.stdout

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


class RealModels(ImportTest):
    def test_resnet50_has_53_batch_norms_in_12_kernels(self):
        spec, printed = self.imported(
            os.path.join(MODELS, "resnet50.onnx"), "--ops", "inference,train_forward", "--name", "resnet50_bn", batch=32
        )
        self.assertEqual(spec["name"], "resnet50_bn")
        self.assertEqual(spec["defaults"], {"op": ["inference", "train_forward"], "dtype": "f32"})
        self.assertEqual(len(spec["kernel"]), 12)
        self.assertEqual(spec["kernel"][0], {"layout": "NCHW", "shape": [32, 64, 112, 112], "activation": "relu"})
        relus = [kernel for kernel in spec["kernel"] if kernel["activation"] == "relu"]
        self.assertEqual(len(relus), 8)
        self.assertIn("53 batch norms, 12 distinct (shape, what follows); 12 kernel rows", printed)
        self.assertIn("33 x Relu follows: fused\n", printed)
        self.assertIn("20 x Add follows: emitted unfused (activation none)\n", printed)

    def test_mobilenet_v2_has_52_batch_norms_and_says_that_clip_is_not_fused(self):
        spec, printed = self.imported(os.path.join(MODELS, "mobilenet_v2.onnx"), batch=1)
        # 24 by what follows, but no two kernels differ in what they cannot fuse.
        self.assertEqual(len(spec["kernel"]), 19)
        self.assertEqual({kernel["activation"] for kernel in spec["kernel"]}, {"none"})
        self.assertIn("52 batch norms, 24 distinct (shape, what follows); 19 kernel rows", printed)
        self.assertIn("35 x Clip(0..6) after the batch norm is not fused yet: emitted unfused", printed)

    def test_the_spec_says_where_it_comes_from_and_which_nodes_a_kernel_serves(self):
        self.imported(os.path.join(MODELS, "resnet50.onnx"))
        with open(self.spec, encoding="utf-8") as file:
            text = file.read()
        self.assertTrue(text.startswith("# The batch norms of resnet50.onnx, batch 4."))
        self.assertIn("resnet50.onnx --batch 4", text)
        self.assertIn("# 1 x: /bn1/BatchNormalization\n", text)
        self.assertIn("# eps 1e-05; ONNX momentum 0.9\n", text)


class Shapes(ImportTest):
    def test_the_layout_follows_from_the_rank(self):
        for x, layout in (
            (("N", 8), "NC"),
            (("N", 8, 7), "NCL"),
            (("N", 8, 7, 5), "NCHW"),
            (("N", 8, 7, 5, 3), "NCDHW"),
        ):
            kernel = self.one(self.model([batch_norm()], x=x))
            self.assertEqual((kernel["layout"], kernel["shape"]), (layout, [4, *x[1:]]))

    def test_channels_last_moves_the_channels_to_the_end(self):
        for x, layout, shape in (
            (("N", 8), "NC", [4, 8]),
            (("N", 8, 7), "NLC", [4, 7, 8]),
            (("N", 8, 7, 5), "NHWC", [4, 7, 5, 8]),
            (("N", 8, 7, 5, 3), "NDHWC", [4, 7, 5, 3, 8]),
        ):
            kernel = self.one(self.model([batch_norm()], x=x), "--layout", "NHWC")
            self.assertEqual((kernel["layout"], kernel["shape"]), (layout, shape))

    def test_unknown_spatial_extents_and_an_unknown_batch_are_any(self):
        path = self.model([batch_norm()], x=("N", 8, "H", "W"))
        self.assertEqual(self.one(path)["shape"], [4, 8, "any", "any"])
        self.assertEqual(self.one(path, batch="any")["shape"], ["any", 8, "any", "any"])

    def test_unknown_channels_are_those_of_gamma(self):
        self.assertEqual(self.one(self.model([batch_norm()], x=("N", "C", 6, 5)))["shape"], [4, 8, 6, 5])

    def test_a_batch_without_a_name_is_set_too(self):
        self.assertEqual(self.one(self.model([batch_norm()], x=(None, 8, 6, 5)))["shape"], [4, 8, 6, 5])

    def test_a_fixed_batch_is_taken_and_another_one_refused(self):
        path = self.model([batch_norm()], x=(4, 8, 6, 5))
        self.assertEqual(self.one(path)["shape"], [4, 8, 6, 5])
        os.unlink(self.spec)
        self.assertIn("has a fixed batch of 4, and --batch is 2", self.refused(path, "--batch", 2, "-o", self.spec))

    def test_shapes_are_inferred_through_the_graph(self):
        pool = helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[2, 2], strides=[2, 2])
        self.assertEqual(self.one(self.model([pool, batch_norm(x="p")], x=("N", 8, 6, 6)))["shape"], [4, 8, 3, 3])

    def test_a_shape_that_cannot_be_inferred_names_the_node(self):
        unknown = helper.make_node("Mystery", ["x"], ["m"], domain="some.where")
        said = self.refused(self.model([unknown, batch_norm(x="m", name="lost")]), "--batch", 4, "-o", self.spec)
        self.assertIn("the shape of the input of the batch norm lost cannot be inferred", said)

    def test_equal_layers_are_one_kernel(self):
        path = self.model([batch_norm(y="a", name="first"), batch_norm(x="a", name="second")])
        self.assertEqual(self.one(path)["shape"], [4, 8, 6, 5])
        with open(self.spec, encoding="utf-8") as file:
            self.assertIn("# 2 x: first, second\n", file.read())


class WhatFollows(ImportTest):
    def test_a_relu_that_alone_reads_the_result_is_fused(self):
        path = self.model([batch_norm(y="b"), helper.make_node("Relu", ["b"], ["y"])])
        self.assertEqual(self.one(path)["activation"], "relu")

    def test_a_relu_beside_another_reader_is_not_fused(self):
        nodes = [batch_norm(y="b"), helper.make_node("Relu", ["b"], ["r"]), helper.make_node("Add", ["b", "r"], ["y"])]
        spec, printed = self.imported(self.model(nodes))
        self.assertEqual(spec["kernel"][0]["activation"], "none")
        self.assertIn("1 x Relu follows, but others read the batch norm's result too: emitted unfused", printed)

    def test_two_relus_of_one_result_are_not_fused(self):
        nodes = [batch_norm(y="b"), helper.make_node("Relu", ["b"], ["y"]), helper.make_node("Relu", ["b"], ["z"])]
        self.assertEqual(self.one(self.model(nodes, outputs=("y", "z")))["activation"], "none")

    def test_a_result_that_is_an_output_of_the_model_is_not_fused(self):
        nodes = [batch_norm(y="b"), helper.make_node("Relu", ["b"], ["y"])]
        spec, printed = self.imported(self.model(nodes, outputs=("y", "b")))
        self.assertEqual(spec["kernel"][0]["activation"], "none")
        self.assertIn("Relu follows, but the batch norm's result is also an output of the model", printed)

    def test_a_reader_inside_the_body_of_an_if_counts(self):
        def body(name):
            result = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            return helper.make_graph([helper.make_node("Neg", ["b"], [name])], name + "_body", [], [result])

        condition = helper.make_node(
            "Constant", [], ["c"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True])
        )
        branch = helper.make_node("If", ["c"], ["z"], then_branch=body("t"), else_branch=body("e"))
        nodes = [batch_norm(y="b"), helper.make_node("Relu", ["b"], ["y"]), condition, branch]
        self.assertEqual(self.one(self.model(nodes, outputs=("y", "z")))["activation"], "none")

    def test_the_same_shape_with_and_without_a_relu_is_two_kernels(self):
        nodes = [batch_norm(y="b"), helper.make_node("Relu", ["b"], ["r"]), batch_norm(x="r", name="last")]
        spec, _ = self.imported(self.model(nodes))
        self.assertEqual([kernel["activation"] for kernel in spec["kernel"]], ["relu", "none"])


class Skipped(ImportTest):
    def test_half_precision_is_skipped_with_a_reason(self):
        nodes = [batch_norm(), helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT), batch_norm(x="f", y="z")]
        spec, printed = self.imported(self.model(nodes, dtype=TensorProto.FLOAT16))
        self.assertEqual(len(spec["kernel"]), 1)
        self.assertIn("1 x batch norm skipped: float16 is not supported yet (only float is)", printed)

    def test_a_model_of_which_nothing_is_left_is_refused(self):
        said = self.refused(self.model([batch_norm()], dtype=TensorProto.DOUBLE), "--batch", 4, "-o", self.spec)
        self.assertIn("no kernel is left to write", said)
        self.assertIn("double is not supported yet", said)

    def test_more_extents_than_any_layout_has_are_skipped(self):
        said = self.refused(self.model([batch_norm()], x=("N", 8, 2, 2, 2, 2)), "--batch", 4, "-o", self.spec)
        self.assertIn("an input of 6 extents has no layout", said)

    def test_statistics_per_element_are_skipped(self):
        said = self.refused(self.model([batch_norm(spatial=0)], opset=7), "--batch", 4, "-o", self.spec)
        self.assertIn("spatial=0", said)

    def test_one_value_per_channel_gets_no_training_kernel(self):
        path = self.model([batch_norm()], x=("N", 8))
        kernel = self.one(path, "--ops", "inference,train_forward", batch=1)
        self.assertEqual(kernel["op"], ["inference"])

    def test_training_mode_is_noted(self):
        node = helper.make_node(
            "BatchNormalization", ["x", "gamma", "beta", "mean", "var"], ["y", "m", "v"], training_mode=1, momentum=0.75
        )
        _, printed = self.imported(self.model([node]))
        self.assertIn("1 x training_mode = 1", printed)
        with open(self.spec, encoding="utf-8") as file:
            self.assertIn("# eps 1e-05; ONNX momentum 0.75; 1 with training_mode = 1\n", file.read())


class Refusals(ImportTest):
    def test_a_missing_file(self):
        said = self.refused("no/such.onnx", "--batch", 4, "-o", self.spec)
        self.assertEqual(said, "fusebn import: no/such.onnx: No such file or directory\n")

    def test_a_directory(self):
        self.assertIn("not a file", self.refused(self.directory, "--batch", 4, "-o", self.spec))

    def test_files_that_are_no_models(self):
        with open(os.path.join(MODELS, "resnet50.onnx"), "rb") as file:
            good = file.read()
        for content in (b"", b"not a model", good[:1000], good[: len(good) // 2], b"\xff" * 4096, bytes(4096)):
            path = os.path.join(self.directory, "broken.onnx")
            with open(path, "wb") as file:
                file.write(content)
            self.assertIn("not an ONNX model", self.refused(path, "--batch", 4, "-o", self.spec))

    def test_a_model_without_batch_norms(self):
        said = self.refused(self.model([helper.make_node("Relu", ["x"], ["y"])]), "--batch", 4, "-o", self.spec)
        self.assertIn("it has no BatchNormalization node", said)

    def test_wrong_arguments_say_what_is_allowed(self):
        path = self.model([batch_norm()])
        for args, words in (
            (["--batch", "0"], "allowed: 1 to 1073741824, or any"),
            (["--batch", "4", "--ops", "backward"], "allowed: inference, train_forward"),
            (["--batch", "4", "--targets", "avx9"], "allowed: x86-64, x86-64-avx2, x86-64-avx512, host"),
            (["--batch", "4", "--name", "my-net"], "allowed: a C identifier"),
            (["--batch", "4", "--layout", "NCL"], "NCHW"),
            ([], "--batch"),
        ):
            self.assertIn(words, self.refused(path, *args, "-o", self.spec, status=2))

    def test_an_output_that_cannot_be_written_leaves_nothing_behind(self):
        path = self.model([batch_norm()])
        for output in (os.path.join(self.directory, "no", "spec.toml"), self.directory):
            self.assertIn(output, self.refused(path, "--batch", 4, "-o", output))
        self.assertEqual(os.listdir(self.directory), ["tiny.onnx"])


class BrokenModels(ImportTest):
    def test_every_broken_model_is_imported_or_answered_with_a_sentence(self):
        """A seeded stand-in for a fuzzer, in this process: a Python a model would take minutes."""
        nodes = [batch_norm(y="b"), helper.make_node("Clip", ["b"], ["y"], min=0.0, max=6.0)]
        path = self.model(nodes, opset=9)
        with open(path, "rb") as file:
            good = file.read()
        generator = random.Random(20150211)
        sys.path.insert(0, os.path.dirname(SCRIPT))
        self.addCleanup(sys.path.remove, os.path.dirname(SCRIPT))
        import import_onnx

        imported = 0
        for _ in range(2000):
            broken = bytearray(good)
            for _ in range(generator.randint(1, 4)):
                broken[generator.randrange(len(broken))] = generator.randrange(256)
            with open(path, "wb") as file:
                file.write(broken)
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    import_onnx.run([path, "--batch", "4", "-o", self.spec])
            except import_onnx.ImportFailure as failure:
                self.assertTrue(str(failure))
                continue
            imported += 1
            with open(self.spec, "rb") as file:
                tomllib.load(file)
        self.assertGreater(imported, 0)


class Output(ImportTest):
    def test_a_dash_writes_the_spec_to_standard_output_and_the_table_to_standard_error(self):
        result = run(self.model([batch_norm()]), "--batch", 4, "-o", "-")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(tomllib.loads(result.stdout)["kernel"][0]["shape"], [4, 8, 6, 5])
        self.assertIn("1 batch norm, ", result.stderr)

    def test_targets_and_name_are_written_when_given_only(self):
        path = self.model([batch_norm()])
        spec, _ = self.imported(path, "--targets", "x86-64-avx2,host", "--name", "tiny_bn")
        self.assertEqual((spec["targets"], spec["name"]), (["x86-64-avx2", "host"], "tiny_bn"))
        spec, _ = self.imported(path)
        self.assertNotIn("targets", spec)
        self.assertNotIn("name", spec)

    def test_a_name_of_the_model_cannot_leave_its_comment(self):
        path = self.model([batch_norm(name='bn\n[[kernel]]\nshape = "\x07\u2028' + "x" * 500)])
        self.assertEqual(self.one(path)["shape"], [4, 8, 6, 5])

    def test_a_spec_that_is_there_is_replaced_as_a_whole(self):
        with open(self.spec, "w", encoding="utf-8") as file:
            file.write("old\n" * 10000)
        self.assertEqual(self.one(self.model([batch_norm()]))["shape"], [4, 8, 6, 5])
        self.assertEqual(sorted(os.listdir(self.directory)), ["spec.toml", "tiny.onnx"])


if __name__ == "__main__":
    unittest.main()
