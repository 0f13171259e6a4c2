"""The importer: two real models, the shapes, the types, the refusals, the output. What is fused: test_fusion.py.

Run as `python3 -m unittest` here, with a Python that has onnx (import_case.py says what is run).
"""

import contextlib
import io
import os
import random
import tomllib
import unittest

from onnx import TensorProto, helper

from import_case import MODELS, ImportTest, batch_norm, import_onnx, node, run


class RealModels(ImportTest):
    def test_resnet50_has_53_batch_norms_in_16_kernels(self):
        ops = ["inference", "train_forward", "backward"]
        spec, printed = self.imported(
            os.path.join(MODELS, "resnet50.onnx"), "--ops", ",".join(ops), "--name", "resnet50_bn", batch=32
        )
        self.assertEqual(spec["name"], "resnet50_bn")
        self.assertEqual(spec["defaults"], {"op": ops, "dtype": "f32"})
        kernels = spec["kernel"]
        self.assertEqual(kernels[0], {"layout": "NCHW", "shape": [32, 64, 112, 112], "activation": "relu"})
        self.assertEqual({kernel["activation"] for kernel in kernels}, {"relu"})
        # The last batch norm of each of the 16 blocks adds; that of the 4 with a downsample branch adds its batch norm.
        ends = [[32, 256, 56, 56], [32, 512, 28, 28], [32, 1024, 14, 14], [32, 2048, 7, 7]]
        for residual in ("batch_norm", "add"):
            self.assertEqual([kernel["shape"] for kernel in kernels if kernel.get("residual") == residual], ends)
        self.assertEqual(len(kernels), 16)
        self.assertIn(
            "53 batch norms, 16 distinct (shape, what follows); 16 kernel rows, each for inference, train_forward and "
            "backward\n", printed,
        )
        self.assertIn("  33 x Relu follows: fused\n", printed)
        self.assertIn("  12 x Add then Relu follows: fused (residual add)\n", printed)
        self.assertIn(
            "  4 x two batch norms meet, Add then Relu follows: fused into one kernel (residual batch_norm)\n", printed
        )
        self.assertNotIn("unfused", printed)
        self.assertNotIn("bias", printed)

    def test_resnet50_without_residuals_has_its_20_adds_apart(self):
        spec, printed = self.imported(os.path.join(MODELS, "resnet50.onnx"), "--no-residual")
        self.assertEqual(len(spec["kernel"]), 12)
        self.assertFalse([kernel for kernel in spec["kernel"] if "residual" in kernel])
        self.assertIn("  20 x Add follows: emitted unfused (activation none)\n", printed)

    def test_mobilenet_v2_has_52_batch_norms_in_24_kernels(self):
        spec, printed = self.imported(os.path.join(MODELS, "mobilenet_v2.onnx"), batch=1)
        self.assertEqual(len(spec["kernel"]), 24)
        self.assertEqual({kernel["activation"] for kernel in spec["kernel"]}, {"none", "relu6"})
        self.assertIn("52 batch norms, 24 distinct (shape, what follows); 24 kernel rows", printed)
        self.assertIn("  35 x Clip(0..6) follows: fused\n", printed)
        self.assertIn("  10 x Add follows: fused (residual add)\n", printed)
        self.assertIn("  2 x Conv follows: emitted unfused (activation none)\n", printed)
        # The first of each row of blocks is the residual of the second: its own result must be there.
        self.assertIn("  5 x Add follows, but others read the batch norm's result too: emitted unfused", printed)

    def test_the_spec_says_where_it_comes_from_and_which_nodes_a_kernel_serves(self):
        self.imported(os.path.join(MODELS, "resnet50.onnx"))
        text = self.text()
        self.assertTrue(text.startswith("# The batch norms of resnet50.onnx, batch 4."))
        self.assertIn("resnet50.onnx --batch 4", text)
        self.assertIn("# 1 x: /bn1/BatchNormalization\n", text)
        self.assertIn(
            "# 1 x: /layer1/layer1.0/bn3/BatchNormalization + /layer1/layer1.0/downsample/downsample.1/"
            "BatchNormalization\n# followed by Add then Relu\n", text,
        )
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
        self.assertIn("# 2 x: first, second\n", self.text())


class Types(ImportTest):
    def test_the_models_own_type_is_taken(self):
        for dtype, name in ((TensorProto.FLOAT, "f32"), (TensorProto.FLOAT16, "f16"), (TensorProto.BFLOAT16, "bf16")):
            spec, _ = self.imported(self.model([batch_norm()], dtype=dtype))
            self.assertEqual(spec["defaults"]["dtype"], name)
            self.assertNotIn("dtype", spec["kernel"][0])

    def test_types_that_are_mixed_are_said_row_by_row(self):
        nodes = [
            batch_norm(y="a", name="first"),
            node("Relu", "a", "b"),
            batch_norm(x="b", y="y"),
            node("Cast", "x", "f", to=TensorProto.FLOAT),
            batch_norm(x="f", y="z"),
        ]
        spec, printed = self.imported(self.model(nodes, outputs=("y", "z"), dtype=TensorProto.FLOAT16))
        self.assertEqual(spec["defaults"]["dtype"], "f16")
        self.assertEqual([kernel.get("dtype") for kernel in spec["kernel"]], [None, None, "f32"])
        self.assertIn("[4, 8, 6, 5]  f32 ", printed)

    def test_a_given_type_takes_its_place(self):
        for dtype in (TensorProto.FLOAT, TensorProto.FLOAT16):
            spec, _ = self.imported(self.model([batch_norm()], dtype=dtype), "--dtype", "bf16")
            self.assertEqual(spec["defaults"]["dtype"], "bf16")

    def test_a_type_without_kernels_is_skipped_with_a_reason_whatever_type_is_given(self):
        nodes = [batch_norm(), node("Cast", "x", "f", to=TensorProto.FLOAT), batch_norm(x="f", y="z")]
        path = self.model(nodes, outputs=("y", "z"), dtype=TensorProto.DOUBLE)
        for args in ((), ("--dtype", "bf16")):
            spec, printed = self.imported(path, *args)
            self.assertEqual(len(spec["kernel"]), 1)
            self.assertIn("1 x batch norm skipped: there are no kernels for double", printed)


class Skipped(ImportTest):
    def test_a_model_of_which_nothing_is_left_is_refused(self):
        said = self.refused(self.model([batch_norm()], dtype=TensorProto.DOUBLE), "--batch", 4, "-o", self.spec)
        self.assertIn("no kernel is left to write", said)
        self.assertIn("there are no kernels for double (float, float16, bfloat16 have some)", said)

    def test_more_extents_than_any_layout_has_are_skipped(self):
        said = self.refused(self.model([batch_norm()], x=("N", 8, 2, 2, 2, 2)), "--batch", 4, "-o", self.spec)
        self.assertIn("an input of 6 extents has no layout", said)

    def test_statistics_per_element_are_skipped(self):
        said = self.refused(self.model([batch_norm(spatial=0)], opset=7), "--batch", 4, "-o", self.spec)
        self.assertIn("spatial=0", said)

    def test_one_value_per_channel_gets_no_training_kernel(self):
        path = self.model([batch_norm()], x=("N", 8))
        spec, printed = self.imported(path, "--ops", "train_forward,inference,backward", batch=1)
        self.assertEqual(spec["kernel"][0]["op"], ["inference"])
        for op in ("train_forward", "backward"):
            self.assertIn(f"1 x batch norm of [1, 8]: one value per channel has no variance: no {op}\n", printed)
        os.unlink(self.spec)
        self.assertIn(
            "no kernel is left to write", self.refused(path, "--batch", 1, "--ops", "backward", "-o", self.spec)
        )

    def test_training_mode_is_noted(self):
        node = helper.make_node(
            "BatchNormalization", ["x", "gamma", "beta", "mean", "var"], ["y", "m", "v"], training_mode=1, momentum=0.75
        )
        _, printed = self.imported(self.model([node]))
        self.assertIn("1 x training_mode = 1", printed)
        self.assertIn("# eps 1e-05; ONNX momentum 0.75; 1 with training_mode = 1\n", self.text())


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
            (["--batch", "4", "--ops", "backwards"], "allowed: inference, train_forward, backward"),
            (["--batch", "4", "--dtype", "f64"], "bf16"),
            (["--batch", "4", "--targets", "avx9"], "allowed: x86-64, x86-64-avx2, x86-64-avx512, cuda-sm_80, "),
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
        # The kinds of node that are looked at: v * Clip(v + 3, 0, 6) / 6 of two batch norms, the first after a Conv.
        nodes = [
            node("Conv", "x w w0", "c"),
            batch_norm(x="c", y="b1", name="1"),
            batch_norm(y="b2", name="2"),
            node("Add", "b1 b2", "v"),
            node("Add", "v three", "a"),
            node("Clip", "a", "r", min=0.0, max=6.0),
            node("Mul", "v r", "m"),
            node("Div", "m six", "y"),
            batch_norm(x="y", y="b3", name="3"),
            node("LeakyRelu", "b3", "z"),
        ]
        constants = {"w": (8, 8, 1, 1), "w0": (8,), "three": 3.0, "six": 6.0}
        path = self.model(nodes, outputs=("z",), opset=9, constants=constants)
        with open(path, "rb") as file:
            good = file.read()
        generator = random.Random(20150211)
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

    def test_the_command_writes_the_spec_and_prints_the_table(self):
        result = run(self.model([batch_norm()]), "--batch", 4, "-o", self.spec)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("1 distinct (shape, what follows); 1 kernel row, each for inference\n", result.stdout)
        self.assertIn("[4, 8, 6, 5]", self.text())

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
