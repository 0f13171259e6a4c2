"""What scripts/peers.sh does without the libraries that it measures: its rows, its sums, its bars, its page."""

import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "bench" / "networks")]
import networks  # noqa: E402
import peer_case  # noqa: E402
import peer_report  # noqa: E402

MACHINE = {"cpu": "a <CPU>", "isa": "x86-64", "threads": 2, "rounds": 3, "versions": ["PyTorch 2"], "missing": []}
OPERATIONS = ["train_forward", "backward", "inference"]


def run(*arguments):
    return subprocess.run([sys.executable, "-B", *map(str, arguments)], capture_output=True, text=True)


class Arguments:
    networks, layouts, batches, ops = ["resnet50"], ["NCHW", "NHWC"], [32], OPERATIONS


def row(case, times):
    """Lines of contenders that take so many ms."""
    return [{"op": case.name, "layout": case.layout, "dtype": "f32", "shape": list(case.shape), "kernel": case.kernel,
             "contender": name, "form": "", "others_cpus": 0, "median_ms": ms, "ratio_to_fusebn": ms / times["fusebn"],
             "ratio_quartiles": [0.5 * ms / times["fusebn"], 2 * ms / times["fusebn"]]} for name, ms in times.items()]


@contextlib.contextmanager
def written(lines):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "peers.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        yield path


def results(lines):
    with written([{"machine": MACHINE}, *lines]) as path:
        return peer_report.Results([path])


def all_rows(times):
    return [line for case in peer_case.all_cases(Arguments) for line in row(case, times(case))]


class Rows(unittest.TestCase):
    def test_every_kind_of_a_network_is_a_row_of_each_operation_and_layout(self):
        cases = peer_case.all_cases(Arguments)
        self.assertEqual(len(cases), 6 * len(networks.counts("resnet50")))
        self.assertEqual(len({(case.kernel, case.layout) for case in cases}), len(cases))

    def test_a_row_says_its_residual_and_activation(self):
        case = peer_case.Case("backward", "NHWC", 32, networks.Norm(256, 56, 56, "relu", "batch_norm"))
        self.assertEqual(case.title, "backward+batch_norm+relu NHWC 32x56x56x256")
        self.assertEqual(case.kernel, "bn_backward_f32_interleaved_r100352_c256_batch_norm_relu")
        self.assertEqual(case.branches, ("", "2"))

    def test_data_is_what_the_row_needs(self):
        needs = {"none": set(), "add": {"residual"}, "batch_norm": {"x2", "gamma2", "beta2", "mean2", "var2"}}
        for residual, more in needs.items():
            case = peer_case.Case("backward", "NCHW", 2, networks.Norm(3, 4, 4, "relu", residual))
            case.fill()
            self.assertEqual(set(case.data), {"x", "gamma", "beta", "mean", "var", "dy"} | more)
            self.assertEqual(case.data["x"].shape, (2, 3, 4, 4))
            self.assertEqual(case.data["x"].ctypes.data % 64, 0)

    def test_unknown_words_are_answered(self):
        needed = (ROOT / "bench/peers.py", "--library", "a", "--kernels", "b")
        for option, found in (("--networks", "resnet51"), ("--layouts", "NCWH"), ("--ops", "forward"),
                              ("--batches", "0"), ("--rounds", "-1"), ("--without", "jux")):
            result = run(*needed, f"{option}={found}")
            self.assertEqual(result.returncode, 2, option)
            self.assertIn(f"found {found}", result.stderr)
        result = run(*needed, "--rows", "7x8")
        self.assertEqual(result.returncode, 1)
        self.assertIn('no row has "7x8" in its name', result.stderr)


class Check(unittest.TestCase):
    def differs(self, change):
        import numpy
        import peers

        case = peer_case.Case("backward", "NCHW", 32, networks.Norm(64, 8, 8, "relu", "none"))
        wanted = {"dx": numpy.ones(case.shape, numpy.float32), "dgamma": numpy.ones(64, numpy.float32)}
        got = {name: array.copy() for name, array in wanted.items()}
        change(got)
        return peers.difference(case, wanted, got)

    def test_results_of_another_layer_are_told(self):
        self.assertEqual(self.differs(lambda got: None), "")
        self.assertIn("dx[0, 0, 0, 0] is 2.0, fusebn's 1.0", self.differs(lambda got: got["dx"].__imul__(2)))
        self.assertIn("dgamma[0] is 2.0", self.differs(lambda got: got["dgamma"].__imul__(2)))
        self.assertIn("it gives dx, fusebn dx, dgamma", self.differs(lambda got: got.pop("dgamma")))

    def test_one_relu_may_open_on_one_side_alone(self):
        def one(got):
            got["dx"][0, 0, 0, 0] = got["dgamma"][0] = 9
        self.assertEqual(self.differs(one), "")

    def test_nan_is_a_difference(self):
        self.assertIn("is nan", self.differs(lambda got: got["dx"].fill(float("nan"))))


class Sums(unittest.TestCase):
    def test_a_training_step_counts_each_call(self):
        found = results(all_rows(lambda case: {"fusebn": 1.0, "PyTorch": 4.0}))
        rows = found.network_rows("resnet50", peer_report.PASSES["training step"], "NCHW", 32)
        calls = 2 * sum(networks.counts("resnet50").values())
        self.assertEqual(peer_report.total_ms(rows, "fusebn"), calls)
        self.assertEqual(peer_report.total_ratio(rows, "PyTorch"), (2.0, 4.0, 8.0))

    def test_a_network_or_a_peer_with_a_row_missing_has_no_sum(self):
        found = results(all_rows(lambda case: {"fusebn": 1.0} | ({"JAX": 2.0} if case.op != "backward" else {}))[2:])
        steps = [found.network_rows("resnet50", peer_report.PASSES["training step"], layout, 32)
                 for layout in ("NCHW", "NHWC")]
        self.assertIsNone(steps[0])
        self.assertIsNone(peer_report.total_ms(steps[1], "JAX"))
        self.assertEqual(found.networks(), [("resnet50", "NCHW", 32), ("resnet50", "NHWC", 32)])

    def test_bars_are_of_the_best_peer(self):
        def times(case):
            return {"fusebn": 1.0, "PyTorch": 4.0, "JAX": 2.6 if case.layout == "NCHW" else 0.9}
        lines = peer_report.bars(results(all_rows(times))).splitlines()
        verdicts = [line.split()[0] for line in lines]
        self.assertEqual(verdicts, ["met", "met", "NCHW,", "met", "MISSED", "NHWC,", "MISSED", "MISSED"])
        self.assertIn("PyTorch eager / fusebn: 4.00, bar >= 3.00", lines[0])
        self.assertIn("(48 of 96 rows are below): 0.90", lines[-1])

    def test_rows_of_something_else_are_answered(self):
        for lines, why in (([{"machine": {}}], "expected the rows that scripts/peers.sh writes"),
                           ([{"machine": MACHINE}, {"op": "backward"}], "its rows name no kernels")):
            with written(lines) as path:
                result = run(ROOT / "bench/peer_report.py", path)
                self.assertEqual(result.returncode, 1)
                self.assertIn(why, result.stderr)


class Page(unittest.TestCase):
    def test_a_page_of_peers_alone(self):
        times = {"fusebn": 1.0, "PyTorch": 3.25, "JAX": 2.0}
        with written([{"machine": MACHINE}, *all_rows(lambda case: times)]) as path:
            result = run(ROOT / "bench/report.py", "--peers", path, "-o", path.parent)
            self.assertEqual(result.returncode, 0, result.stderr)
            page = (path.parent / "index.html").read_text()
            sums = "resnet50, NCHW, N = 32, training step</td><td>98</td><td>98.0</td><td>3.25</td><td>2.00</td>"
            self.assertIn(sums, page)
            self.assertIn("a &lt;CPU&gt;", page)
            self.assertTrue((path.parent / "peers.png").read_bytes().startswith(b"\x89PNG"))

    def test_nothing_to_make_a_page_of_is_answered(self):
        result = run(ROOT / "bench/report.py", "-o", "nowhere")
        self.assertEqual(result.returncode, 2)
        self.assertIn("expected rows of fusebn_bench, or --peers", result.stderr)


if __name__ == "__main__":
    unittest.main()
