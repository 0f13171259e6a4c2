"""The benchmark's networks beside what the importer finds in the models themselves, and its page."""

import collections
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "networks"))
import networks  # noqa: E402

# "      6  NCHW    [32, 64, 56, 56]    f32   none        relu        Relu"
ROW = re.compile(r"^ *(\d+)  NCHW +\[32, (\d+), (\d+), (\d+)\] +f32 +(\w+) +(\w+) ", re.M)


def imported(model):
    with tempfile.TemporaryDirectory() as folder:
        out = subprocess.run(
            [sys.executable, "-B", ROOT / "compiler/import_onnx.py", ROOT / "examples/models" / model, "--batch", "32",
             "-o", pathlib.Path(folder) / "spec.toml"], check=True, capture_output=True, text=True).stdout
    return collections.Counter({
        networks.Norm(int(c), int(h), int(w), activation, residual): int(count)
        for count, c, h, w, residual, activation in ROW.findall(out)})


def run(*arguments):
    return subprocess.run([sys.executable, "-B", *map(str, arguments)], capture_output=True, text=True)


class Networks(unittest.TestCase):
    def test_resnet50_is_as_its_model(self):
        self.assertEqual(networks.counts("resnet50"), imported("resnet50.onnx"))

    def test_mobilenet_v2_is_as_its_model(self):
        self.assertEqual(networks.counts("mobilenet-v2"), imported("mobilenet_v2.onnx"))

    def test_known_numbers_of_batch_norms(self):
        self.assertEqual(sum(networks.counts("densenet121").values()), 121)
        self.assertEqual(sum(networks.counts("efficientnet-b0").values()), 49)
        self.assertEqual(sum(networks.counts("unet").values()), 18)
        self.assertEqual(sum(networks.counts("resnet18").values()), 17)  # of 20 batch norms, 3 pairs of which meet

    def test_an_unknown_network_is_answered(self):
        result = run(ROOT / "bench/networks/networks.py", "--networks", "resnet51", "--list")
        self.assertEqual(result.returncode, 1)
        self.assertIn("--networks: found resnet51; allowed: resnet18, resnet50, mobilenet-v2", result.stderr)


class Page(unittest.TestCase):
    MACHINE = {"cpu": "a <CPU>", "isa": "x86-64", "threads": 2, "generator": "fusebn", "onednn": "2",
               "cache_bytes": {"l1": 1 << 15, "l2": 1 << 20, "l3": 1 << 25}}

    def row(self, op, norm, contender, ms):
        return {"op": f"{op}+relu", "layout": "NCHW", "dtype": "f32", "shape": [32, norm.channels, norm.rows, norm.columns],
                "contender": contender, "median_ms": ms, "gbps": 1 / ms, "fraction_of_limit": 0.5 / ms,
                "ratio_to_fusebn": ms, "ratio_quartiles": [ms, ms], "in_cache": False, "floor_bytes": 1000,
                "limit_bytes": 1000, "extents": [32, norm.channels, norm.rows * norm.columns],
                "kernel": self.name(op, norm)}

    @staticmethod
    def name(op, norm):
        return networks.kernel_name(op, "NCHW", "f32", 32, norm)

    def page(self, lines):
        with tempfile.TemporaryDirectory() as folder:
            rows = pathlib.Path(folder) / "rows.jsonl"
            rows.write_text("\n".join(map(json.dumps, lines)) + "\n")
            result = run(ROOT / "bench/report.py", rows, "-o", folder)
            page = pathlib.Path(folder) / "index.html"
            return result, page.read_text() if page.exists() else ""

    def test_a_networks_sum_counts_each_call(self):
        lines = [{"machine": self.MACHINE}]
        for op in ("train_forward", "backward"):
            for norm in networks.counts("unet"):
                lines += [self.row(op, norm, "fusebn", 1.0), self.row(op, norm, "copy", 0.5),
                          self.row(op, norm, "onednn-blocked", 3.0)]
        result, page = self.page(lines)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue("unet, NCHW, N = 32</td><td>36</td><td>36.00</td><td>18.00</td>" in page)
        self.assertTrue("3.00 <span class=dim>(36)</span>" in page)
        self.assertTrue("a &lt;CPU&gt;" in page)

    def test_a_network_with_a_kernel_missing_has_no_sum(self):
        lines = [{"machine": self.MACHINE}]
        for norm in list(networks.counts("unet"))[1:]:
            lines += [self.row("train_forward", norm, "fusebn", 1.0), self.row("train_forward", norm, "copy", 0.5)]
        result, page = self.page(lines)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertFalse("unet, NCHW" in page)

    def test_a_second_onednn_and_the_usable_cache_are_shown_where_they_were_measured(self):
        rows = [self.row("train_forward", next(iter(networks.counts("unet"))), contender, ms)
                for contender, ms in (("fusebn", 1.0), ("copy", 0.5), ("onednn", 2.0))]
        _, page = self.page([{"machine": self.MACHINE}, *rows])
        self.assertFalse("oneDNN 3" in page)
        self.assertIn("L3 32 MB, 32 MB of it usable", page)
        machine = {**self.MACHINE, "onednn3": "3.13.2",
                   "cache_bytes": {**self.MACHINE["cache_bytes"], "l3_usable": 1 << 23}}
        _, page = self.page([{"machine": machine}, *rows, {**rows[2], "contender": "onednn3", "ratio_to_fusebn": 4.56}])
        self.assertIn("oneDNN 3 / fusebn", page)
        self.assertIn("4.56", page)
        self.assertIn("oneDNN 2, and 3.13.2", page)
        self.assertIn("L3 32 MB, 8 MB of it usable", page)

    def test_rows_of_something_else_are_answered(self):
        result, _ = self.page([{"rows": []}])
        self.assertEqual(result.returncode, 1)
        self.assertIn("expected the rows that fusebn_bench --json writes", result.stderr)


if __name__ == "__main__":
    unittest.main()
