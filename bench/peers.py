#!/usr/bin/env python3
"""fusebn beside PyTorch and JAX, in one process and in turns: `scripts/peers.sh` sets up what this needs.

Every contender's results are compared with fusebn's before anything is timed. Contenders that are not installed are
left out, and said to be."""

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import time

BATCH = 32
BAR = 1.3  # of the best of PyTorch and JAX, training with an addition and a ReLU


@dataclasses.dataclass
class Case:
    op: str
    residual: bool
    layout: str
    channels: int
    side: int
    data: dict = dataclasses.field(default_factory=dict)

    @property
    def shape(self):
        c, s = self.channels, self.side
        return (BATCH, s, s, c) if self.layout == "NHWC" else (BATCH, c, s, s)

    @property
    def elements(self):
        return BATCH * self.channels * self.side * self.side

    @property
    def name(self):
        return self.op + ("+add" if self.residual else "") + "+relu"

    def fill(self):
        import numpy
        from peer_fusebn import aligned

        random = numpy.random.default_rng(1)

        def tensor():
            return random.standard_normal(self.shape, dtype=numpy.float32)

        def channels(low, high):
            return random.uniform(low, high, self.channels).astype(numpy.float32)

        data = {"x": tensor() * numpy.float32(1.5) + numpy.float32(0.5), "gamma": channels(0.5, 1.5),
                "beta": channels(-0.5, 0.5), "mean": channels(-1, 1), "var": channels(0.5, 4)}
        if self.residual:
            data["residual"] = tensor()
        if self.op == "backward":
            data["dy"] = tensor()
        self.data = {name: aligned(array) for name, array in data.items()}


def all_cases():
    operations = [("train_forward", False), ("train_forward", True), ("backward", False), ("inference", False)]
    return [Case(op, residual, layout, channels, 56)
            for op, residual in operations for layout in ("NCHW", "NHWC") for channels in (64, 256)]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", required=True, help="libfusebn_peer.so")
    parser.add_argument("--threads", type=int, default=2, help="of every contender (2)")
    parser.add_argument("--rounds", type=int, default=31, help="of every row (31)")
    parser.add_argument("--quick", action="store_true", help="3 rounds: whether everything works, not how fast it is")
    parser.add_argument("--rows", default="", help="only rows with this in their name: train_forward+add+relu NHWC")
    parser.add_argument("--without", default="", help="contenders to leave out: torch,torch.compile,jax")
    parser.add_argument("--json", default="build/results/peers.jsonl")
    parser.add_argument("--markdown", default="build/results/peers.md")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds = 3
    return arguments


def make_contenders(arguments):
    """Those that are there, fusebn first, and the reasons why others are not."""
    from peer_fusebn import Fusebn

    contenders, versions, missing = [Fusebn(arguments.library, arguments.threads)], [], []
    without = arguments.without.split(",")

    def add(name, make):
        if name in without:
            missing.append(f"{name}: left out by --without")
            return
        try:
            contender = make()
        except ImportError as error:
            missing.append(f"{name}: {error}")
            return
        contenders.append(contender)
        if contender.version() not in versions:
            versions.append(contender.version())

    def torch(compiled):
        from peer_torch import Torch
        return Torch(compiled, arguments.threads)

    def jax():
        from peer_jax import Jax
        return Jax()

    add("torch", lambda: torch(False))
    add("torch.compile", lambda: torch(True))
    add("jax", jax)
    return contenders, versions, missing


def difference(case, wanted, got):
    """Why two results are not the same layer's, or "". A ReLU may open on one side where its argument is next to zero:
    so one element of dx in a million may differ."""
    import numpy

    count = case.elements / case.channels
    for name, reference in wanted.items():
        # Of a sum each value may be off by a ten-thousandth: its values are around one, and their mean has an error.
        bound = 1e-4 * (count + abs(reference)) if name in ("dgamma", "dbeta") else 1e-3 * (1 + abs(reference))
        wrong = ~(numpy.abs(got[name] - reference) <= bound)
        if wrong.sum() > (case.elements // 1_000_000 if name == "dx" else 0):
            at = numpy.unravel_index(wrong.argmax(), wrong.shape)
            return f"{name}{list(map(int, at))} is {got[name][at]}, fusebn's {reference[at]}"
    return ""


def measure(case, contenders, rounds):
    """The contenders that take part, timed, and complaints about the others."""
    from peer_timing import Contender, quick_time, race

    case.fill()
    racing, complaints, wanted = [], [], None
    for contender in contenders:
        try:
            forms = contender.candidates(case)
            checked = []
            for detail, run, results in forms:
                run()
                found = results()
                if wanted is None:
                    wanted = found
                if why := difference(case, wanted, found):
                    complaints.append(f"{contender.name} {detail}: {why}")
                else:
                    checked.append((quick_time(run) if len(forms) > 1 else 0, detail, run))
        except Exception as error:  # of whatever kind a compiler has: the others can still be measured
            complaints.append(f"{contender.name}: {type(error).__name__}: {str(error).strip().splitlines()[0]}")
            continue
        if checked:
            _, detail, run = min(checked, key=lambda form: form[0])
            racing.append(Contender(contender.name, run, detail))
    race(racing, rounds)
    return racing, complaints


def main():
    arguments = parse_arguments()
    # Before any of the libraries counts CPUs: all of them get as many as they are to have threads.
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[:arguments.threads])
    import peer_report

    contenders, versions, missing = make_contenders(arguments)
    for line in missing:
        print(f"missing: {line}")
    if len(contenders) == 1:
        sys.exit("neither PyTorch nor JAX is there to be compared with; scripts/peers.sh --help says how to have them")
    rows, wrong = [], 0
    cases = [case for case in all_cases() if arguments.rows in f"{case.name} {case.layout} {case.channels}"]
    if not cases:
        sys.exit(f'no row has "{arguments.rows}" in its name')
    for number, case in enumerate(cases, 1):
        start = time.perf_counter()
        racing, complaints = measure(case, contenders, arguments.rounds)
        for complaint in complaints:
            print(f"LEFT OUT, {case.name} {case.layout} {case.channels}: {complaint}")
            wrong += 1
        rows.append(peer_report.Row(case, racing))
        case.data = {}
        print(f"[{number}/{len(cases)}] {case.name} {case.layout} {case.channels}: "
              f"{time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    machine = {"cpu": peer_report.cpu_name(), "isa": contenders[0].isa(), "threads": arguments.threads,
               "rounds": arguments.rounds, "versions": versions, "missing": missing}
    text = peer_report.markdown(machine, rows) + peer_report.summary(rows, BAR)
    print(text)
    lines = "".join(json.dumps(line) + "\n" for line in peer_report.lines(machine, rows))
    for path, content in ((arguments.markdown, text), (arguments.json, lines)):
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(path).write_text(content)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
