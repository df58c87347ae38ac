"""What a sweep found: a CSV file, a Markdown table, and a plot of accuracy by point."""

import csv
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from crnn_jax.core.files import whole_file
from crnn_jax.scoring import output
from crnn_jax.scoring.metrics import wilson
from crnn_jax.training.sweep_points import Changes
from crnn_jax.training.sweep_runs import Summary

Line = dict[str, Any]
# What a line tells beside the point's changes.
OWN = {"point", "accuracy", "low", "high", "cer", "count", "steps", "hours"}
ROW = 26  # pixels of height of a point in the plot
LEFT, WIDE = 330, 420  # pixels for names, and for 0 to 100 %


def collect(ended: Iterable[tuple[str, Changes, Summary | None]]) -> list[Line]:
    """One line a finished point: its changes, then the best validation; best first."""
    lines = []
    for name, changes, summary in ended:
        if summary is None:
            continue
        best = summary.get("best_validation") or {}
        line: Line = {"point": name, **changes}
        if "accuracy" in best:
            low, high = wilson(round(best["accuracy"] * best["count"]), best["count"])
            line |= {"accuracy": best["accuracy"], "low": low, "high": high}
            line |= {"cer": best["cer"], "count": best["count"]}
        lines.append(line | {"steps": summary["steps"], "hours": summary["hours"]})
    return sorted(lines, key=lambda line: (-line.get("accuracy", 0.0), line.get("cer", 0.0)))


def write(lines: Sequence[Line], folder: Path) -> list[Path]:
    """Writes results.csv, results.md and results.svg; returns their paths."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    table = folder / "results.csv"
    with whole_file(table) as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(lines)
    text, plot = folder / "results.md", folder / "results.svg"
    for path, content in ((text, "\n".join(markdown(lines)) + "\n"), (plot, svg(lines))):
        with whole_file(path) as file:
            file.write(content)
    return [table, text, plot]


def markdown(lines: Sequence[Line]) -> list[str]:
    """The table for people: what was changed, accuracy with its 95 % interval, CER, hours."""
    keys = [k for k in dict.fromkeys(k for line in lines for k in line) if k not in OWN]
    rows = [[*keys, "exact %", "CER %", "steps", "hours"]]
    for line in lines:
        cells = [_short(line.get(key, "")) for key in keys]
        if "accuracy" in line:
            right = round(line["accuracy"] * line["count"])
            cells += [output.percent_with_interval(right, line["count"])]
            cells += [output.percent(line["cer"])]
        else:
            cells += ["-", "-"]
        rows.append([*cells, str(line["steps"]), f"{line['hours']:.2f}"])
    return list(output.markdown(rows))


def _short(value: object) -> str:
    """A float by four digits: of what a search draws, the rest says nothing."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def svg(lines: Sequence[Line]) -> str:
    """Accuracy of every point with its 95 % interval, best first."""
    lines = [line for line in lines if "accuracy" in line]
    tall = ROW * len(lines) + 40
    wide = LEFT + WIDE + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall}">',
        "<style>text { font: 12px sans-serif }</style>",
        f'<rect width="{wide}" height="{tall}" fill="#fff"/>',
    ]
    for percent in range(0, 101, 20):
        x = LEFT + WIDE * percent / 100
        parts.append(f'<path d="M{x:.1f} 10V{tall - 24}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{tall - 8}" text-anchor="middle">{percent} %</text>')
    for i, line in enumerate(lines):
        y = 22 + ROW * i
        at, low, high = (LEFT + WIDE * line[k] for k in ("accuracy", "low", "high"))
        name = html.escape(line["point"] if len(line["point"]) <= 50 else line["point"][:49] + "…")
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{name}</text>')
        parts.append(f'<path d="M{low:.1f} {y}H{high:.1f}" stroke="#36c" stroke-width="2"/>')
        parts.append(f'<circle cx="{at:.1f}" cy="{y}" r="4" fill="#36c"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"
