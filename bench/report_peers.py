"""The section of report.py's page about the libraries that scripts/peers.sh measures."""

import html

import peer_report
from report_parts import BLUE, GREEN, GREY, ORANGE, RED, embedded, geometric_mean, number, pyplot, save, table

STEP = peer_report.PASSES["training step"]
COLOURS = {"PyTorch": ORANGE, "torch.compile": "#8a6fb0", "JAX": GREEN, "ONNX Runtime": "#8fb4d9", "OpenVINO": GREY}
OPERATIONS = {"train_forward": "training", "backward": "backward", "inference": "inference"}
METHOD = """Every contender's results were compared with fusebn's before anything was timed. Contenders take turns in
one process; a row's ratio is the median of paired turns (quartiles), a sum's is of the medians. Branches that meet are
two batch norms, an addition and an activation elsewhere, one kernel here."""


def draw(results, path):
    steps = [key for key in results.networks() if results.network_rows(key[0], STEP, *key[1:])]
    groups = [(op, layout) for layout in peer_report.BEST_BARS for op in OPERATIONS if best_ratios(results, op, layout)]
    if not groups:
        return False
    figure, all_axes = pyplot.subplots(1, 2 if steps else 1, figsize=(12 if steps else 7, 4), squeeze=False)
    if steps:
        draw_steps(results, steps, all_axes[0][0])
    axes = all_axes[0][-1]
    for at, (op, layout) in enumerate(groups):
        ratios = sorted(best_ratios(results, op, layout))
        spread = [at + 0.44 * (i / max(1, len(ratios) - 1) - 0.5) for i in range(len(ratios))]
        axes.plot(spread, ratios, "o", color=BLUE, markersize=4, alpha=0.8, label="a row" if at == 0 else None)
        mean = geometric_mean(ratios)
        axes.plot([at - 0.32, at + 0.32], [mean, mean], color=ORANGE, linewidth=2.2,
                  label="geometric mean" if at == 0 else None)
        axes.text(at + 0.36, mean, f"{mean:.2f}", fontsize=8.5, va="center")
    axes.axhline(1, color=RED, linewidth=0.9)
    axes.set_yscale("log")
    ticks = [t for t in (0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 10, 20) if axes.get_ylim()[0] <= t <= axes.get_ylim()[1]]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_xlim(-0.6, len(groups) - 0.2)
    axes.set_xticks(range(len(groups)), [f"{OPERATIONS[op]}\n{layout}" for op, layout in groups], fontsize=8.5)
    axes.set_title("Times as fast as the best of the others, each row", fontsize=10.5)
    axes.legend(frameon=False, fontsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)
    return True


def draw_steps(results, steps, axes):
    """Bars of what all batch norms of a training step take."""
    ticks, at = [], 0
    for key in reversed(steps):
        rows = results.network_rows(key[0], STEP, *key[1:])
        totals = {name: peer_report.total_ms(rows, name) for name in ["fusebn", *peer_report.PEERS]}
        present = [(name, total) for name, total in totals.items() if total is not None]
        first = at
        for name, total in reversed(present):
            axes.barh(at, total, 0.8, color=BLUE if name == "fusebn" else COLOURS[name])
            ratio = "" if name == "fusebn" else f", {total / totals['fusebn']:.2f} times"
            axes.text(total, at, f" {name} {total:.0f} ms{ratio}", fontsize=8.5, va="center")
            at += 1
        ticks.append(((first + at - 1) / 2, f"{key[0]}\n{key[1]}, N = {key[2]}"))
        at += 0.6
    axes.set_yticks([y for y, _ in ticks], [text for _, text in ticks], fontsize=9)
    axes.set_xlim(0, 1.7 * axes.get_xlim()[1])
    axes.set_xlabel("ms")
    axes.set_title("All batch norms of a training step, forward and backward", fontsize=10.5)
    axes.spines[["top", "right"]].set_visible(False)


def best_ratios(results, op, layout):
    return [peer_report.best_ratio(row) for row in results.rows.values()
            if row["fusebn"]["op"].split("+")[0] == op and row["fusebn"]["layout"] == layout
            and peer_report.best_peer(row) is not None]


def cell(line):
    if line is None:
        return "<td>-</td>"
    low, high = line["ratio_quartiles"]
    ratio = line["ratio_to_fusebn"]
    return f"<td{' class=low' if ratio < 1 else ''}>{ratio:.2f} <span class=dim>({low:.2f}-{high:.2f})</span></td>"


def sums_table(results):
    peers, rows = peer_report.there(results), []
    for name, layout, batch in results.networks():
        for title, ops in peer_report.PASSES.items():
            found = results.network_rows(name, ops, layout, batch)
            if found is None:
                continue
            cells = [f"<td>{name}, {layout}, N = {batch}, {title}</td>", f"<td>{sum(calls for calls, _ in found)}</td>",
                     number(peer_report.total_ms(found, "fusebn"), digits=1)]
            for peer in peers:
                known = peer_report.total_ms(found, peer) is not None
                cells.append(number(peer_report.total_ratio(found, peer)[1] if known else None, 1))
            rows.append(cells)
    return table(["all batch norms of", "calls", "fusebn, ms"] + [f"{peer} / fusebn" for peer in peers], rows)


def section(paths, folder):
    results = peer_report.Results(paths)
    machine = results.machines[0]
    text = [f"<h2>Beside other libraries: {html.escape(machine['cpu'])}, {machine['isa']}, {machine['threads']} "
            f"threads</h2><p>{METHOD}</p><p class=dim>{html.escape(', '.join(machine['versions']))}; "
            f"{machine['rounds']} rounds</p>"]
    if draw(results, folder / "peers.png"):
        text.append(embedded(folder / "peers.png", "Whole networks, and each row, beside other libraries"))
    text.append(sums_table(results))
    text.append(f"<pre>{html.escape(peer_report.bars(results))}</pre>")
    peers, rows = peer_report.there(results), []
    for row in results.rows.values():
        ours = row["fusebn"]
        title = f"{ours['op']}, {ours['layout']}, {'x'.join(map(str, ours['shape']))}"
        rows.append([f"<td>{title}</td>", number(ours["median_ms"], digits=3)] + [cell(row.get(p)) for p in peers])
    rows_table = table(["operation", "fusebn, ms"] + [f"{peer} / fusebn" for peer in peers], rows)
    text.append(f"<details><summary>All {len(rows)} rows</summary>{rows_table}</details>")
    return "\n".join(text)
