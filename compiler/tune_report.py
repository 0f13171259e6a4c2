#!/usr/bin/env python3
"""The page of a search: what `fusebn tune --report` runs over its record file.

    tune_report.py RECORDS.jsonl [--machine TEXT]... -o PAGE.html

One HTML file without anything to load: the speed over the time of the search, every kernel's trials and its best, and
the table of them. A search may be of several machines: a CPU and its devices."""

import argparse
import datetime
import html
import io
import json
import math
import pathlib
import sys

try:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot
except ImportError:
    sys.exit("fusebn tune: --report needs Python's package matplotlib (python3 -m pip install matplotlib), in the Python "
             "that FUSEBN_PYTHON names")

PAUSE = 120  # seconds without a record: the search was not running

BLUE, GREY, RED = "#2f6fb0", "#9aa5b1", "#c0504d"

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #1c2733 }
table { border-collapse: collapse; width: 100%; font-size: 13px }
th, td { text-align: left; padding: .25em .6em; border-bottom: 1px solid #dde3ea; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
code { font-size: 12px } svg { max-width: 100%; height: auto } .dim { color: #6b7785 } h1 { font-size: 24px }
"""


def machine_text(record):
    threads = record.get("threads")  # a device's has none
    return record["machine"] + (f", {threads} thread{'' if threads == 1 else 's'}" if threads else "")


def read(path, wanted):
    records = []
    for line in pathlib.Path(path).read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
            record["at"] = datetime.datetime.strptime(record["time"], "%Y-%m-%dT%H:%M:%SZ").timestamp()
            record["id"] = (record["kernel"], record["target"])
            record["record"], record["generation"], record["schedule"]  # or it is none of ours
            if "failure" not in record:
                record["ms"], record["ratio"], record["ratio_quartiles"][1]
        except (ValueError, KeyError, TypeError, IndexError):
            continue
        records.append(record)
    machines = {machine_text(r) for r in records}
    chosen = set()
    for text in wanted or [""]:
        matching = {text} & machines or {m for m in machines if text in m}
        if not matching:
            sys.exit(f"fusebn tune: --report: {path} has no records" + (f" of {text}" if text else ""))
        if len(matching) > 1:
            sys.exit("fusebn tune: --report: several machines; say which with --machine:\n  " +
                     "\n  ".join(sorted(matching)))
        chosen |= matching
    records = [r for r in records if machine_text(r) in chosen]
    latest = records[-1]["generator"]
    return [r for r in records if r["generator"] == latest]


def geometric_mean(values):
    return math.exp(sum(math.log(v) for v in values) / len(values))


def curve(records, kernels):
    """Minutes of search, and the mean speed in units of the defaults' that was known then."""
    minutes, speeds, best, spent, before = [0.0], [1.0], {k: 1.0 for k in kernels}, 0.0, None
    for r in records:
        if before is not None:
            gap = r["at"] - before
            spent += gap if 0 <= gap < PAUSE else 0
        before = r["at"]
        if r["record"] == "best":
            best[r["id"]] = r["ratio"]
            minutes.append(spent / 60)
            speeds.append(geometric_mean(best.values()))
    return minutes, speeds


def svg(figure):
    out = io.StringIO()
    figure.savefig(out, format="svg", bbox_inches="tight")
    pyplot.close(figure)
    text = out.getvalue()
    return text[text.index("<svg"):]


def draw_curve(minutes, speeds):
    figure, axes = pyplot.subplots(figsize=(10, 3.2))
    axes.step(minutes, speeds, where="post", color=BLUE, linewidth=1.8)
    axes.axhline(1 + 0.95 * (speeds[-1] - 1), color=GREY, linewidth=0.8, linestyle="--", label="95 % of the gain")
    axes.set_xlabel("minutes of search")
    axes.set_ylabel("speed, defaults = 1\n(geometric mean)")
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    return svg(figure)


def draw_kernels(kernels, trials, best):
    order = sorted(kernels, key=lambda k: best[k]["ratio"] if k in best else 0)
    figure, axes = pyplot.subplots(figsize=(10, 0.6 + 0.23 * len(order)))
    for y, k in enumerate(order):
        ratios = [t["ratio"] for t in trials.get(k, []) if "failure" not in t]
        axes.plot(ratios, [y] * len(ratios), "|", color=GREY, markersize=7, markeredgewidth=0.8)
        if k in best:
            low, high = best[k]["ratio_quartiles"]
            axes.plot([low, high], [y, y], color=BLUE, linewidth=2)
            axes.plot(best[k]["ratio"], y, "o", color=BLUE, markersize=5)
    axes.axvline(1, color=RED, linewidth=0.9)
    targets = len({k[1] for k in kernels}) > 1
    axes.set_yticks(range(len(order)), [k[0].removeprefix("bn_") + (f" {k[1]}" if targets else "") for k in order],
                    fontsize=7)
    axes.set_ylim(-1, len(order))
    axes.set_xlabel("speed, default = 1: every schedule that was tried, and the best one in the final with its quartiles")
    axes.spines[["top", "right"]].set_visible(False)
    return svg(figure)


def time_text(ms):
    return f"{1e3 * ms:.2f} us" if ms < 0.1 else f"{ms:.3f} ms"


def table(kernels, trials, best):
    rows = []
    for k in sorted(kernels):
        tried = trials.get(k, [])
        failed = sum("failure" in t for t in tried)
        b = best.get(k)
        cells = [f"<td>{html.escape(k[0])}<br><span class=dim>{html.escape(k[1])}</span></td>"]
        if b is None:
            cells.append("<td colspan=4>not timed</td>")
        else:
            low, high = b["ratio_quartiles"]
            gain = "the default" if b["within_noise"] else f"{b['ratio']:.2f} <span class=dim>({low:.2f}-{high:.2f})</span>"
            of_copy = f"{b['of_copy']:.2f}" if "of_copy" in b else "-"
            cells += [f"<td class=n>{time_text(b['ms'])}</td>", f"<td class=n>{gain}</td>", f"<td class=n>{of_copy}</td>",
                      f"<td><code>{html.escape(b['schedule'])}</code></td>"]
        cells.append(f"<td class=n>{len(tried)}{f', {failed} failed' if failed else ''}</td>")
        rows.append("<tr>" + "".join(cells) + "</tr>")
    head = "".join(f"<th class={c}>{t}</th>" for t, c in (
        ("kernel", "t"), ("time", "n"), ("times the default's speed", "n"), ("of a copy's", "n"), ("schedule", "t"),
        ("trials", "n")))
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def page(records):
    kernels = {r["id"] for r in records}
    trials, best = {}, {}
    for r in records:
        if r["record"] == "best":
            best[r["id"]] = r
        else:
            trials.setdefault(r["id"], []).append(r)
    minutes, speeds = curve(records, kernels)
    goal = 0.95 * speeds[-1]
    reached = next(m for m, s in zip(minutes, speeds) if s >= goal)
    noise = sum(b["within_noise"] for b in best.values())
    copies = [b["of_copy"] for b in best.values() if b.get("of_copy", 0) > 0]
    facts = [
        f"kernels: {len(kernels)}; trials: {sum(map(len, trials.values()))}, in {minutes[-1]:.1f} minutes",
        f"in the end {speeds[-1]:.3f} times the defaults' speed (geometric mean); 95 % of that speed after "
        f"{reached:.1f} minutes",
        f"nothing was shown to be faster than the default: {noise} of {len(best)}",
    ]
    if copies:
        facts.append(f"{geometric_mean(copies):.2f} of the speed of a copy of the bytes that must move (geometric mean)")
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>fusebn tune</title>", f"<style>{STYLE}</style>",
        "<h1>fusebn tune</h1>",
        f"<p>{'<br>'.join(html.escape(m) for m in sorted({machine_text(r) for r in records}))}<br><span class=dim>{html.escape(records[0]['generator'])}</span></p>",
        "<ul>" + "".join(f"<li>{f}</li>" for f in facts) + "</ul>",
        "<h2>The search</h2>", draw_curve(minutes, speeds),
        "<h2>The kernels</h2>", draw_kernels(kernels, trials, best), table(kernels, trials, best), "</html>\n",
    ]
    return "\n".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records")
    parser.add_argument("--machine", action="append", default=[],
                        help="a part of a machine's text, where the file has several")
    parser.add_argument("-o", "--output", required=True)
    arguments = parser.parse_args()
    try:
        text = page(read(arguments.records, arguments.machine))
        pathlib.Path(arguments.output).write_text(text)
    except OSError as error:
        sys.exit(f"fusebn tune: --report: {error}")


if __name__ == "__main__":
    main()
