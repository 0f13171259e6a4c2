#!/usr/bin/env python3
"""The GPU benchmark's lines as a table, and as a page with figures.

    report.py LINES.jsonl [MORE.jsonl ...] [-o FOLDER] > table.md

Takes the lines of fusebn_gpu_bench, in all its modes, and of peer_torch.py, in any files and order. FOLDER/index.html
loads nothing; FOLDER/gpu-f32.png (and -bf16) are its figures, which need matplotlib."""
import argparse
import base64
import html
import json
import math
import pathlib
import re
import sys

OPS = {"inference": "inference", "train_forward": "training", "backward": "backward"}
COLOURS = {"inference": "#4c9a5b", "train_forward": "#2f6fb0", "backward": "#d98c2b"}
KERNEL = re.compile(r"bn_(\w+?)_(f32|bf16)_(?:planar_n(\d+)_c(\d+)_s(\d+)|interleaved_r(\d+)_c(\d+))_relu")
COLUMNS_OF_WORDS = {"operation", "type", "layout", "channels x spatial", "launches", "captured graph", "bits",
                    "a program's first call, ms"}
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1150px; margin: 2em auto; padding: 0 1em; color: #1c2733 }
table { border-collapse: collapse; font-size: 13px; margin: .6em 0 }
th, td { text-align: right; padding: .2em .7em; border-bottom: 1px solid #dde3ea; font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left } img { max-width: 100% } .low { color: #b03a2e; font-weight: 600 }
"""


class Row:
    """A timed kernel: its key is (dtype, layout, channels, spatial)."""

    def __init__(self, line, samples=256):
        found = KERNEL.fullmatch(line["kernel"])
        if found is None:
            sys.exit(f"report.py: found the kernel {line['kernel']}; expected a row of gpu_shapes")
        self.op, dtype, _, c, s, r, c2 = found.groups()
        self.key = (dtype, "NCHW", int(c), int(s)) if c else (dtype, "NHWC", int(c2), int(r) // samples)
        self.dtype, self.layout, self.channels, self.spatial = self.key
        self.line = line
        self.us, self.share = line["us"], line["share_of_copy"]
        self.one_launch = "parallel=channels" in line["ran"]


class Results:
    def __init__(self, paths):
        self.rows, self.failures, self.graphs, self.gpus, self.first_calls = [], [], [], [], []
        self.eager, self.compiled, self.peer, self.machine = {}, {}, {}, {}
        for path in paths:
            for line in pathlib.Path(path).read_text().splitlines():
                if line.startswith("{"):
                    self.take(json.loads(line))
        if not self.rows:
            sys.exit(f"report.py: {' '.join(map(str, paths))}: expected the rows that fusebn_gpu_bench writes")

    def take(self, line):
        if "failure" in line:
            self.failures.append((line.get("kernel", "PyTorch compiled"), line["failure"]))
        elif "us" in line and "kernel" in line:
            self.rows.append(Row(line))
        elif "graph_of" in line:
            self.graphs.append(line)
        elif "gpus" in line:
            self.gpus.append(line)
        elif "first_call_of" in line:
            self.first_calls.append(line)
        elif "machine" in line:
            self.machine = line["machine"]
        elif "torch" in line:
            self.peer = line
        elif "dtype" in line:
            times = self.compiled if line.get("compiled") else self.eager
            times[line["dtype"], line["layout"], line["channels"], line["spatial"]] = line

    def ratio(self, row, times):
        """The peer's time over fusebn's, None where it was not measured."""
        return times[row.key][row.op] / row.us if row.key in times else None

    def device(self):
        return self.machine.get("gpu") or self.peer.get("device", "a GPU")

    def groups(self):
        """(operation, type, layout) and its rows."""
        groups = {}
        for row in self.rows:
            groups.setdefault((row.op, row.dtype, row.layout), []).append(row)
        return groups


def known(values):
    return [v for v in values if v is not None]


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def mean_and_lowest(values):
    values = known(values)
    return f"{geometric_mean(values):.2f}, {min(values):.2f}" if values else ""


def row_table(results):
    head = ["operation", "type", "layout", "channels x spatial", "us", "cold", "of a copy", "cold", "launches",
            "PyTorch / fusebn"] + (["compiled / fusebn"] if results.compiled else [])
    cells = []
    for row in results.rows:
        peers = [results.eager] + ([results.compiled] if results.compiled else [])
        ratios = [results.ratio(row, p) for p in peers]
        cells.append([row.op, row.dtype, row.layout, f"{row.channels}x{row.spatial}", f"{row.us}",
                      f"{row.line['us_cold']}", f"{row.share:.2f}", f"{row.line['share_of_copy_cold']:.2f}",
                      "slabs in shared memory" if row.one_launch else ""] +
                     [f"{r:.2f}" if r else "" for r in ratios])
    return head, cells


def summary_table(results):
    head = ["operation", "type", "layout", "of a copy: lowest, highest",
            "PyTorch / fusebn: geometric mean, lowest"] + (
                ["compiled / fusebn: geometric mean, lowest, rows"] if results.compiled else [])
    cells = []
    for (op, dtype, layout), rows in results.groups().items():
        shares = [r.share for r in rows]
        cells.append([op, dtype, layout, f"{min(shares):.2f}, {max(shares):.2f}",
                      mean_and_lowest([results.ratio(r, results.eager) for r in rows])])
        if results.compiled:
            ratios = [results.ratio(r, results.compiled) for r in rows]
            cells[-1].append(f"{mean_and_lowest(ratios)}, {len(known(ratios))}" if known(ratios) else "")
    return head, cells


def graph_table(results):
    cells = [[g["graph_of"], f"{g['us']}", f"{g['graph_us']}", "equal" if g["bits_as_direct"] else "DIFFER"]
             for g in results.graphs]
    return ["captured graph", "direct call, us", "replay, us", "bits"], cells


def first_call_table(results):
    cells = [["compiled from PTX" if c["ptx_compiled"] else "embedded cubin"] +
             [f"{c[part]:.1f}" for part in ("driver_ms", "context_ms", "layer_ms", "first_ms", "second_ms",
                                            "beyond_context_ms")] for c in results.first_calls]
    return ["a program's first call, ms", "driver", "bare context", "layer made", "first call", "second call",
            "beyond the context"], cells


def sentences(results):
    equal = sum(r.line["bits_as_cpu"] and r.line["repeatable"] for r in results.rows)
    said = [f"Bits equal to the CPU's kernels' and from run to run: {equal} of {len(results.rows)} rows."]
    for gpus in results.gpus:
        if gpus["gpus"] < 2:
            said.append("There was one GPU.")
    several = [g for g in results.gpus if "kernel_on_all" in g]
    if several:
        same = sum(g["bits_as_first"] for g in several)
        said.append(f"On {several[0]['gpus']} GPUs at once the bits of the first: {same} of {len(several)} kernels.")
    return said + [f"Failed: {what}: {why}" for what, why in results.failures]


def tables(results):
    found = [row_table(results), summary_table(results)]
    return found + [t for t in (graph_table(results), first_call_table(results)) if t[1]]


def markdown(results):
    parts = []
    for head, cells in tables(results):
        rule = ["---" if name in COLUMNS_OF_WORDS else "--:" for name in head]
        lines = ["| " + " | ".join(head) + " |", "|" + "|".join(rule) + "|"]
        parts.append("\n".join(lines + ["| " + " | ".join(row) + " |" for row in cells]))
    return "\n\n".join(parts + ["\n".join(sentences(results))])


def shape_name(row):
    side = math.isqrt(row.spatial)
    return f"{row.channels}x{side}x{side}" if side * side == row.spatial else f"{row.channels}x{row.spatial}"


def draw(results, dtype, path):
    """Share of a copy above, speed-up over PyTorch below, by shape; a column a layout. False without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        print("report.py: no matplotlib here; the page has no figure", file=sys.stderr)
        return False
    matplotlib.use("agg")
    from matplotlib import pyplot
    peers = any(results.ratio(r, results.eager) for r in results.rows if r.dtype == dtype)
    figure, all_axes = pyplot.subplots(2 if peers else 1, 2, figsize=(13, 7 if peers else 4), sharey="row",
                                       squeeze=False)
    for column, layout in enumerate(("NCHW", "NHWC")):
        rows = [r for r in results.rows if (r.dtype, r.layout) == (dtype, layout)]
        shapes = sorted({(-r.channels * r.spatial, -r.spatial, shape_name(r)) for r in rows})
        places = {name: at for at, (_, _, name) in enumerate(shapes)}
        panels = [(lambda r: r.share, "share of a device copy's speed")]
        if peers:
            panels.append((lambda r: results.ratio(r, results.eager), "times as fast as PyTorch, eager"))
        for (value, label), axes in zip(panels, all_axes[:, column]):
            for i, op in enumerate(OPS):
                found = {shape_name(r): value(r) for r in rows if r.op == op}
                for name, at in places.items():
                    x = at + 0.27 * (i - 1)
                    if found.get(name) is None:
                        axes.text(x, 0, " not measured", rotation=90, fontsize=7, color="#6b7785", ha="center",
                                  va="bottom")
                        continue
                    axes.bar(x, found[name], 0.25, color=COLOURS[op])
            axes.axhline(1, color="#c0504d", linewidth=0.9)
            axes.set_xticks(range(len(places)), places, rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
            axes.spines[["top", "right"]].set_visible(False)
            if column == 0:
                axes.set_ylabel(label)
        all_axes[0][column].set_title(f"{layout}, {dtype}, N = 256, with ReLU")
    figure.suptitle(results.device())
    figure.legend(handles=[pyplot.Rectangle((0, 0), 1, 1, color=COLOURS[op], label=OPS[op]) for op in OPS],
                  frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 0.965))
    figure.tight_layout(rect=(0, 0, 1, 0.97))
    figure.savefig(path, dpi=110, bbox_inches="tight")
    pyplot.close(figure)
    return True


def html_table(head, cells):
    return ("<table><tr>" + "".join(f"<th>{html.escape(h)}</th>" for h in head) + "</tr>" + "".join(
        "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in cells) + "</table>")


def page(results, folder):
    versions = f"PyTorch {results.peer['torch']}, cuDNN {results.peer['cudnn']}" if results.peer else "no PyTorch"
    parts = [f"<h1>fusebn on {html.escape(results.device())}</h1>",
             "<p>Times by CUDA events, many calls one after the other; cold: single ones, the L2 cache filled with "
             "something else before. A share of a copy's speed counts the bytes that a kernel has to move, those that "
             f"its sums read twice where it has several launches. {html.escape(versions)}; a ratio is its time over "
             "fusebn's.</p>", f"<p>{'<br>'.join(map(html.escape, sentences(results)))}</p>"]
    for dtype in dict.fromkeys(r.dtype for r in results.rows):
        path = folder / f"gpu-{dtype}.png"
        if draw(results, dtype, path):
            data = base64.b64encode(path.read_bytes()).decode()
            parts.append(f"<img alt='share of a copy and of PyTorch, {dtype}' src='data:image/png;base64,{data}'>")
    rows, *others = tables(results)
    parts += [html_table(*t) for t in others]
    parts.append(f"<details><summary>All {len(results.rows)} rows</summary>{html_table(*rows)}</details>")
    (folder / "index.html").write_text("<!doctype html><html lang=en><meta charset=utf-8><title>fusebn on a GPU</title>"
                                       f"<style>{STYLE}</style>" + "\n".join(parts) + "</html>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lines", nargs="+")
    parser.add_argument("-o", "--output", help="a folder for the page and its figures")
    arguments = parser.parse_args()
    results = Results(arguments.lines)
    print(markdown(results))
    if arguments.output:
        folder = pathlib.Path(arguments.output)
        folder.mkdir(parents=True, exist_ok=True)
        page(results, folder)


if __name__ == "__main__":
    main()
