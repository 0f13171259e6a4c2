#!/usr/bin/env python3
"""Lists the batch norms of an ONNX model as a spec: `fusebn import MODEL --batch N --ops inference -o spec.toml`.

Three steps: load (import_model.py: the model with its shapes inferred), find (import_layers.py: a layer for each
BatchNormalization node, with what import_fusion.py lets its kernel take over), write (import_spec.py: equal layers
merged into one [[kernel]] each). Only shapes are read: weights may be missing.
"""

import argparse
import errno
import os
import re
import stat
import sys
import tempfile

from import_layers import DTYPES, MAX_EXTENT, find
from import_model import ANY, ImportFailure, load
from import_spec import format_spec, format_summary, rows_of

MAX_KERNELS = 10000  # compiler/spec.h
OPS = ("inference", "train_forward", "backward")
TARGETS = (  # runtime/include/fusebn/types.h
    "x86-64", "x86-64-avx2", "x86-64-avx512", "cuda-sm_80", "cuda-sm_90", "cuda-sm_100", "opencl", "host",
)


def batch_value(text):
    if text == ANY:
        return ANY
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 1 <= int(text) <= MAX_EXTENT:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: 1 to {MAX_EXTENT}, or {ANY}")
    return int(text)


def words_value(allowed):
    def read(text):
        words = list(dict.fromkeys(text.split(",")))
        for word in words:
            if word not in allowed:
                raise argparse.ArgumentTypeError(f"found {word!r}; allowed: {', '.join(allowed)}, separated by commas")
        return words

    return read


def name_value(text):
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,99}", text):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a C identifier of at most 100 characters")
    return text


class Parser(argparse.ArgumentParser):
    def print_help(self, file=None):
        (file or sys.stdout).write(self.format_help())  # argparse's own passes over an error


def parse_args(argv):
    parser = Parser(
        prog="fusebn import",
        description="Writes a spec with one kernel row for each distinct batch norm of an ONNX model.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="the .onnx file; its weights need not be there")
    parser.add_argument("--batch", metavar="N", type=batch_value, required=True, help=f"the batch extent, or {ANY}")
    parser.add_argument(
        "--ops", metavar="OP,...", type=words_value(OPS), default=["inference"],
        help=f"what to have kernels for: {', '.join(OPS)}; default: inference",
    )
    parser.add_argument(
        "--layout", choices=("NCHW", "NHWC"), default="NCHW",
        help="NCHW: tensors as ONNX has them. NHWC: for a runtime that holds its tensors channels-last (rows are NC, "
        "NLC, NHWC and NDHWC then). Default: NCHW",
    )
    parser.add_argument(
        "--dtype", choices=tuple(DTYPES.values()),
        help="the type of x and y, where it is to be another than the model's own (float is f32, float16 f16, bfloat16 "
        "bf16)",
    )
    parser.add_argument(
        "--no-residual", action="store_true",
        help="keep an Add behind a batch norm apart; by default its kernel adds too (residual add, or batch_norm where "
        "two batch norms meet)",
    )
    parser.add_argument("--name", type=name_value, help="the library's name; default: the spec's file name")
    parser.add_argument(
        "--targets", metavar="TARGET,...", type=words_value(TARGETS),
        help=f"what to build for: {', '.join(TARGETS)}; default: the first three",
    )
    parser.add_argument("-o", "--output", metavar="SPEC", required=True, help="the spec to write; - for stdout")
    return parser.parse_args(argv)


def write_file(path, text):
    """Whole or not at all: a build that is stopped leaves no half spec behind. Written beside what a link leads to and
    renamed; a rename over a device, a FIFO or the link itself would put a file in its place."""
    temporary = None
    try:
        if not path or os.path.isdir(path) or path.endswith(os.sep):
            found = "a folder" if path else "no name"
            raise ImportFailure(f"-o {path!r}: found {found}; allowed: a file to write, or - for standard output")
        if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
            with open(os.open(path, os.O_WRONLY), "w", encoding="utf-8") as file:
                file.write(text)
            return
        target = os.path.realpath(path)
        if os.path.islink(target):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=os.path.dirname(target), prefix=".fusebn-", delete=False
        ) as file:
            temporary = file.name
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # a temporary file is made for its owner alone
        os.replace(temporary, target)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise ImportFailure(f"-o {path}: {getattr(error, 'strerror', None) or error}") from None


def is_standard_output(path):
    """Also by another name: the table must not be mixed into the spec, nor the spec's file be replaced under it."""
    try:
        return path == "-" or os.path.samestat(os.stat(path), os.fstat(1))
    except OSError:
        return False


def run(argv):
    args = parse_args(argv)
    layers, skipped = find(load(args.model, args.batch), not args.no_residual)
    if not layers and not skipped:
        raise ImportFailure(f"{args.model}: it has no BatchNormalization node (an export may have folded them away)")
    rows, notes = rows_of(layers, args)
    summary = format_summary(layers, rows, skipped, notes, args)
    if not rows:
        raise ImportFailure(f"{args.model}: no kernel is left to write\n{summary}".rstrip())
    if sum(len(row.ops) for row in rows) > MAX_KERNELS:
        raise ImportFailure(f"{args.model}: more than {MAX_KERNELS} kernels, which is a spec's limit")
    spec = format_spec(rows, args, argv)
    if is_standard_output(args.output):
        sys.stdout.write(spec)
        sys.stdout.flush()
        sys.stderr.write(summary)
    else:
        write_file(args.output, spec)
        sys.stdout.write(summary)


def main():
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names of any script, terminals of any encoding
    try:
        try:
            run(sys.argv[1:])
        finally:  # also where --help ends the run
            sys.stdout.flush()
    except ImportFailure as failure:
        print(f"fusebn import: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the flush at exit complains again
        try:
            print(f"fusebn import: standard output: cannot be written: {error.strerror or error}", file=sys.stderr)
        except OSError:
            os.dup2(1, 2)  # there is nowhere to say it
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
