"""The importer: what a kernel takes over from the nodes behind its batch norm, and each reason why it does not.

In every model b is the batch norm's result and y the model's.
"""

import unittest

import onnx
from onnx import TensorProto, helper

from import_case import ImportTest, batch_norm, node

SHARED = "others read {}'s result too"
OUTPUT = "{}'s result is also an output of the model"

# v * Clip(v + 3, 0, 6) / 6: [v + 3], [Clip], then the product and the division in either order.
CONSTANTS = {"three": 3.0, "zero": 0.0, "six": 6.0, "sixth": 1 / 6}
SHIFTS = ("b three", "three b")
CLIP = node("Clip", "a zero six", "c")
ENDS = tuple(
    (first, last)
    for first, last in (
        *(
            (node("Mul", product, "m"), division)
            for product in ("b c", "c b")
            for division in (node("Div", "m six", "y"), node("Mul", "m sixth", "y"), node("Mul", "sixth m", "y"))
        ),
        *(
            (division, node("Mul", product, "y"))
            for product in ("b m", "m b")
            for division in (node("Div", "c six", "m"), node("Mul", "c sixth", "m"), node("Mul", "sixth c", "m"))
        ),
    )
)


class FusionTest(ImportTest):
    def fused(self, nodes, *args, **model):
        """(activation, residual) of each row; what was printed is in self.printed."""
        spec, self.printed = self.imported(self.model(nodes, **{"constants": CONSTANTS, **model}), *args)
        return [(row["activation"], row.get("residual", "none")) for row in spec["kernel"]]

    def after_batch_norm(self, *nodes, **keywords):
        return self.fused([batch_norm(y="b"), *nodes], **keywords)

    def assert_activation(self, activation, *nodes, **keywords):
        self.assertEqual(self.after_batch_norm(*nodes, **keywords), [(activation, "none")], nodes)

    def assert_kept(self, reason, *nodes, **keywords):
        """Nothing is fused, and the reason is said."""
        self.assert_activation("none", *nodes, **keywords)
        self.assertIn(reason, self.printed)
        self.assertIn(": emitted unfused (activation none)\n", self.printed)


class OneNode(FusionTest):
    def test_relu(self):
        self.assert_activation("relu", node("Relu", "b", "y"))
        self.assertIn("  1 x Relu follows: fused\n", self.printed)

    def test_clip_from_0_to_6_is_relu6_with_inputs_and_with_attributes(self):
        for opset in (11, 12, 13, 17):
            self.assert_activation("relu6", node("Clip", "b zero six", "y"), opset=opset)
        for opset in (7, 9, 10):
            self.assert_activation("relu6", node("Clip", "b", "y", min=0.0, max=6.0), opset=opset)

    def test_clip_takes_its_bounds_from_constant_nodes_too_and_through_identities(self):
        six = helper.make_tensor("t", TensorProto.FLOAT, [1], [6.0])
        nodes = [
            helper.make_node("Constant", [], ["k"], value=six),
            node("Identity", "k", "l"),
            node("Identity", "zero", "z"),
            node("Clip", "b z l", "y"),
        ]
        self.assert_activation("relu6", *nodes)

    def test_clip_with_other_bounds_is_not_fused(self):
        constants = {"zero": 0.0, "six": 6.0, "one": 1.0, "low": -1.0}
        for inputs, follows in (
            ("b zero one", "Clip(0..1)"),
            ("b low six", "Clip(-1..6)"),
            ("b zero", "Clip(0..)"),
            ("b", "Clip"),
        ):
            self.assert_kept(f"1 x {follows} follows", node("Clip", inputs, "y"), constants=constants)
        self.assert_kept("1 x Clip(..6) follows", helper.make_node("Clip", ["b", "", "six"], ["y"]))
        self.assert_kept("1 x Clip(0..5) follows", node("Clip", "b", "y", min=0.0, max=5.0), opset=9)

    def test_clip_with_a_bound_of_run_time_is_not_fused(self):
        self.assert_kept("1 x Clip(0..) follows", node("Clip", "b zero limit", "y"), inputs={"limit": ()})

    def test_leaky_relu_says_its_slope_to_the_layer(self):
        self.assert_activation("leaky_relu", node("LeakyRelu", "b", "y", alpha=0.2))
        said = "leaky_relu's slope is an option of the layer, BatchNormOptions::slope: 0.2 (bn)\n"
        self.assertIn(said, self.printed)
        self.assertIn("  1 x LeakyRelu(0.2) follows: fused\n", self.printed)
        self.assertIn("# BatchNormOptions::slope 0.2 (bn)\n", self.text())

    def test_leaky_relu_has_onnxs_default_slope(self):
        self.assert_activation("leaky_relu", node("LeakyRelu", "b", "y"))
        self.assertIn("BatchNormOptions::slope: 0.01 (bn)\n", self.printed)

    def test_leaky_relus_of_two_slopes_are_one_kernel(self):
        nodes = [
            batch_norm(y="b", name="first"),
            node("LeakyRelu", "b", "c", alpha=0.2),
            batch_norm(x="c", y="d", name="second"),
            node("LeakyRelu", "d", "y", alpha=0.1),
        ]
        self.assertEqual(self.fused(nodes), [("leaky_relu", "none")])
        self.assertIn("# BatchNormOptions::slope 0.1 (second); 0.2 (first)\n", self.text())

    def test_a_leaky_relu_whose_slope_is_no_number_is_not_fused(self):
        self.assert_activation("none", node("LeakyRelu", "b", "y", alpha=float("inf")))
        self.assertNotIn("slope is", self.printed)

    def test_hard_swish(self):
        self.assert_activation("hardswish", node("HardSwish", "b", "y"))

    @unittest.skipIf(onnx.defs.onnx_opset_version() < 24, "this onnx has no Swish")
    def test_swish_of_alpha_1_is_silu(self):
        self.assert_activation("silu", node("Swish", "b", "y"), opset=24)
        self.assert_activation("silu", node("Swish", "b", "y", alpha=1.0), opset=24)
        self.assert_kept("1 x Swish follows", node("Swish", "b", "y", alpha=2.0), opset=24)

    def test_an_operator_of_another_domain_is_not_onnxs(self):
        self.assert_kept("1 x some.where.Relu follows", node("Relu", "b", "y", domain="some.where"))

    def test_other_readers_keep_the_result(self):
        reason = "Relu follows, but " + SHARED.format("the batch norm")
        self.assert_kept(reason, node("Relu", "b", "r"), node("Add", "b r", "y"))
        self.assert_kept(reason, node("Relu", "b", "y"), node("Relu", "b", "z"), outputs=("y", "z"))

    def test_a_result_that_is_an_output_of_the_model_is_kept(self):
        reason = "Relu follows, but " + OUTPUT.format("the batch norm")
        self.assert_kept(reason, node("Relu", "b", "y"), outputs=("y", "b"))

    def test_a_reader_inside_the_body_of_an_if_counts(self):
        def body(name):
            result = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            return helper.make_graph([helper.make_node("Neg", ["b"], [name])], name + "_body", [], [result])

        condition = helper.make_node(
            "Constant", [], ["c"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True])
        )
        branch = helper.make_node("If", ["c"], ["z"], then_branch=body("t"), else_branch=body("e"))
        reason = "Relu follows, but " + SHARED.format("the batch norm")
        self.assert_kept(reason, node("Relu", "b", "y"), condition, branch, outputs=("y", "z"))

    def test_the_same_shape_with_and_without_an_activation_is_two_kernels(self):
        nodes = [batch_norm(y="b"), node("Relu", "b", "r"), batch_norm(x="r", name="last")]
        self.assertEqual(self.fused(nodes), [("relu", "none"), ("none", "none")])


class SeveralNodes(FusionTest):
    def test_the_product_with_the_sigmoid_is_silu_in_either_order(self):
        for product in ("b s", "s b"):
            self.assert_activation("silu", node("Sigmoid", "b", "s"), node("Mul", product, "y"))
            self.assertIn("  1 x Sigmoid then Mul follows: fused\n", self.printed)

    def test_the_product_with_the_hard_sigmoid_is_hardswish_in_either_order(self):
        for product in ("b s", "s b"):
            for alpha in (1 / 6, 0.166667):
                gate = node("HardSigmoid", "b", "s", alpha=alpha, beta=0.5)
                self.assert_activation("hardswish", gate, node("Mul", product, "y"))

    def test_another_hard_sigmoid_is_not_hardswishs(self):
        for attributes in ({}, {"alpha": 0.17}, {"alpha": 1 / 6, "beta": 0.4}):
            gate = node("HardSigmoid", "b", "s", **attributes)
            self.assert_kept("1 x HardSigmoid, Mul follows", gate, node("Mul", "b s", "y"))

    def test_hardswish_in_steps_in_every_order_of_operands(self):
        for shift in SHIFTS:
            for end in ENDS:
                self.assert_activation("hardswish", node("Add", shift, "a"), CLIP, *end)

    def test_hardswish_in_steps_of_operator_sets_before_11(self):
        clip = node("Clip", "a", "c", min=0.0, max=6.0)
        self.assert_activation("hardswish", node("Add", "b three", "a"), clip, *ENDS[0], opset=9)

    def test_hardswish_in_steps_has_constants_of_its_type(self):
        for dtype in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
            for end in ENDS:
                self.assert_activation("hardswish", node("Add", "b three", "a"), CLIP, *end, dtype=dtype)

    def test_hardswish_in_steps_takes_a_sixth_of_six_digits(self):
        end = (node("Mul", "b c", "m"), node("Mul", "m sixth", "y"))
        constants = {**CONSTANTS, "sixth": 0.166667}
        self.assert_activation("hardswish", node("Add", "b three", "a"), CLIP, *end, constants=constants)

    def test_steps_with_other_constants_are_not_hardswish(self):
        for wrong in ({"three": 2.0}, {"six": 5.0}, {"zero": 1.0}):
            self.assert_activation(
                "none", node("Add", "b three", "a"), CLIP, *ENDS[0], constants={**CONSTANTS, **wrong}
            )
        for constants in ({"five": 5.0}, {"five": 1 / 5}):
            for kind in ("Div", "Mul"):
                end = (node("Mul", "b c", "m"), node(kind, "m five", "y"))
                constants = {**CONSTANTS, **constants}
                self.assert_activation("none", node("Add", "b three", "a"), CLIP, *end, constants=constants)

    def test_6_by_the_product_is_not_hardswish(self):
        end = (node("Mul", "b c", "m"), node("Div", "six m", "y"))
        self.assert_activation("none", node("Add", "b three", "a"), CLIP, *end)

    def test_a_product_with_another_value_is_no_gate(self):
        self.assert_kept("1 x Sigmoid follows", node("Sigmoid", "b", "s"), node("Mul", "x s", "y"))
        self.assert_activation("none", node("Add", "b three", "a"), CLIP, node("Mul", "x c", "m"), ENDS[0][1])

    def test_other_readers_of_what_lies_between_keep_it(self):
        gate, product = node("Sigmoid", "b", "s"), node("Mul", "b s", "y")
        for value, owner in (("b", "the batch norm"), ("s", "the Sigmoid")):
            reason = "Sigmoid then Mul follows, but "
            other = node("Neg", value, "z")
            self.assert_kept(reason + SHARED.format(owner), gate, product, other, outputs=("y", "z"))
            self.assert_kept(reason + OUTPUT.format(owner), gate, product, outputs=("y", value))

    def test_other_readers_of_what_lies_between_the_steps_keep_it(self):
        for end, owner in ((ENDS[0], "the Mul"), (ENDS[-1], "the Mul"), (ENDS[6], "the Div")):
            steps = (node("Add", "b three", "a"), CLIP, *end)
            for value, owner_of_value in (("a", "the Add"), ("c", "the Clip"), ("m", owner)):
                other = node("Neg", value, "z")
                self.assert_kept(SHARED.format(owner_of_value), *steps, other, outputs=("y", "z"))
                self.assert_kept(OUTPUT.format(owner_of_value), *steps, outputs=("y", value))


class Residuals(FusionTest):
    def test_an_add_of_the_same_shape_is_a_residual_in_either_order(self):
        for operands in ("b x", "x b"):
            self.assertEqual(self.after_batch_norm(node("Add", operands, "y")), [("none", "add")])
            self.assertIn("  1 x Add follows: fused (residual add)\n", self.printed)
        self.assertEqual(self.after_batch_norm(node("Add", "b x", "y"), opset=6), [("none", "add")])

    def test_the_activation_behind_the_add_is_fused_too(self):
        for activation, nodes in {
            "relu": [node("Relu", "v", "y")],
            "relu6": [node("Clip", "v zero six", "y")],
            "leaky_relu": [node("LeakyRelu", "v", "y")],
            "silu": [node("Sigmoid", "v", "s"), node("Mul", "s v", "y")],
            "hardswish": [
                node("Add", "v three", "a"), CLIP, node("Mul", "v c", "m"), node("Div", "m six", "y"),
            ],
        }.items():
            self.assertEqual(self.after_batch_norm(node("Add", "b x", "v"), *nodes), [(activation, "add")])
            self.assertEqual("BatchNormOptions::slope: 0.01 (bn)" in self.printed, activation == "leaky_relu")

    def test_the_activation_is_left_where_others_need_the_sum(self):
        add, relu = node("Add", "b x", "v"), node("Relu", "v", "y")
        for nodes, outputs, reason in (
            ([add, relu], ("y", "v"), OUTPUT),
            ([add, relu, node("Neg", "v", "z")], ("y", "z"), SHARED),
        ):
            self.assertEqual(self.after_batch_norm(*nodes, outputs=outputs), [("none", "add")])
            reason = f"after the Add, Relu follows, but {reason.format('the Add')}"
            self.assertIn(f"1 x Add follows: fused (residual add); {reason}: activation none\n", self.printed)

    def test_other_readers_of_the_batch_norm_keep_its_result(self):
        add, relu = node("Add", "b x", "v"), node("Relu", "v", "y")
        reason = "1 x Add follows, but "
        other = node("Neg", "b", "z")
        self.assert_kept(reason + SHARED.format("the batch norm"), add, relu, other, outputs=("y", "z"))
        self.assert_kept(reason + OUTPUT.format("the batch norm"), add, relu, outputs=("y", "b"))

    def test_an_add_that_broadcasts_is_no_residual(self):
        reason = "1 x Add follows, but it broadcasts: emitted unfused"
        for shape in ((), (1,), (8, 1, 1), (6, 5), (1, 8, 6, 5), (4, 8, 6, 1), (1, 4, 8, 6, 5)):
            self.assert_kept(reason, node("Add", "b other", "y"), constants={"other": shape})
        # The other way round: the sum is larger than the batch norm's result.
        self.assert_kept(reason, node("Add", "b other", "y"), x=("N", 8, 1, 1), inputs={"other": (4, 8, 6, 5)})

    def test_a_constant_of_the_same_shape_is_a_residual(self):
        rows = self.after_batch_norm(node("Add", "b other", "y"), constants={"other": (4, 8, 6, 5)})
        self.assertEqual(rows, [("none", "add")])

    def test_extents_of_run_time_must_be_the_same_ones(self):
        add = node("Add", "b other", "y")
        for other, rows in (
            (("N", 8, "H", 5), [("none", "add")]),
            (("N", 8, "I", 5), [("none", "none")]),
            (("N", 8, None, 5), [("none", "none")]),
            (("N", 8, 6, 5), [("none", "none")]),
        ):
            self.assertEqual(self.after_batch_norm(add, x=("N", 8, "H", 5), inputs={"other": other}), rows, other)
        self.assertIn("Add follows, but it may broadcast (extents that are known at run time only)", self.printed)
        # An extent without a name equals no other, not even another without one.
        rows = self.after_batch_norm(add, x=("N", 8, None, 5), inputs={"other": ("N", 8, None, 5)})
        self.assertEqual(rows, [("none", "none")])

    def test_a_batch_of_run_time_is_the_same_one_everywhere(self):
        nodes = [batch_norm(y="b"), node("Conv", "x w", "o"), node("Add", "b o", "y")]
        for batch in ("any", "4"):
            rows = self.fused(nodes, "--batch", batch, constants={"w": (8, 8, 1, 1)})
            self.assertEqual(rows, [("none", "add")])

    def test_an_operand_of_unknown_shape_is_no_residual(self):
        nodes = [node("Mystery", "x", "o", domain="some.where"), node("Add", "b o", "y")]
        self.assert_kept("Add follows, but the shape of what is added cannot be inferred", *nodes)

    def test_a_result_added_to_itself_is_no_residual(self):
        self.assert_kept("Add follows, but it adds the batch norm's result to itself", node("Add", "b b", "y"))

    def test_the_same_shape_with_and_without_a_residual_is_two_kernels(self):
        nodes = [node("Add", "b x", "c"), node("Relu", "c", "d"), batch_norm(x="d", y="e"), node("Relu", "e", "y")]
        self.assertEqual(self.after_batch_norm(*nodes), [("relu", "add"), ("relu", "none")])

    def test_no_residual_keeps_batch_norm_and_add_apart(self):
        nodes = [batch_norm(y="b"), node("Relu", "b", "c"), batch_norm(x="c", y="d"), node("Add", "d x", "y")]
        self.assertEqual(self.fused(nodes, "--no-residual"), [("relu", "none"), ("none", "none")])
        self.assertIn("  1 x Add follows: emitted unfused (activation none)\n", self.printed)


class TwoBatchNorms(FusionTest):
    # The downsample block of a ResNet: relu(b + c), both of them batch norms.
    ADD, RELU = node("Add", "b c", "v"), node("Relu", "v", "y")

    def two(self, *nodes, first=(), second=(), x="x", **keywords):
        pair = [batch_norm(y="b", name="main", **dict(first)), batch_norm(x=x, y="c", name="short", **dict(second))]
        return self.fused([*pair, *nodes], **keywords)

    def test_two_that_meet_are_one_row(self):
        for add in (self.ADD, node("Add", "c b", "v")):
            self.assertEqual(self.two(add, self.RELU), [("relu", "batch_norm")])
            self.assertIn("2 batch norms, 1 distinct (shape, what follows); 1 kernel row,", self.printed)
            self.assertIn(
                "  1 x two batch norms meet, Add then Relu follows: fused into one kernel (residual batch_norm)\n",
                self.printed,
            )
            self.assertIn("# 1 x: main + short\n", self.text())

    def test_two_that_meet_may_differ_in_eps_and_momentum(self):
        rows = self.two(self.ADD, self.RELU, first={"epsilon": 1e-3}, second={"momentum": 0.5})
        self.assertEqual(rows, [("relu", "batch_norm")])
        self.assertIn("# eps 1e-05, 0.001; ONNX momentum 0.5, 0.9\n", self.text())

    def test_two_that_meet_without_an_activation(self):
        self.assertEqual(self.two(node("Add", "b c", "y")), [("none", "batch_norm")])
        rows = self.two(self.ADD, self.RELU, outputs=("y", "v"))
        self.assertEqual(rows, [("none", "batch_norm")])
        self.assertIn("; after the Add, Relu follows, but " + OUTPUT.format("the Add"), self.printed)

    def test_where_others_read_one_of_the_two_it_is_the_others_residual(self):
        for value in ("b", "c"):
            for add in (self.ADD, node("Add", "c b", "v")):
                rows = self.two(add, self.RELU, node("Neg", value, "z"), outputs=("y", "z"))
                self.assertEqual(sorted(rows), [("none", "none"), ("relu", "add")])
                kept, fused = ("main", "short") if value == "b" else ("short", "main")
                self.assertIn(f"# 1 x: {fused}\n# followed by Add then Relu\n", self.text())
                self.assertIn(f"# 1 x: {kept}\n# followed by Add, Neg\n", self.text())
                self.assertIn("Add follows, but " + SHARED.format("the batch norm"), self.printed)
            self.assertEqual(
                sorted(self.two(self.ADD, self.RELU, outputs=("y", value))), [("none", "none"), ("relu", "add")]
            )

    def test_where_others_read_both_nothing_is_fused(self):
        self.assertEqual(self.two(self.ADD, self.RELU, outputs=("y", "b", "c")), [("none", "none")])

    def test_two_of_different_shapes_are_kept_apart(self):
        pool = node("GlobalAveragePool", "x", "p")
        nodes = [pool, batch_norm(y="b"), batch_norm(x="p", y="c"), self.ADD, self.RELU]
        self.assertEqual(self.fused(nodes), [("none", "none"), ("none", "none")])
        self.assertIn("2 x Add follows, but it broadcasts", self.printed)

    def test_two_of_which_one_only_trains_are_not_one_row(self):
        # A layer that uses running statistics cannot share a call with one that uses the batch's.
        def training(name, output):
            inputs = ["x", "gamma", "beta", "mean", "var"]
            outputs = [output, "new_mean", "new_var"]
            return helper.make_node("BatchNormalization", inputs, outputs, name=name, training_mode=1)

        nodes = [training("main", "b"), batch_norm(y="c", name="short"), self.ADD, self.RELU]
        self.assertEqual(self.fused(nodes), [("relu", "add"), ("none", "none")])
        self.assertIn("Add follows, but training_mode is 1 in one of its two batch norms only", self.printed)

    def test_a_second_one_without_a_kernel_is_a_tensor_like_any_other(self):
        rows = self.two(self.ADD, self.RELU, second={"spatial": 0}, opset=7)
        self.assertEqual(rows, [("relu", "add")])

    def test_the_chain_of_two_blocks(self):
        nodes = [
            self.ADD,
            self.RELU,
            batch_norm(x="y", y="d"),
            node("Add", "d y", "e"),
            node("Relu", "e", "z"),
        ]
        self.assertEqual(self.two(*nodes, outputs=("z",)), [("relu", "batch_norm"), ("relu", "add")])

    def test_no_residual_keeps_two_that_meet_apart(self):
        nodes = [batch_norm(y="b"), batch_norm(y="c"), self.ADD, self.RELU]
        self.assertEqual(self.fused(nodes, "--no-residual"), [("none", "none")])
        self.assertIn("  2 x Add follows: emitted unfused (activation none)\n", self.printed)


if __name__ == "__main__":
    unittest.main()
