#!/usr/bin/env python3
"""The page of a benchmark run: scripts/bench.sh runs it over the rows that fusebn_bench wrote.

    report.py [ROWS.jsonl ...] [--peers PEERS.jsonl ...] -o FOLDER

FOLDER/index.html loads nothing; FOLDER/roofline.png, networks.png, sums.png and peers.png are its figures. Rows of more
files are of other machines or days: each file has a section of its own. What scripts/peers.sh wrote, of one machine, in
several runs or one, is a section too."""

import argparse
import html
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "networks"))
import networks  # noqa: E402
import report_peers  # noqa: E402
from report_parts import (  # noqa: E402
    BLUE, GREEN, GREY, ORANGE, RED, STYLE, embedded, geometric_mean, number, pyplot, save, table, ticker)

OP_COLOURS = {"inference": GREEN, "train_forward": BLUE, "backward": ORANGE}
OP_NAMES = {"inference": "inference", "train_forward": "training", "backward": "backward"}
PEERS = {"onednn": "oneDNN, same layout", "onednn-blocked": "oneDNN, its blocked layout",
         "onednn3": "oneDNN 3, same layout", "onednn3-blocked": "oneDNN 3, its blocked layout"}
PEER_HEADINGS = {"onednn": "oneDNN / fusebn", "onednn-blocked": "blocked / fusebn", "onednn3": "oneDNN 3 / fusebn",
                 "onednn3-blocked": "oneDNN 3 blocked / fusebn"}


class Run:
    """One file: its machine, and its rows by kernel."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        lines = [json.loads(line) for line in self.path.read_text().splitlines() if line.strip()]
        if not lines or "machine" not in lines[0]:
            sys.exit(f"report.py: {path}: expected the rows that fusebn_bench --json writes")
        self.machine = lines[0]["machine"]
        self.rows = {}
        for line in lines[1:]:
            if "extents" not in line:
                sys.exit(f"report.py: {path}: its rows have no extents; measure again with this version")
            self.rows.setdefault(line["kernel"], {})[line["contender"]] = line
        self.peers = [p for p in PEERS if any(p in contenders for contenders in self.rows.values())]

    def kernels(self, op=None, layout=None, dtype="f32"):
        for name, contenders in self.rows.items():
            row = contenders["fusebn"]
            if (op is None or row["op"].split("+")[0] == op) and (layout is None or row["layout"] == layout) and (
                    dtype is None or row["dtype"] == dtype):
                yield name, contenders


def batches_of(run):
    found = set()
    for _, contenders in run.kernels():
        row = contenders["fusebn"]
        if row["layout"] == "NCHW":
            found.add(row["extents"][0])
    return sorted(found)


def network_rows(run, network, op, layout, batch, dtype="f32"):
    """(count, contenders) of each kind, or None where a kind was not measured."""
    rows = []
    for norm, count in networks.counts(network).items():
        contenders = run.rows.get(networks.kernel_name(op, layout, dtype, batch, norm))
        if contenders is None:
            return None
        rows.append((count, contenders))
    return rows


def usable_l3(machine):
    """Bytes of the last-level cache that a process could use; older files have what the machine states."""
    caches = machine["cache_bytes"]
    return caches.get("l3_usable") or caches["l3"]


def draw_roofline(run, path):
    layouts = ["NCHW", "NHWC"]
    figure, all_axes = pyplot.subplots(1, 2, figsize=(12, 4.4), sharey=True)
    for axes, layout in zip(all_axes, layouts):
        copies = sorted((c["fusebn"]["floor_bytes"], c["copy"]["gbps"]) for _, c in run.kernels(layout=layout))
        if not copies:
            continue
        axes.plot([b / 1e6 for b, _ in copies], [g for _, g in copies], ".", color=GREY, markersize=4,
                  label="a copy of the same bytes")
        for op, colour in OP_COLOURS.items():
            points = [c["fusebn"] for _, c in run.kernels(op, layout)]
            # What must move over the time, what is read again included.
            axes.plot([p["limit_bytes"] / 1e6 for p in points],
                      [1e-6 * p["limit_bytes"] / p["median_ms"] for p in points], "o", color=colour, markersize=5,
                      alpha=0.75, label=OP_NAMES[op])
        l3 = usable_l3(run.machine)
        axes.axvline(l3 / 1e6, color=RED, linewidth=0.8, linestyle="--")
        axes.text(l3 / 1e6, 0.97, " L3", color=RED, fontsize=8, va="top",
                  transform=axes.get_xaxis_transform())
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(ticker.LogLocator(subs=(2, 3, 4, 6)))
        for set_formatter in (axes.xaxis.set_major_formatter, axes.yaxis.set_major_formatter,
                              axes.yaxis.set_minor_formatter):
            set_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_title(f"{layout}, f32")
        axes.set_xlabel("MB that must move")
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0].set_ylabel("GB/s")
    all_axes[0].legend(frameon=False, fontsize=9, loc="lower left")
    save(figure, path)


def speedups(run, network, op, layout, peer, batch):
    rows = network_rows(run, network, op, layout, batch)
    if rows is None:
        return []
    return [c[peer]["ratio_to_fusebn"] for _, c in rows if peer in c]


def draw_networks(run, batch, path):
    present = [n for n in networks.NETWORKS if network_rows(run, n, "train_forward", "NCHW", batch)]
    if not present:
        return False
    series = [("train_forward", "NCHW", "onednn-blocked"), ("backward", "NCHW", "onednn-blocked"),
              ("train_forward", "NHWC", "onednn"), ("backward", "NHWC", "onednn")]
    colours = [BLUE, ORANGE, "#8fb4d9", "#efc58b"]
    figure, axes = pyplot.subplots(figsize=(12, 3.8))
    width = 0.8 / len(series)
    for i, ((op, layout, peer), colour) in enumerate(zip(series, colours)):
        for at, network in enumerate(present):
            values = speedups(run, network, op, layout, peer, batch)
            if not values:
                continue
            x = at + (i - 1.5) * width
            axes.bar(x, geometric_mean(values), width * 0.92, color=colour,
                     label=f"{OP_NAMES[op]}, {layout}: {PEERS[peer]}" if at == 0 else None)
            axes.plot([x, x], [min(values), max(values)], color="#1c2733", linewidth=1)
    axes.axhline(1, color=RED, linewidth=0.9)
    axes.set_xticks(range(len(present)), present)
    axes.set_ylabel("times as fast\n(geometric mean, lowest and highest)")
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)
    return True


def step_ms(run, network, layout, batch, contender):
    """Milliseconds of all batch norms of one training step, and how many of them the contender has."""
    total, known, count = 0.0, 0, 0
    for op in ("train_forward", "backward"):
        rows = network_rows(run, network, op, layout, batch)
        if rows is None:
            return None
        for times, contenders in rows:
            count += times
            if contender in contenders:
                known += times
                total += times * contenders[contender]["median_ms"]
    return total, known, count


def draw_sums(run, batch, path):
    present = [(n, layout) for n in networks.NETWORKS for layout in ("NCHW", "NHWC")
               if step_ms(run, n, layout, batch, "fusebn")]
    if not present:
        return False
    figure, axes = pyplot.subplots(figsize=(12, 0.8 + 0.45 * len(present)))
    for at, (network, layout) in enumerate(reversed(present)):
        axes.barh(at + 0.18, step_ms(run, network, layout, batch, "fusebn")[0], 0.34, color=BLUE,
                  label="fusebn" if at == 0 else None)
        axes.barh(at - 0.18, step_ms(run, network, layout, batch, "copy")[0], 0.34, color=GREY,
                  label="a copy of the same bytes" if at == 0 else None)
    axes.set_yticks(range(len(present)), [f"{n}, {layout}" for n, layout in reversed(present)])
    axes.set_xlabel("ms of all batch norms of one training step, forward and backward, each tensor's bytes once")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)
    return True


def summary(run):
    rows = []
    for op in OP_NAMES:
        for layout in ("NCHW", "NHWC"):
            chosen = [c for _, c in run.kernels(op, layout)]
            if not chosen:
                continue
            large = [c["fusebn"]["fraction_of_limit"] for c in chosen if not c["fusebn"]["in_cache"]]
            small = [c["fusebn"]["fraction_of_limit"] for c in chosen if c["fusebn"]["in_cache"]]
            cells = [f"<td>{OP_NAMES[op]}, {layout}</td>", f"<td>{len(chosen)}</td>"]
            for group in (large, small):
                cells += [number(geometric_mean(group)), number(min(group, default=None))]
            for peer in run.peers:
                ratios = [c[peer]["ratio_to_fusebn"] for c in chosen if peer in c]
                cells += [number(geometric_mean(ratios)), number(min(ratios, default=None), 1)]
            rows.append(cells)
    headings = ["f32", "rows", "of the limit, beyond L3", "lowest", "within L3", "lowest"]
    return table(headings + [h for peer in run.peers for h in (PEER_HEADINGS[peer], "lowest")], rows)


def sums_table(run, batch):
    rows = []
    for network in networks.NETWORKS:
        for layout in ("NCHW", "NHWC"):
            ours = step_ms(run, network, layout, batch, "fusebn")
            if ours is None:
                continue
            cells = [f"<td>{network}, {layout}, N = {batch}</td>", f"<td>{ours[2]}</td>", number(ours[0]),
                     number(step_ms(run, network, layout, batch, "copy")[0])]
            for peer in run.peers:
                total, known, _ = step_ms(run, network, layout, batch, peer)
                # Of the batch norms that the peer has too: a residual's it has not.
                same = sum(times * c["fusebn"]["median_ms"] for op in ("train_forward", "backward")
                           for times, c in network_rows(run, network, op, layout, batch) if peer in c)
                cells.append(f"<td>{total / same:.2f} <span class=dim>({known})</span></td>" if known else "<td>-</td>")
            rows.append(cells)
    return table(["a training step's batch norms", "calls", "ms", "a copy, ms"] +
                 [f"{PEER_HEADINGS[peer]} (of so many calls)" for peer in run.peers], rows)


def all_rows(run):
    rows = []
    for name, contenders in sorted(run.rows.items()):
        row = contenders["fusebn"]
        cells = [f"<td>{html.escape(name)}</td>", number(row["median_ms"], digits=4), number(row["gbps"], digits=1),
                 number(row["fraction_of_limit"])]
        for peer in run.peers:
            if peer in contenders:
                low, high = contenders[peer]["ratio_quartiles"]
                ratio = contenders[peer]["ratio_to_fusebn"]
                cells.append(f"<td{' class=low' if ratio < 1 else ''}>{ratio:.2f} "
                             f"<span class=dim>({low:.2f}-{high:.2f})</span></td>")
            else:
                cells.append("<td>-</td>")
        rows.append(cells)
    return table(["kernel", "ms", "GB/s", "of the limit"] + [PEER_HEADINGS[peer] for peer in run.peers], rows)


METHOD = """Every kernel's result was compared with a double-precision oracle, and every peer's with fusebn's, before
anything was timed. Contenders take turns in one process; a ratio is the median of paired turns. <b>The limit</b> is the
time of a copy (in turns with the rest; the faster of one with streaming stores and one with plain ones) of the bytes
that must move, each tensor once, and of a reading of what is needed again where no cache can hold it in between."""


def section(run, folder, index):
    prefix = "" if index == 0 else f"{run.path.stem}-"
    parts = []
    machine = run.machine
    caches = machine["cache_bytes"]
    parts.append(f"<h2>{html.escape(machine['cpu'])}, {machine['isa']}, {machine['threads']} threads</h2>"
                 f"<p class=dim>L1 {caches['l1'] >> 10} KB, L2 {caches['l2'] >> 10} KB, L3 {caches['l3'] >> 20} MB, "
                 f"{usable_l3(machine) >> 20} MB of it usable; "
                 f"{html.escape(machine['generator'])}; oneDNN {html.escape(machine['onednn'] or 'missing')}"
                 f"{html.escape(', and ' + machine['onednn3'] if 'onednn3' in machine else '')}; "
                 f"{'each call is followed by a reading of its results; ' if machine.get('reader') else ''}"
                 f"{html.escape(run.path.name)}</p>")
    parts.append(summary(run))

    def figure(name, draw, title):
        path = folder / f"{prefix}{name}.png"
        if draw(path) is not False:
            parts.append(embedded(path, title))

    figure("roofline", lambda p: draw_roofline(run, p), "Speed over size, and what a copy reaches")
    for batch in batches_of(run):
        tag = "" if batch == 32 else f"-n{batch}"
        figure(f"networks{tag}", lambda p: draw_networks(run, batch, p), f"Networks beside oneDNN, N = {batch}")
        figure(f"sums{tag}", lambda p: draw_sums(run, batch, p), f"Whole networks, N = {batch}")
        parts.append(sums_table(run, batch))
    parts.append(f"<details><summary>All {len(run.rows)} rows</summary>{all_rows(run)}</details>")
    return "\n".join(parts)


def autoscheduler_table(path):
    measured = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
    names = sorted({name for row in measured for name in row["autoschedulers"]})
    rows, times = [], {name: [] for name in names}
    for row in measured:
        cells = [f"<td>{html.escape(row['kernel'])}</td>", number(row["ms"], digits=4)]
        for name in names:
            result = row["autoschedulers"][name]
            if "failure" in result:
                reason = html.escape(result["failure"], quote=True)
                cells.append(f"<td class=dim title='{reason}'>failed</td>")
            else:
                times[name].append(1 / result["ratio"])
                cells.append(number(1 / result["ratio"]))
        rows.append(cells)
    rows.append(["<td>geometric mean</td>", "<td></td>"] + [number(geometric_mean(times[n])) for n in names])
    return table(["kernel", "fusebn, ms"] + [f"{n} / fusebn" for n in names], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--peers", nargs="+", default=[], help="rows of scripts/peers.sh")
    parser.add_argument("--autoschedulers", help="rows of fusebn_autoschedulers")
    parser.add_argument("-o", "--output", required=True)
    arguments = parser.parse_args()
    if not arguments.rows and not arguments.peers:
        parser.error("expected rows of fusebn_bench, or --peers and rows of scripts/peers.sh")
    folder = pathlib.Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    sections = [section(Run(path), folder, i) for i, path in enumerate(arguments.rows)]
    if sections:
        sections.insert(0, f"<p>{METHOD}</p>")
    if arguments.peers:
        sections.append(report_peers.section(arguments.peers, folder))
    if arguments.autoschedulers:
        sections.append("<h2>Halide's autoschedulers on the same algorithms</h2><p>Their schedules' times over fusebn's "
                        "default's, through the same code generation; every result equal to the default's bit for "
                        "bit.</p>" + autoscheduler_table(arguments.autoschedulers))
    (folder / "index.html").write_text(
        "<!doctype html><html lang=en><meta charset=utf-8><title>fusebn beside its peers</title>"
        f"<style>{STYLE}</style><h1>fusebn beside its peers and the machine's limit</h1>" +
        "\n".join(sections) + "</html>\n")
    print(folder / "index.html")


if __name__ == "__main__":
    main()
