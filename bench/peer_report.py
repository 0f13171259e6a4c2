#!/usr/bin/env python3
"""The rows of peers.py as JSON lines, and what they come to: a table, the sums over whole networks, and the bars.

    peer_report.py ROWS.jsonl [MORE.jsonl ...]     the page of one run, or of several on one machine"""

import json
import math
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "networks"))
import networks  # noqa: E402

PEERS = ["PyTorch", "torch.compile", "JAX", "ONNX Runtime", "OpenVINO"]
PASSES = {"training step": ("train_forward", "backward"), "inference": ("inference",)}
STEP_BAR = 3.0  # of PyTorch eager, over the batch norms of a training step of ResNet-50, N = 32, NCHW
BEST_BARS = {"NCHW": 2.5, "NHWC": 1.5}  # of the best peer
ROW_BAR = 1.0  # of the best peer, in every row


def cpu_name():
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "unknown CPU"


def lines(case, contenders, others):
    """A line for every contender, fusebn first. Ratios are medians over pairs of turns; faults_per_call counts fresh
    pages; others_cpus is how many CPUs other processes had while the row was timed."""
    from peer_timing import paired_ratio, quartiles

    for contender in contenders:
        low, median, high = quartiles([1e3 * s for s in contender.seconds])
        ratio_low, ratio, ratio_high = paired_ratio(contender, contenders[0])
        yield {"op": case.name, "layout": case.layout, "dtype": "f32", "shape": list(case.shape),
               "kernel": case.kernel, "contender": contender.name, "form": contender.detail, "median_ms": median,
               "quartiles_ms": [low, high], "calls_per_turn": contender.calls,
               "faults_per_call": round(contender.faults, 2), "others_cpus": round(others, 3),
               "ratio_to_fusebn": ratio, "ratio_quartiles": [ratio_low, ratio_high]}


class Results:
    """Rows by kernel, of each its lines by contender. A row that is in several files is the last one's."""

    def __init__(self, paths):
        self.machines, self.rows = [], {}
        for path in paths:
            own = {}
            found = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines() if line.strip()]
            if not found or "versions" not in found[0].get("machine", {}):
                sys.exit(f"{path}: expected the rows that scripts/peers.sh writes")
            for line in found:
                if "machine" in line:
                    self.machines += [] if line["machine"] in self.machines else [line["machine"]]
                elif "kernel" not in line:
                    sys.exit(f"{path}: its rows name no kernels; measure again with this version")
                else:
                    own.setdefault(line["kernel"], {})[line["contender"]] = line
            self.rows |= own

    def batches(self):
        return sorted({row["fusebn"]["shape"][0] for row in self.rows.values()})

    def network_rows(self, network, ops, layout, batch):
        """(calls, row) of each kind in these operations; None where one was not measured."""
        found = [(calls, self.rows.get(networks.kernel_name(op, layout, "f32", batch, norm)))
                 for op in ops for norm, calls in networks.counts(network).items()]
        # NCHW and NHWC name one kernel where a channel has one element of a sample, which no network here has.
        return None if any(row is None for _, row in found) else found

    def networks(self):
        """(name, layout, batch) of what was measured as a whole in a pass at least."""
        return [(name, layout, batch) for name in networks.NETWORKS for layout in ("NCHW", "NHWC")
                for batch in self.batches()
                if any(self.network_rows(name, ops, layout, batch) for ops in PASSES.values())]


def total_ms(rows, contender):
    """Of all calls; None where the contender has not all of them."""
    if any(contender not in row for _, row in rows):
        return None
    return sum(calls * row[contender]["median_ms"] for calls, row in rows)


def total_ratio(rows, contender):
    """The contender's total over fusebn's, and the same with each row's ratio at its lower and upper quartile."""
    ours = total_ms(rows, "fusebn")
    low, high = (sum(calls * row["fusebn"]["median_ms"] * row[contender]["ratio_quartiles"][i] for calls, row in rows)
                 / ours for i in (0, 1))
    return low, total_ms(rows, contender) / ours, high


def best_peer(row):
    return min((name for name in PEERS if name in row), key=lambda name: row[name]["median_ms"], default=None)


def best_ratio(row):
    """Of the best peer; None where there is none."""
    name = best_peer(row)
    return None if name is None else row[name]["ratio_to_fusebn"]


def geometric_mean(values):
    return math.exp(statistics.fmean(map(math.log, values)))


def with_quartiles(low, median, high):
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


def line_ratio(line):
    low, high = line["ratio_quartiles"]
    return with_quartiles(low, line["ratio_to_fusebn"], high)


def table(head, body, word_columns):
    """Markdown; columns of words are left-aligned, columns of numbers right-aligned."""
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]

    def line(cells):
        return "| " + " | ".join(c.ljust(w) if i in word_columns else c.rjust(w)
                                 for i, (c, w) in enumerate(zip(cells, widths))) + " |\n"

    rule = "|" + "|".join("-" * (w + 1) + ("-" if i in word_columns else ":") for i, w in enumerate(widths)) + "|\n"
    return line(head) + rule + "".join(map(line, body)) + "\n"


def there(results):
    return [peer for peer in PEERS if any(peer in row for row in results.rows.values())]


def row_table(results):
    peers = there(results)
    whole = dict.fromkeys(name for name, _, _ in results.networks())
    calls = {}  # of a kernel, in a pass of each network
    for name, layout, batch in results.networks():
        for op in ("train_forward", "backward", "inference"):
            for norm, count in networks.counts(name).items():
                calls.setdefault(networks.kernel_name(op, layout, "f32", batch, norm), {})[name] = count
    head = ["operation", "layout", "shape"] + [f"calls, {name}" for name in whole] + ["fusebn ms"]
    for peer in peers:
        head += [f"{peer} ms", "ratio"]
    body = []
    for kernel, row in results.rows.items():
        ours = row["fusebn"]
        cells = [ours["op"], ours["layout"], "x".join(map(str, ours["shape"]))]
        cells += [str(calls.get(kernel, {}).get(name, "-")) for name in whole] + [f"{ours['median_ms']:.3f}"]
        for peer in peers:
            cells += [f"{row[peer]['median_ms']:.3f}", line_ratio(row[peer])] if peer in row else ["-", "-"]
        forms = [f"{peer}: {row[peer]['form']}" for peer in peers if peer in row and row[peer]["form"]]
        body.append(cells + ["; ".join(forms) or "-"])
    return table(head + ["forms that were fastest"], body, (0, 1, 2, len(head)))


def sums_table(results):
    peers = there(results)
    head = ["all batch norms of a", "network", "layout", "N", "calls", "fusebn ms"]
    for peer in peers:
        head += [f"{peer} ms", "ratio"]
    body = []
    for name, layout, batch in results.networks():
        for title, ops in PASSES.items():
            rows = results.network_rows(name, ops, layout, batch)
            if rows is None:
                continue
            cells = [title, name, layout, str(batch), str(sum(calls for calls, _ in rows)),
                     f"{total_ms(rows, 'fusebn'):.1f}"]
            for peer in peers:
                total = total_ms(rows, peer)
                cells += ["-", "-"] if total is None else [f"{total:.1f}", with_quartiles(*total_ratio(rows, peer))]
            body.append(cells)
    return table(head, body, (0, 1, 2)) if body else ""


def best_table(results):
    body = []
    for layout in BEST_BARS:
        for op in ("train_forward", "backward", "inference"):
            rows = [row for row in results.rows.values() if row["fusebn"]["layout"] == layout
                    and row["fusebn"]["op"].split("+")[0] == op and best_peer(row) is not None]
            if rows:
                ratios = [best_ratio(row) for row in rows]
                eager = [row["PyTorch"]["ratio_to_fusebn"] for row in rows if "PyTorch" in row]
                body.append([op, layout, str(len(rows)), f"{geometric_mean(ratios):.2f}", f"{min(ratios):.2f}",
                             f"{geometric_mean(eager):.2f}" if eager else "-",
                             f"{min(eager):.2f}" if eager else "-"])
    return table(["operation", "layout", "rows", "best peer / fusebn, geometric mean", "lowest",
                  "PyTorch eager, geometric mean", "lowest"], body, (0, 1)) if body else ""


def bars(results):
    """A line for each bar: what, how much, whether it is met. A line without either word has no bar."""
    found = []

    def judge(what, value, bar):
        found.append(f"  {'met   ' if value >= bar else 'MISSED'}  {what}: {value:.2f}, bar >= {bar:.2f}\n")

    step = results.network_rows("resnet50", PASSES["training step"], "NCHW", 32)
    if step is not None and total_ms(step, "PyTorch") is not None:
        judge("ResNet-50, N = 32, NCHW, all batch norms of a training step, PyTorch eager / fusebn",
              total_ratio(step, "PyTorch")[1], STEP_BAR)
    lowest = []
    for layout, bar in BEST_BARS.items():
        rows = [row for row in results.rows.values()
                if row["fusebn"]["layout"] == layout and best_peer(row) is not None]
        if not rows:
            continue
        ratios = [best_ratio(row) for row in rows]
        lowest += zip(ratios, rows)
        judge(f"{layout}, best peer of each row / fusebn, geometric mean of {len(rows)}", geometric_mean(ratios), bar)
        # Apart too: inference moves each byte once, so a fused peer cannot be far from it.
        learning = [ratio for ratio, row in zip(ratios, rows) if row["fusebn"]["op"].split("+")[0] != "inference"]
        if 0 < len(learning) < len(rows):
            found.append(f"          {layout}, the same of training and backward alone, {len(learning)} rows: "
                         f"{geometric_mean(learning):.2f}\n")
        judge(f"{layout}, the lowest of them ({sum(r >= bar for r in ratios)} of {len(rows)} rows meet this bar)",
              min(ratios), bar)
    if lowest:
        ratio, row = min(lowest, key=lambda pair: pair[0])
        ours = row["fusebn"]
        below = sum(r < ROW_BAR for r, _ in lowest)
        judge(f"the lowest row, {ours['op']} {ours['layout']} {'x'.join(map(str, ours['shape']))} beside "
              f"{best_peer(row)} ({below} of {len(lowest)} rows are below)", ratio, ROW_BAR)
    return "".join(found)


def page(results):
    text = []
    for m in results.machines:
        text += [f"machine: {m['cpu']}, {m['isa']}, {m['threads']} threads, {m['rounds']} rounds\n",
                 f"peers:   {', '.join(m['versions'])}\n", *(f"missing: {line}\n" for line in m["missing"])]
    others = [row["fusebn"]["others_cpus"] for row in results.rows.values()]
    text += [f"Other processes had {statistics.median(others):.2f} CPUs while a row was timed, {max(others):.2f} at "
             "most.\n",
             "A peer's ratio is its time over fusebn's, the median of pairs (quartiles): above 1, fusebn is faster.\n",
             "A sum's is of the medians (with every row at its lower and at its upper quartile).\n",
             "Outputs of PyTorch and JAX are memory that the allocator hands out again, not fresh pages.\n\n",
             row_table(results), sums_table(results), best_table(results), bars(results)]
    return "".join(text)


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    print(page(Results(sys.argv[1:])))


if __name__ == "__main__":
    main()
