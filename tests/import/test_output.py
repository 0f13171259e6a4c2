"""Where the importer writes: files, links, devices, and a standard output that takes nothing."""

import os
import subprocess
import sys
import threading
import tomllib
import unittest

from import_case import SCRIPT, ImportTest, batch_norm, run


class Output(ImportTest):
    def write_to(self, output):
        result = run(self.model([batch_norm()]), "--batch", 4, "-o", output)
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    def holds_the_spec(self, path):
        with open(path, "rb") as file:
            self.assertEqual(tomllib.load(file)["kernel"][0]["shape"], [4, 8, 6, 5])

    def test_a_link_stays_one_and_what_it_leads_to_is_replaced(self):
        folder = os.path.join(self.directory, "specs")
        os.mkdir(folder)
        link = os.path.join(self.directory, "link.toml")
        os.symlink(os.path.join("specs", "real.toml"), link)
        for _ in range(2):  # first it leads to nothing yet
            self.write_to(link)
            self.assertTrue(os.path.islink(link))
            self.holds_the_spec(os.path.join(folder, "real.toml"))
            self.assertEqual(os.listdir(folder), ["real.toml"])

    def test_links_in_a_circle_are_refused(self):
        link = os.path.join(self.directory, "link.toml")
        os.symlink("link.toml", link)
        said = self.refused(self.model([batch_norm()]), "--batch", 4, "-o", link)
        self.assertIn(f"-o {link}: Too many levels of symbolic links", said)
        self.assertTrue(os.path.islink(link))

    def test_a_fifo_is_written_into(self):
        fifo = os.path.join(self.directory, "fifo")
        os.mkfifo(fifo)
        read = []

        def reader():
            with open(fifo, encoding="utf-8") as file:
                read.append(file.read())

        thread = threading.Thread(target=reader, daemon=True)
        thread.start()
        self.write_to(fifo)
        thread.join(60)
        self.assertEqual(tomllib.loads(read[0])["kernel"][0]["shape"], [4, 8, 6, 5])
        self.assertFalse(os.path.isfile(fifo))

    def test_a_link_to_a_device_is_written_through(self):
        link = os.path.join(self.directory, "null")
        os.symlink("/dev/null", link)  # not the device by its own name: what is wrong would replace it
        self.write_to(link)
        self.assertEqual(os.readlink(link), "/dev/null")
        os.unlink(link)
        os.symlink("/dev/full", link)
        said = self.refused(self.model([batch_norm()]), "--batch", 4, "-o", link)
        self.assertIn(f"-o {link}: No space left on device", said)
        self.assertEqual(os.readlink(link), "/dev/full")

    def test_standard_output_by_another_name(self):
        path = self.model([batch_norm()])
        link = os.path.join(self.directory, "stdout")
        os.symlink("/proc/self/fd/1", link)
        with open(self.spec, "w", encoding="utf-8") as out:
            result = subprocess.run(
                [sys.executable, "-B", SCRIPT, path, "--batch", "4", "-o", link], stdout=out,
                stderr=subprocess.PIPE, text=True, timeout=120,
            )
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("1 batch norm, ", result.stderr)
        self.holds_the_spec(self.spec)

    def test_what_is_no_name_of_a_file_is_refused(self):
        path = self.model([batch_norm()])
        for output, found in (("", "no name"), (".", "a folder"), (os.path.join(self.directory, "x", ""), "a folder")):
            said = self.refused(path, "--batch", 4, "-o", output)
            self.assertIn(f"-o {output!r}: found {found}; allowed: a file to write, or - for standard output", said)
        self.assertEqual(os.listdir(self.directory), ["tiny.onnx"])


class FullOutput(ImportTest):
    """One line on standard error and status 1, whatever was to be printed."""

    def said(self, *args, stdout="/dev/full", stderr=subprocess.PIPE):
        with open(stdout, "w") as out:
            result = subprocess.run(
                [sys.executable, "-B", SCRIPT, *map(str, args)], stdout=out, stderr=stderr, text=True, timeout=120
            )
        self.assertEqual(result.returncode, 1, result.stderr)
        return result.stderr

    def test_a_full_standard_output_is_said_in_a_line(self):
        path = self.model([batch_norm()])
        for args in ((path, "--batch", 4, "-o", "-"), (path, "--batch", 4, "-o", self.spec), ("--help",)):
            self.assertEqual(
                self.said(*args), "fusebn import: standard output: cannot be written: No space left on device\n"
            )

    def test_a_reader_that_has_gone_is_said_in_a_line(self):
        read, write = os.pipe()
        os.close(read)
        result = subprocess.run(
            [sys.executable, "-B", SCRIPT, self.model([batch_norm()]), "--batch", "4", "-o", "-"], stdout=write,
            stderr=subprocess.PIPE, text=True, timeout=120,
        )
        os.close(write)
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr, "fusebn import: standard output: cannot be written: Broken pipe\n")

    def test_with_nowhere_to_say_it_the_status_says_it(self):
        with open("/dev/full", "w") as full:
            self.said(self.model([batch_norm()]), "--batch", 4, "-o", "-", stderr=full)


if __name__ == "__main__":
    unittest.main()
