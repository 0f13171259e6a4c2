#!/usr/bin/env python3
"""fusebn beside other libraries over the batch norms of whole networks, in one process and in turns: `scripts/peers.sh`
sets up what this needs.

Every contender's results are compared with fusebn's before anything is timed. Contenders that are not installed are
left out, and said to be."""

import argparse
import ctypes
import gc
import json
import os
import pathlib
import sys
import time

import peer_report
from peer_case import all_cases, networks

CHUNK = 1 << 16  # elements that are compared at once: in the L2 cache
DISTURBED = 0.1  # CPUs that other processes had while a row was timed
NAMES = "torch,torch.compile,jax,onnxruntime,openvino"


def words(allowed):
    def parse(text):
        found = text.split(",")
        if unknown := sorted(set(found) - set(allowed)):
            raise argparse.ArgumentTypeError(f"found {', '.join(unknown)}; allowed: {', '.join(allowed)}")
        return list(dict.fromkeys(found))
    return parse


def positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text}; expected a whole number of at least 1")
    return int(text)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", required=True, help="libfusebn_peer.so")
    parser.add_argument("--kernels", required=True, help="lib<name>.so of what networks.py --spec <name> says")
    parser.add_argument("--networks", type=words(networks.NETWORKS), default=["resnet50"])
    parser.add_argument("--batches", type=lambda text: [positive(word) for word in text.split(",")], default=[32])
    parser.add_argument("--layouts", type=words(["NCHW", "NHWC"]), default=["NCHW", "NHWC"])
    operations = ["train_forward", "backward", "inference"]
    parser.add_argument("--ops", type=words(operations), default=operations)
    parser.add_argument("--threads", type=positive, default=2, help="of every contender (2)")
    parser.add_argument("--rounds", type=positive, default=15, help="of every row (15)")
    parser.add_argument("--quick", action="store_true", help="3 rounds: whether everything works, not how fast it is")
    parser.add_argument("--rows", default="", help='only rows with this in their name: "add+relu NHWC 32x56x56x256"')
    parser.add_argument("--without", type=words(NAMES.split(",")), default=[],
                        help=f"contenders to leave out, of {NAMES}")
    parser.add_argument("--json", default="build/results/peers.jsonl")
    parser.add_argument("--markdown", default="build/results/peers.md")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds = 3
    return arguments


def make_contenders(arguments):
    """Those that are there, fusebn first, and the reasons why others are not."""
    from peer_fusebn import Fusebn

    contenders, versions, missing = [Fusebn(arguments.library, arguments.kernels, arguments.threads)], [], []

    def torch(compiled):
        from peer_torch import Torch
        return Torch(compiled, arguments.threads)

    def jax():
        from peer_jax import Jax
        return Jax()

    def onnxruntime():
        from peer_onnxruntime import OnnxRuntime
        return OnnxRuntime(arguments.threads)

    def openvino():
        from peer_openvino import OpenVino
        return OpenVino(arguments.threads)

    makers = [lambda: torch(False), lambda: torch(True), jax, onnxruntime, openvino]
    for name, make in zip(NAMES.split(","), makers):
        if name in arguments.without:
            missing.append(f"{name}: left out by --without")
            continue
        try:
            contender = make()
        except ImportError as error:
            missing.append(f"{name}: {error}")
            continue
        contenders.append(contender)
        if contender.version() not in versions:
            versions.append(contender.version())
    return contenders, versions, missing


def difference(case, wanted, got):
    """Why two results are not the same layer's, or "". A ReLU may open on one side where its argument is next to zero:
    so one element of a tensor's gradient may differ, and one in a hundred thousand; and so may the sums of one channel,
    and of one in a thousand."""
    import numpy

    if wanted.keys() != got.keys():
        return f"it gives {', '.join(got)}, fusebn {', '.join(wanted)}"
    count = case.elements / case.norm.channels
    for name, reference in wanted.items():
        if got[name].shape != reference.shape:
            return f"{name} has shape {got[name].shape}, fusebn's {reference.shape}"
        summed = name.startswith(("dgamma", "dbeta"))
        allowed = 0 if name == "y" else 1 + reference.size // (1_000 if summed else 100_000)
        flat, flat_got, wrong = reference.reshape(-1), got[name].reshape(-1), []
        for start in range(0, flat.size, CHUNK):
            part, part_got = flat[start:start + CHUNK], flat_got[start:start + CHUNK]
            # Of a sum each value may be off by a ten-thousandth: they are around one, and their mean has an error.
            bound = 1e-4 * (count + abs(part)) if summed else 1e-3 * (1 + abs(part))
            wrong += (start + numpy.flatnonzero(~(abs(part_got - part) <= bound))).tolist()
            if len(wrong) > allowed:
                at = numpy.unravel_index(wrong[0], reference.shape)
                return f"{name}{list(map(int, at))} is {got[name][at]}, fusebn's {reference[at]}"
    return ""


def fastest_correct(contender, case, wanted, complaints):
    """The fastest of a contender's forms whose results are fusebn's, ready for the race; None where there is none."""
    from peer_timing import Contender, quick_time

    checked, forms = [], contender.candidates(case)
    for detail, run, results in forms:
        run()
        if why := difference(case, wanted, results()):
            complaints.append(f"{contender.name} {detail}: {why}")
        else:
            checked.append((quick_time(run) if len(forms) > 1 else 0, detail, run))
    if not checked:
        return None
    _, detail, run = min(checked, key=lambda form: form[0])
    return Contender(contender.name, run, detail)


def measure(case, contenders, rounds):
    """The contenders that take part, timed, complaints about the others, and how many CPUs other processes had. Where
    they had too much, the row is timed once more."""
    from peer_timing import Contender, race

    case.fill()
    fusebn, *peers = contenders
    [(detail, run, results)] = fusebn.candidates(case)
    run()
    wanted = {name: array.copy() for name, array in results().items()}
    racing, complaints = [Contender(fusebn.name, run, detail)], []
    for peer in peers:
        if case.op not in getattr(peer, "operations", (case.op,)):
            continue
        try:
            found = fastest_correct(peer, case, wanted, complaints)
        except Exception as error:  # of whatever kind a compiler has: the others can still be measured
            complaints.append(f"{peer.name}: {type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}")
            continue
        if found is not None:
            racing.append(found)
    others = race(racing, rounds)
    if others > DISTURBED:
        others = race(racing, rounds)
    return racing, complaints, others


def free(case):
    """A row's tensors are up to gigabytes; peers.sh has malloc keep what is freed, and this gives it back."""
    case.data = {}
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def main():
    arguments = parse_arguments()
    # Before any of the libraries counts CPUs: all of them get as many as they are to have threads.
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[:arguments.threads])
    cases = [case for case in all_cases(arguments) if arguments.rows in case.title]
    if not cases:
        sys.exit(f'no row has "{arguments.rows}" in its name')
    contenders, versions, missing = make_contenders(arguments)
    for line in missing:
        print(f"missing: {line}")
    if len(contenders) == 1:
        sys.exit("no library is there to be compared with; scripts/peers.sh --help says how to have them")
    wrong = 0
    for path in (arguments.json, arguments.markdown):
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(arguments.json, "w") as out:
        def write(line):
            out.write(json.dumps(line) + "\n")
            out.flush()

        for number, case in enumerate(cases, 1):
            start = time.perf_counter()
            try:
                racing, complaints, others = measure(case, contenders, arguments.rounds)
            except RuntimeError as error:  # fusebn's own: without its results there is nothing to compare with
                sys.exit(f"{case.title}: fusebn: {error}")
            for complaint in complaints:
                print(f"LEFT OUT, {case.title}: {complaint}", flush=True)
                wrong += 1
            if number == 1:  # a kernel has run, so that its instruction set is known
                write({"machine": {"cpu": peer_report.cpu_name(), "isa": contenders[0].isa(),
                                   "threads": arguments.threads, "rounds": arguments.rounds, "versions": versions,
                                   "missing": missing}})
            for line in peer_report.lines(case, racing, others):
                write(line)
            del racing
            free(case)
            print(f"[{number}/{len(cases)}] {case.title}: {time.perf_counter() - start:.0f} s", file=sys.stderr,
                  flush=True)
    text = peer_report.page(peer_report.Results([arguments.json]))
    print(text)
    pathlib.Path(arguments.markdown).write_text(text)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
