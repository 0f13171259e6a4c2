"""The rows of peers.py as a table, as JSON lines, and against the bar."""

import dataclasses
import statistics

from peer_timing import paired_ratio, quartiles

PEERS = ["PyTorch", "torch.compile", "JAX"]


@dataclasses.dataclass
class Row:
    case: object
    contenders: list

    def find(self, name):
        return next((c for c in self.contenders if c.name == name), None)

    def milliseconds(self, name):
        return 1e3 * statistics.median(self.find(name).seconds)

    def ratio(self, name):
        """The peer's time over fusebn's: low, median, high."""
        return paired_ratio(self.find(name), self.find("fusebn"))

    def best_peer(self):
        there = [name for name in PEERS if self.find(name) is not None]
        return min(there, key=self.milliseconds, default=None)

    def shape(self):
        return "x".join(map(str, self.case.shape))


def cpu_name():
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "unknown CPU"


def with_quartiles(ratio):
    low, median, high = ratio
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


def markdown(machine, rows):
    head = ["operation", "layout", "shape", "fusebn ms"]
    for peer in PEERS:
        head += [f"{peer} ms", "ratio"]
    head.append("JAX's form")
    table = [head]
    for row in rows:
        cells = [row.case.name, row.case.layout, row.shape()]
        cells.append(f"{row.milliseconds('fusebn'):.3f}" if row.find("fusebn") else "-")
        for peer in PEERS:
            there = row.find(peer) is not None and row.find("fusebn") is not None
            cells += [f"{row.milliseconds(peer):.3f}", with_quartiles(row.ratio(peer))] if there else ["-", "-"]
        jax = row.find("JAX")
        cells.append(jax.detail if jax is not None else "-")
        table.append(cells)
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    words = (0, 1, 2, len(head) - 1)  # columns of words are left-aligned, columns of numbers right-aligned
    text = [f"machine: {machine['cpu']}, {machine['isa']}, {machine['threads']} threads, {machine['rounds']} rounds",
            f"peers:   {', '.join(machine['versions'])}", *(f"missing: {line}" for line in machine["missing"]),
            "A peer's ratio is its time over fusebn's, the median of pairs (quartiles): above 1, fusebn is faster.",
            "Outputs of PyTorch and JAX are memory that the allocator hands out again, not fresh pages.", ""]
    for number, line in enumerate(table):
        cells = [c.ljust(w) if i in words else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))]
        text.append("| " + " | ".join(cells) + " |")
        if number == 0:
            text.append("|" + "|".join("-" * (w + 1) + ("-" if i in words else ":")
                                       for i, w in enumerate(widths)) + "|")
    return "\n".join(text) + "\n\n"


def summary(rows, bar):
    lines, met, count = [], 0, 0
    for row in rows:
        if row.case.name != "train_forward+add+relu" or row.find("fusebn") is None:
            continue
        peer = row.best_peer()
        if peer is None:
            continue
        ratio = row.ratio(peer)
        count += 1
        met += ratio[1] >= bar
        lines.append(f"      {row.case.layout} {row.shape():<15} {peer:<14} {with_quartiles(ratio)}"
                     + ("" if ratio[1] >= bar else "  MISSED"))
    if not lines:
        return ""
    head = (f"  train_forward+add+relu, time of the best of PyTorch and JAX / fusebn, bar >= {bar:.2f}: "
            f"{met} of {count} rows meet it")
    return "\n".join([head, *lines]) + "\n"


def lines(machine, rows):
    """A line for the machine, then one for every row and contender. Ratios are medians over pairs of turns;
    faults_per_call counts fresh pages."""
    yield {"machine": machine}
    for row in rows:
        for contender in row.contenders:
            low, median, high = quartiles([1e3 * s for s in contender.seconds])
            line = {"op": row.case.name, "layout": row.case.layout, "dtype": "f32", "shape": list(row.case.shape),
                    "contender": contender.name, "form": contender.detail, "median_ms": median,
                    "quartiles_ms": [low, high], "calls_per_turn": contender.calls,
                    "faults_per_call": round(contender.faults, 2)}
            if row.find("fusebn") is not None:
                low, median, high = row.ratio(contender.name)
                line |= {"ratio_to_fusebn": median, "ratio_quartiles": [low, high]}
            yield line
