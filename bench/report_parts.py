"""What the sections of report.py's page share: colours, tables, figures."""

import base64
import math

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot, ticker  # noqa: E402

BLUE, ORANGE, GREEN, GREY, RED = "#2f6fb0", "#d98c2b", "#4c9a5b", "#9aa5b1", "#c0504d"
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1150px; margin: 2em auto; padding: 0 1em; color: #1c2733 }
table { border-collapse: collapse; font-size: 13px; margin: .6em 0 }
th, td { text-align: right; padding: .2em .7em; border-bottom: 1px solid #dde3ea; font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left } img { max-width: 100% } .dim { color: #6b7785 } h1 { font-size: 24px }
.low { color: #b03a2e; font-weight: 600 }
"""


def geometric_mean(values):
    return math.exp(sum(math.log(v) for v in values) / len(values)) if values else float("nan")


def save(figure, path):
    figure.savefig(path, dpi=110, bbox_inches="tight")
    pyplot.close(figure)


def embedded(path, title):
    """A figure as a part of the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    return f"<h3>{title}</h3><img alt='{title}' src='data:image/png;base64,{data}'>"


def number(value, bar=None, digits=2):
    if value is None or value != value:
        return "<td>-</td>"
    return f"<td{' class=low' if bar is not None and value < bar else ''}>{value:.{digits}f}</td>"


def table(head, rows):
    return ("<table><tr>" + "".join(f"<th>{h}</th>" for h in head) + "</tr>" +
            "".join("<tr>" + "".join(r) + "</tr>" for r in rows) + "</table>")
