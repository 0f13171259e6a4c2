"""The page of a search, from record files."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "compiler" / "tune_report.py"


def record(kind="trial", kernel="bn_a", ratio=1.1, second=0, machine="a CPU", **more):
    return {"record": kind, "kernel": kernel, "target": "x86-64-avx2", "machine": machine, "threads": 2,
            "generator": "fusebn 1", "schedule": "vector=8", "ms": 0.5, "ratio": ratio,
            "ratio_quartiles": [ratio - 0.05, ratio + 0.05], "of_copy": 0.5, "within_noise": False, "generation": 0,
            "time": f"2026-11-26T10:00:{second:02}Z", **more}


class Report(unittest.TestCase):
    def page(self, records, *arguments, tail=""):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder)
            (path / "r.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records) + tail)
            result = subprocess.run([sys.executable, "-B", SCRIPT, path / "r.jsonl", *arguments, "-o", path / "p.html"],
                                    capture_output=True, text=True)
            return result, (path / "p.html").read_text() if (path / "p.html").exists() else ""

    def has(self, page, text):  # without the page in the message
        self.assertTrue(text in page, text)

    def test_the_last_outcome_of_each_kernel_counts(self):
        result, page = self.page([record(), record("best", ratio=1.5, second=1), record("best", ratio=1.2, second=30),
                                  record("best", "bn_<b>", ratio=1.0, second=59, within_noise=True)])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.has(page, "kernels: 2; trials: 1, in 1.0 minutes")
        self.has(page, "in the end 1.095 times the defaults' speed")  # sqrt(1.2 * 1)
        self.has(page, "nothing was shown to be faster than the default: 1 of 2")
        self.has(page, "1.20 <span class=dim>(1.15-1.25)</span>")
        self.has(page, "bn_&lt;b&gt;")
        self.assertEqual(page.count("<svg"), 2)

    def test_a_pause_is_no_time_of_the_search(self):
        result, page = self.page([record("best"), record("best", second=30),
                                  dict(record("best"), time="2026-11-27T10:00:00Z")])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.has(page, ", in 0.5 minutes")

    def test_failures_and_torn_lines(self):
        failed = record()
        for key in ("ms", "ratio", "ratio_quartiles", "of_copy"):
            del failed[key]
        result, page = self.page([dict(failed, failure="killed"), record("best")], tail='{"record": "tri')
        self.assertEqual(result.returncode, 0, result.stderr)
        self.has(page, "1, 1 failed")

    def test_several_machines_must_be_told_apart(self):
        records = [record("best"), record("best", machine="another CPU")]
        result, _ = self.page(records)
        self.assertEqual(result.returncode, 1)
        self.assertIn("several machines; say which with --machine:\n  a CPU, 2 threads\n  another CPU", result.stderr)
        self.assertEqual(self.page(records, "--machine", "another")[0].returncode, 0)
        self.assertEqual(self.page(records, "--machine", "Z80")[0].returncode, 1)

    def test_a_cpu_and_its_device_are_one_search(self):
        device = record("best", ratio=2.25, second=30, machine="a GPU", target="cuda-sm_90")
        del device["threads"], device["of_copy"]
        records = [record("best", ratio=1.0), device, record("best", machine="another CPU")]
        result, page = self.page(records, "--machine", "a CPU", "--machine", "a GPU")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.has(page, "a CPU, 2 threads<br>a GPU<br>")
        self.has(page, "kernels: 2;")
        self.has(page, "in the end 1.500 times the defaults' speed")
        self.has(page, "0.50 of the speed of a copy")  # of the one that has it
        self.assertFalse("another" in page)

    def test_a_machines_whole_name_is_no_part_of_another(self):
        records = [record("best", machine="GPU 1"), record("best", machine="GPU 1 Ti")]
        for r in records:
            del r["threads"]
        self.assertEqual(self.page(records, "--machine", "GPU 1")[0].returncode, 0)
        self.assertEqual(self.page(records, "--machine", "GPU")[0].returncode, 1)

    def test_a_file_without_records_is_answered(self):
        result, _ = self.page([])
        self.assertEqual(result.returncode, 1)
        self.assertIn("has no records", result.stderr)


if __name__ == "__main__":
    unittest.main()
