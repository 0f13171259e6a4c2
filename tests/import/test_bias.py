"""The importer: biases that a batch norm makes redundant. Its mean contains them and takes them away again."""

import unittest

import onnx

from import_case import ImportTest, batch_norm, node

SAID = (
    "  redundant bias (the batch norm behind it subtracts the mean, and beta takes its place; fold_batch_norm folds it "
    "for inference): "
)
CONV = {"w": (8, 8, 1, 1), "bias": (8,)}
LINEAR = {"w": (8, 8), "bias": (8,)}


class RedundantBias(ImportTest):
    def assert_redundant(self, names, nodes, **model):
        _, printed = self.imported(self.model(nodes, **model))
        self.assertIn(SAID + names + "\n", printed)
        self.assertIn(f"# redundant bias: {names}\n", self.text())

    def assert_silent(self, nodes, **model):
        _, printed = self.imported(self.model(nodes, **model))
        self.assertNotIn("redundant", printed + self.text())

    def test_of_a_convolution(self):
        for kind in ("Conv", "ConvTranspose"):
            convolution = node(kind, "x w bias", "c", name="before")
            self.assert_redundant("before", [convolution, batch_norm(x="c")], constants=CONV)

    def test_a_convolution_without_one_has_none(self):
        self.assert_silent([node("Conv", "x w", "c"), batch_norm(x="c")], constants=CONV)

    def test_a_node_without_a_name_goes_by_its_result(self):
        self.assert_redundant("c", [node("Conv", "x w bias", "c"), batch_norm(x="c")], constants=CONV)

    def test_whatever_becomes_of_what_follows(self):
        nodes = [
            node("Conv", "x w bias", "c", name="one"),
            batch_norm(x="c", y="a"),
            node("Conv", "x w bias", "d", name="two"),
            batch_norm(x="d", y="b"),
            node("Add", "a b", "y"),
        ]
        self.assert_redundant("one, two", nodes, constants=CONV)

    def test_whose_values_are_in_a_file_that_is_missing(self):
        path = self.model([node("Conv", "x w bias", "c", name="before"), batch_norm(x="c")], constants=CONV)
        model = onnx.load(path)
        bias = next(tensor for tensor in model.graph.initializer if tensor.name == "bias")
        bias.ClearField("float_data")
        bias.data_location = onnx.TensorProto.EXTERNAL
        bias.external_data.add(key="location", value="missing.bin")
        with open(path, "wb") as file:
            file.write(model.SerializeToString())
        self.assertIn(SAID + "before\n", self.imported(path)[1])

    def test_for_several_batch_norms(self):
        nodes = [node("Conv", "x w bias", "c", name="before"), batch_norm(x="c"), batch_norm(x="c", y="z")]
        self.assert_redundant("before", nodes, outputs=("y", "z"), constants=CONV)

    def test_is_needed_where_others_read_the_sum(self):
        nodes = [node("Conv", "x w bias", "c"), batch_norm(x="c"), node("Neg", "c", "z")]
        self.assert_silent(nodes, outputs=("y", "z"), constants=CONV)
        self.assert_silent(nodes[:2], outputs=("y", "c"), constants=CONV)

    def test_is_needed_where_it_is_gamma_of_a_batch_norm(self):
        nodes = [
            node("Gemm", "x w bias", "c"),
            batch_norm(x="c"),
            node("BatchNormalization", "x c beta mean var", "z"),
        ]
        self.assert_silent(nodes, x=("N", 8), outputs=("y", "z"), constants=LINEAR)

    def test_of_a_gemm_for_all_rows(self):
        gemm = node("Gemm", "x w bias", "c", name="linear")
        for dims in ((8,), (1, 8), (1,), ()):
            constants = {"w": (8, 8), "bias": dims}
            if dims == ():
                constants["bias"] = 0.5
            self.assert_redundant("linear", [gemm, batch_norm(x="c")], x=("N", 8), constants=constants)
        for dims in ((4, 8), (4, 1)):
            constants = {"w": (8, 8), "bias": dims}
            self.assert_silent([gemm, batch_norm(x="c")], x=("N", 8), constants=constants)
        self.assert_silent([node("Gemm", "x w", "c"), batch_norm(x="c")], x=("N", 8), constants=LINEAR)

    def test_of_a_matmul_and_an_add(self):
        for operands in ("m bias", "bias m"):
            nodes = [node("MatMul", "x w", "m"), node("Add", operands, "c", name="sum"), batch_norm(x="c")]
            self.assert_redundant("sum", nodes, x=("N", 8), constants=LINEAR)

    def test_of_a_matmul_over_another_extent_than_the_channels_is_needed(self):
        nodes = [node("MatMul", "x w", "m"), node("Add", "m bias", "c"), batch_norm(x="c")]
        self.assert_silent(nodes, x=("N", 8, 8), constants=LINEAR)

    def test_of_a_matmul_that_is_no_constant_of_one_extent_is_needed(self):
        nodes = [node("MatMul", "x w", "m"), node("Add", "m other", "c"), batch_norm(x="c")]
        self.assert_silent(nodes, x=("N", 8), constants={"w": (8, 8)}, inputs={"other": (8,)})
        self.assert_silent(nodes, x=("N", 8), constants={"w": (8, 8), "other": (4, 8)})

    def test_of_another_sum_is_not_looked_at(self):
        self.assert_silent([node("Add", "x bias", "c"), batch_norm(x="c")], x=("N", 8), constants=LINEAR)
        nodes = [node("Neg", "x", "m"), node("Add", "m bias", "c"), batch_norm(x="c")]
        self.assert_silent(nodes, x=("N", 8), constants=LINEAR)

    def test_many_are_all_in_the_spec_and_ten_in_the_summary(self):
        nodes, x = [], "x"
        for i in range(12):
            nodes += [node("Conv", f"{x} w bias", f"c{i}", name=f"conv{i}"), batch_norm(x=f"c{i}", y=f"y{i}")]
            x = f"y{i}"
        _, printed = self.imported(self.model(nodes, outputs=("y11",), constants=CONV))
        names = [f"conv{i}" for i in range(12)]
        self.assertIn(SAID + ", ".join(names[:10]) + ", ...\n", printed)
        self.assertIn("# redundant bias: " + ", ".join(names) + "\n", self.text())


if __name__ == "__main__":
    unittest.main()
