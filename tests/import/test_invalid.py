"""Models that ONNX does not allow: refused, with the name of the node."""

import unittest

from onnx import helper

from import_case import ImportTest, batch_norm


class Invalid(ImportTest):
    def said(self, path):
        return self.refused(path, "--batch", 4, "-o", self.spec)

    def test_parameters_of_another_number_of_channels(self):
        said = self.said(self.model([batch_norm(name="odd")], x=("N", 7, 6, 5)))
        self.assertIn(
            "the batch norm odd has an input of 7 channels and scale of the shape [8]; ONNX requires one value per "
            "channel", said,
        )

    def test_each_parameter_is_looked_at(self):
        for index, parameter in enumerate(("scale", "B", "input_mean", "input_var"), 1):
            inputs = ["x", "gamma", "beta", "mean", "var"]
            inputs[index] = "wrong"
            for dims in ((9,), (8, 1)):
                node = helper.make_node("BatchNormalization", inputs, ["y"], name="odd")
                said = self.said(self.model([node], constants={"wrong": dims}))
                self.assertIn(f"the batch norm odd has an input of 8 channels and {parameter} of the shape ", said)

    def test_fewer_inputs_than_five(self):
        for inputs, given in (
            (["x", "gamma", "beta", "mean"], 4), (["x", "gamma", "beta", "", "var"], 4), (["x"], 1),
        ):
            said = self.said(self.model([helper.make_node("BatchNormalization", inputs, ["y"], name="odd")]))
            self.assertIn(
                f"the batch norm odd has {given} inputs; ONNX requires 5: X, scale, B, input_mean, input_var", said
            )

    def test_a_device_can_be_a_target(self):
        spec, _ = self.imported(self.model([batch_norm()]), "--targets", "x86-64,cuda-sm_90,opencl")
        self.assertEqual(spec["targets"], ["x86-64", "cuda-sm_90", "opencl"])


if __name__ == "__main__":
    unittest.main()
