"""The parts of a report above its gallery."""

import html
from collections.abc import Iterable, Sequence

from crnn_jax.scoring.calibration import summary as calibration_summary
from crnn_jax.scoring.comparison import Comparison
from crnn_jax.scoring.confusions import confusions as count_confusions
from crnn_jax.scoring.intervals import wilson
from crnn_jax.scoring.metrics import SHARES
from crnn_jax.scoring.report.heatmap import edit_lists, heat_map
from crnn_jax.scoring.report.plots import coverage_plot, groups_plot, reliability_plot
from crnn_jax.scoring.result import EvaluationResult
from crnn_jax.scoring.row import Row


def summary(result: EvaluationResult) -> str:
    """The figures of all sets together, large, and the table of the sets."""
    name, sums = result.with_combined()[-1]
    metrics = sums.metrics()
    tiles = []
    for metric, (right, of, heading) in SHARES.items():
        if metric in metrics:
            low, high = wilson(getattr(sums, right), getattr(sums, of))
            below = f"{100 * low:.1f} to {100 * high:.1f}, 95 %"
            tiles.append(_tile(heading, f"{100 * metrics[metric]:.2f}", below))
    for metric, heading in (("cer", "character errors (CER)"), ("ned", "1-NED")):
        if metric in metrics:
            below = f"{sums.edits:,} edits, {sums.characters:,} characters"
            shown = f"{100 * metrics[metric]:.2f}"
            tiles.append(_tile(heading, shown, below if metric == "cer" else "mean similarity"))
    told = calibration_summary(*result.confidences(name))
    if told:
        below = f"{100 * told['coverage_at_99']:.1f} % can be kept at 99 % right"
        off = f"{100 * told['calibration_error']:.1f}"
        tiles.append(_tile("confidence is off by", off, below))
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in result.reason_notes())
    return (
        f'<section id="summary"><div class="tiles">{"".join(tiles)}</div>'
        f"{table(list(result.cells(mean=True)), intervals=True)}"
        f'<p class="note">Percent, with Wilson 95 % intervals; every sample counts, pictures that '
        f"cannot be read as wrong.</p><ul>{notes}</ul></section>"
    )


def comparison_section(comparison: Comparison | None) -> str:
    """The table of two models; '' where there is one."""
    if comparison is None:
        return ""
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in comparison.notes())
    return (
        f'<section id="comparison"><h2>A and B on the same samples</h2>'
        f"{table(list(comparison.cells()))}"
        f"<p class=\"note\">Interval of the difference: Newcombe's for pairs; p: McNemar's exact "
        f"test, the chance of so uneven a split between equals.</p><ul>{notes}</ul></section>"
    )


def plots(result: EvaluationResult) -> str:
    """Confidence and accuracy, by length and by shape."""
    name = result.with_combined()[-1][0]
    confidence, right = result.confidences(name)
    groups = result.groups(name)
    figures = [
        _figure(
            "Calibration",
            reliability_plot(confidence, right),
            "On the dashed line confidence is the share that is right. Bars: how many samples "
            "(square root).",
        ),
        _figure(
            "What a threshold leaves",
            coverage_plot(confidence, right),
            "Of the surest share of all samples, how many are right.",
        ),
        _figure(
            "By label length",
            groups_plot(groups["by_length"], "characters of the label"),
            "Exact accuracy with its 95 % interval; below, how many samples.",
        ),
    ]
    if "by_aspect" in groups:
        drawn = groups_plot(groups["by_aspect"], "width / height of the picture")
        figures.append(_figure("By shape", drawn, "The same by the picture's aspect ratio."))
    drawn = f'<div class="plots">{"".join(figures)}</div>'
    return f'<section id="plots"><h2>Where it reads well</h2>{drawn}</section>'


def confusions(rows: Iterable[Row]) -> str:
    """The heat map and the lists of the most frequent edits."""
    counts = count_confusions(rows)
    if not counts:
        return _nothing("confusions", "Characters", "No character was read wrong.")
    lists = []
    for heading, lines in edit_lists(counts):
        most = max((count for _, count in lines), default=1)
        items = "".join(
            f'<tr><td>{edit}</td><td class="bar"><meter max="{most}" value="{count}"></meter></td>'
            f"<td>{count:,}</td></tr>"
            for edit, count in lines
        )
        lists.append(f'<table class="edits"><caption>{heading}</caption>{items}</table>')
    characters = {character for pair in counts for character in pair if character}
    return (
        f'<section id="confusions"><h2>Characters</h2><div class="confusions">'
        f'<figure><div class="scroll">{heat_map(counts)}</div><figcaption>Rows: what stands there; '
        f"columns: what was read. The characters of the most frequent substitutions, of "
        f"{len(characters):,} that were ever read wrong.</figcaption></figure>"
        f'<div class="lists">{"".join(lists)}</div></div></section>'
    )


def table(lines: Sequence[Sequence[str]], *, intervals: bool = False) -> str:
    """Cells as an HTML table, headings first; with `intervals`, `99 (98-100)` in two lines."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in lines[0])
    body = []
    for line in lines[1:]:
        cells = [f'<th scope="row">{html.escape(line[0])}</th>']
        for cell in line[1:]:
            value, bracket, rest = html.escape(cell).partition(" (")
            beside = f" <small>{rest.rstrip(')')}</small>" if bracket and intervals else ""
            cells.append(f"<td>{value}{beside}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table class="sums"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _tile(heading: str, value: str, below: str) -> str:
    large = f"<b>{value}<i>%</i></b>"
    return f'<div class="tile"><span>{heading}</span>{large}<small>{below}</small></div>'


def _nothing(name: str, title: str, told: str) -> str:
    return f'<section id="{name}"><h2>{title}</h2><p>{told}</p></section>'


def _figure(title: str, drawn: str, caption: str) -> str:
    return f"<figure><h3>{title}</h3>{drawn}<figcaption>{caption}</figcaption></figure>"
