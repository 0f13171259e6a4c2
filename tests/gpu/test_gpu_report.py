"""The GPU benchmark's table and page, from lines of all its modes."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "bench" / "gpu" / "report.py"
RESULTS = ROOT / "bench" / "results"


def row(op="inference", extents="planar_n256_c64_s3136", us=50.0, dtype="f32", equal=True, **more):
    return {"kernel": f"bn_{op}_{dtype}_{extents}_relu", "us": us, "us_cold": us + 1, "copy_us": us / 2,
            "copy_us_cold": us / 2, "tensors_moved": 2, "share_of_copy": 0.5, "share_of_copy_cold": 0.5,
            "bits_as_cpu": equal, "repeatable": True, "ran": "bn cuda-sm_90 [parallel=rows]", **more}


def torch(layout="NCHW", channels=64, spatial=3136, us=100.0, **more):
    return {"dtype": "f32", "layout": layout, "channels": channels, "spatial": spatial, "inference": us,
            "train_forward": 2 * us, "backward": 3 * us, **more}


class Report(unittest.TestCase):
    def report(self, *files, page=True):
        """Exit status with messages, the table, the page and the names of the figures."""
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for i, lines in enumerate(files):
                paths.append(pathlib.Path(folder) / f"{i}.jsonl")
                paths[-1].write_text("".join(json.dumps(line) + "\n" for line in lines))
            out = pathlib.Path(folder) / "out"
            result = subprocess.run([sys.executable, "-B", SCRIPT, *paths, *(["-o", out] if page else [])],
                                    capture_output=True, text=True)
            html = (out / "index.html").read_text() if (out / "index.html").exists() else ""
            return result, html, sorted(p.name for p in out.glob("*.png"))

    def has(self, text, part):  # without the text in the message
        self.assertTrue(part in text, part)

    def test_ratios_are_of_the_same_shape_layout_and_operation(self):
        rows = [row(), row("train_forward", us=40), row("backward", us=30),
                row(extents="interleaved_r802816_c64", us=20)]
        result, _, _ = self.report(rows, [torch(), torch("NHWC", us=70), torch(channels=65, us=1)], page=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        for line in ("| inference | f32 | NCHW | 64x3136 | 50.0 | 51.0 | 0.50 | 0.50 |  | 2.00 |",
                     "| train_forward | f32 | NCHW | 64x3136 | 40 | 41 | 0.50 | 0.50 |  | 5.00 |",
                     "| backward | f32 | NCHW | 64x3136 | 30 | 31 | 0.50 | 0.50 |  | 10.00 |",
                     "| inference | f32 | NHWC | 64x3136 | 20 | 21 | 0.50 | 0.50 |  | 3.50 |"):
            self.has(result.stdout, line)

    def test_a_mean_is_of_the_rows_that_were_measured(self):
        rows = [row(us=50), row(extents="planar_n256_c128_s784", us=25), row(extents="planar_n256_c512_s49")]
        result, _, _ = self.report(rows, [torch(), torch(channels=128, spatial=784, us=200)], page=False)
        self.has(result.stdout, "| inference | f32 | NCHW | 0.50, 0.50 | 4.00, 2.00 |")  # sqrt(2 * 8)
        alone, _, _ = self.report(rows, page=False)
        self.has(alone.stdout, "| inference | f32 | NCHW | 0.50, 0.50 |  |")

    def test_compiled_pytorch_has_its_own_columns(self):
        result, page, _ = self.report([row()], [torch(), torch(us=60, compiled=True)])
        self.has(result.stdout, "| 2.00 | 1.20 |")
        self.has(result.stdout, "| 2.00, 2.00 | 1.20, 1.20, 1 |")
        self.has(page, "<td>1.20</td>")

    def test_other_modes_and_failures_are_told(self):
        lines = [{"machine": {"gpu": "a <GPU>", "gpus": 2, "cuda": "13.0"}}, row(), row("backward", equal=False),
                 {"kernel": "bn_<x>", "failure": "signal 14"},
                 {"graph_of": "bn_a", "replays": 3, "bits_as_direct": False, "us": 9.0, "graph_us": 4.0},
                 {"gpus": 2, "kernel_on_all": "bn_a", "bits_as_first": True},
                 {"gpus": 2, "kernel_on_all": "bn_b", "bits_as_first": False},
                 {"first_call_of": "bn_a", "ptx_compiled": True, "driver_ms": 1, "context_ms": 2, "layer_ms": 3,
                  "tensors_ms": 4, "first_ms": 5, "second_ms": 6, "beyond_context_ms": 8}]
        result, page, figures = self.report(lines)
        self.assertEqual(result.returncode, 0, result.stderr)
        for text in (result.stdout, page):
            self.has(text, "from run to run: 1 of 2 rows.")
            self.has(text, "On 2 GPUs at once the bits of the first: 1 of 2 kernels.")
        self.has(result.stdout, "Failed: bn_<x>: signal 14")
        self.has(result.stdout, "| bn_a | 9.0 | 4.0 | DIFFER |")
        self.has(result.stdout, "| compiled from PTX | 1.0 | 2.0 | 3.0 | 5.0 | 6.0 | 8.0 |")
        self.has(page, "fusebn on a &lt;GPU&gt;")
        self.has(page, "bn_&lt;x&gt;")
        self.assertEqual(figures, ["gpu-f32.png"])

    def test_each_type_has_a_figure(self):
        result, page, figures = self.report([row(), row(dtype="bf16")])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(figures, ["gpu-bf16.png", "gpu-f32.png"])
        self.assertEqual(page.count("<img"), 2)

    def test_kept_results_give_the_kept_table(self):
        kept = RESULTS / "2026-11-26-h100"
        result = subprocess.run([sys.executable, "-B", SCRIPT, f"{kept}.jsonl", f"{kept}-torch.jsonl"],
                                capture_output=True, text=True)
        self.assertTrue(result.stdout == pathlib.Path(f"{kept}.md").read_text())

    def test_something_else_is_answered(self):
        result, _, _ = self.report([torch()])
        self.assertEqual(result.returncode, 1)
        self.assertIn("expected the rows that fusebn_gpu_bench writes", result.stderr)
        result, _, _ = self.report([row(extents="flat_7")])
        self.assertEqual(result.returncode, 1)
        self.assertIn("found the kernel bn_inference_f32_flat_7_relu; expected a row of gpu_shapes", result.stderr)


if __name__ == "__main__":
    unittest.main()
