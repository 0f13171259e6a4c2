"""The fusebn command: arguments that cannot be meant are refused, and what it could not print is no success.

Run as `python3 -m unittest` here, with the command in FUSEBN_TOOL.
"""

import os
import subprocess
import tempfile
import unittest

SPEC = 'targets = ["x86-64"]\n[[kernel]]\nop = "inference"\nlayout = "NCHW"\nshape = [1, 2, 3, 4]\n'


class Command(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.write("net.toml", SPEC)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def run_tool(self, *args, stdout=subprocess.PIPE):
        return subprocess.run(
            [os.environ["FUSEBN_TOOL"], *args], cwd=self.folder, stdout=stdout, stderr=subprocess.PIPE, text=True,
            timeout=300,
        )

    def refused(self, *args):
        """What is said of arguments that must be refused, before a file is written."""
        before = sorted(os.listdir(self.folder))
        result = self.run_tool(*args)
        self.assertGreater(result.returncode, 0, args)  # nor by a signal
        self.assertEqual(sorted(os.listdir(self.folder)), before, args)
        return result.stdout + result.stderr


class Arguments(Command):
    def test_an_unknown_command_is_answered_with_those_there_are(self):
        there = "allowed: build, tune, import, inspect, doctor"
        self.assertEqual(self.refused("foo"), f'fusebn: found an unknown command "foo"; {there}\n')
        self.assertEqual(
            self.refused("buidl"), f'fusebn: found an unknown command "buidl"; {there}; did you mean "build"?\n'
        )

    def test_an_option_before_the_command_is_named(self):
        for option in ("--foo", "-o", "--"):
            said = self.refused(option, "build", "net.toml")
            self.assertIn(f'found an option before the command: "{option}"; allowed: build, tune', said)
        for option in ("-h", "--help", "--version"):
            self.assertEqual(self.run_tool(option).returncode, 0)

    def test_help_names_every_target(self):
        for command in ("build", "tune", "import"):
            words = " ".join(self.run_tool(command, "--help").stdout.split()).replace("- ", "-")
            for target in ("x86-64-avx512", "cuda-sm_80", "cuda-sm_90", "cuda-sm_100", "opencl", "host"):
                self.assertIn(target, words, command)

    def test_what_is_empty_is_refused_by_the_options_name(self):
        build = ("build", "net.toml", "-o", "out")
        tune = ("tune", "net.toml", "--records", "r.jsonl")
        for option, *args in (
            ("-o", "build", "net.toml", "-o", ""),
            ("--name", *build, "--name", ""),
            ("--records", *build, "--records", ""),
            ("--tuned-on", *build, "--records", "net.toml", "--tuned-on", ""),
            ("--kernel", "inspect", "net.json", "--kernel", ""),
            ("--target", "inspect", "net.json", "--target", ""),
            ("--records", "tune", "net.toml", "--records", ""),
            ("--report", *tune, "--report", ""),
            ("--kernels", *tune, "--kernels", ""),
            ("--kernels", *tune, "--kernels", ","),
            ("--kernels", *tune, "--kernels", "bn,,x"),
            ("--budget", *tune, "--budget", ""),
        ):
            self.assertIn(option + ": ", self.refused(*args), args)

    def test_a_budget_is_some_time(self):
        for budget in ("0", "0m", "-5", "nan", "inf", "1e99"):
            said = self.refused("tune", "net.toml", "--records", "r.jsonl", "--budget", budget)
            self.assertIn("--budget: ", said)
            if budget == "0":
                self.assertIn("found 0 s; allowed: more than 0, 10000000 s at most", said)

    def test_caches_grow_outwards(self):
        for sizes in (("64kb", "32kb", "1mb"), ("32kb", "2mb", "1mb")):
            options = [word for pair in zip(("--l1", "--l2", "--l3"), sizes) for word in pair]
            for command in (("build", "net.toml", "-o", "out"), ("tune", "net.toml", "--records", "r.jsonl")):
                said = self.refused(*command, *options)
                self.assertIn("--l1, --l2, --l3: found ", said)
                self.assertIn("; allowed: sizes none of which is smaller than the one before it", said)

    def test_a_schedule_is_refused_with_its_place(self):
        self.write("net.toml", SPEC + 'schedule = "vector=3"\n')
        for command in (("build", "net.toml", "-o", "out"), ("tune", "net.toml", "--records", "r.jsonl")):
            self.assertIn("net.toml:6:12: kernel.schedule.vector: found 3 for ", self.refused(*command))

    def test_a_schedule_that_no_target_takes_is_named(self):
        self.write("net.toml", SPEC + 'schedule = "threads=64"\n')
        result = self.run_tool("build", "net.toml", "-o", "out", "-q")
        self.assertEqual(result.returncode, 0)
        self.assertIn('fusebn: net.toml:6:12: kernel.schedule: "threads=64" is for devices', result.stderr)


class TuneFiles(Command):
    """Whatever tune would write to is looked at before the search."""

    def tune(self, *args):
        return self.refused("tune", "net.toml", "--budget", "1s", *args)

    def test_records_are_not_the_spec_nor_another_file(self):
        os.link(self.path("net.toml"), self.path("same.toml"))
        self.write("other", "some text")
        for name, words in (
            ("net.toml", "--records: found net.toml, which is the spec; allowed: another file"),
            ("same.toml", "--records: found same.toml, which is the spec"),
            ("other", "--records: found no record in other; allowed: "),
        ):
            self.assertIn(words, self.tune("--records", name))
        self.assertEqual((self.read("net.toml"), self.read("other")), (SPEC, "some text"))

    def test_a_report_that_cannot_be_written_is_refused_first(self):
        os.symlink("no/page.html", self.path("link.html"))
        for report, words in (
            ("no/page.html", "found no/page.html: No such file or directory; allowed: a file that can be written"),
            ("link.html", "found link.html: No such file or directory"),
            (".", "found .: Is a directory"),
            ("net.toml/x", "found net.toml/x: Not a directory"),
            ("net.toml", "found net.toml, which is the spec"),
        ):
            self.assertIn("--report: " + words, self.tune("--records", "r.jsonl", "--report", report))
        self.assertEqual(self.read("net.toml"), SPEC)

    def test_looking_leaves_the_report_as_it_was(self):
        self.write("old.html", "<p>old")
        os.symlink("new.html", self.path("link.html"))
        for report in ("old.html", "new.html", "link.html"):
            said = self.tune("--records", "r.jsonl", "--report", report, "--kernels", "nosuch")
            self.assertIn("there is nothing to tune", said)  # later than the look, which found nothing wrong
        self.assertEqual(self.read("old.html"), "<p>old")


class FullOutput(Command):
    def test_what_cannot_be_printed_is_no_success(self):
        self.assertEqual(self.run_tool("build", "net.toml", "-o", "out", "-q").returncode, 0)
        for args in (
            ("build", "net.toml", "-o", "out"), ("inspect", "out/libnet.a"), ("doctor",), ("--version",),
            ("build", "--help"),
        ):
            with open("/dev/full", "w") as full:
                result = self.run_tool(*args, stdout=full)
            self.assertEqual(result.returncode, 1, args)
            self.assertRegex(result.stderr, r"\Afusebn: standard output: cannot be written.*\n\Z", args)


if __name__ == "__main__":
    unittest.main()
