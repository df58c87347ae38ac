"""Puts a report together.

    found = choose(mistakes(result.rows))
    write_report('report', result, about, found, marks)  # report/report.html

Everything that came from a label, a text or a file's name is escaped, and the page's own policy
lets it load nothing and run its one script only.
"""

import base64
import collections
import hashlib
import html
import json
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import whole_file
from crnn_jax.core.images import ImageSource
from crnn_jax.scoring import calibration, output
from crnn_jax.scoring.compare import Comparison
from crnn_jax.scoring.confusions import ERROR_KINDS, RIGHT, confusions, error_kind
from crnn_jax.scoring.metrics import SHARES, wilson
from crnn_jax.scoring.report import plots
from crnn_jax.scoring.report.gallery import Mark, Mistake, mistake_card, thumbnail
from crnn_jax.scoring.result import EvaluationResult, Row

NAME = "report.html"
MAX_BYTES = 3_500_000  # of all cards: a page for 5,000 samples stays under 5 MB whatever they are
LEGEND = (("c3", "95 % and more"), ("c2", "80 to 95"), ("c1", "50 to 80"), ("c0", "under 50"))
CALIBRATION_CAPTION = """On the dashed line confidence is the share that is right. Bars: how many \
samples (square root)."""
THRESHOLD_CAPTION = "Of the surest share of all samples, how many are right."
LENGTH_CAPTION = "Exact accuracy with its 95 % interval; below, how many samples."
ASPECT_CAPTION = "The same by the picture's aspect ratio."
GROUP_PLOTS = (
    ("by_length", "By label length", "characters of the label", LENGTH_CAPTION),
    ("by_aspect", "By shape", "width / height of the picture", ASPECT_CAPTION),
)
Marks = Mapping[tuple[str, int], Sequence[Mark]]
PictureOf = Callable[[Row], ImageSource]


def report_file(path: str) -> str:
    """The file that a `--report` path means: itself, or `report.html` in that folder."""
    return path if path.endswith((".html", ".htm")) else os.path.join(path, NAME)


def write_report(
    path: str,
    result: EvaluationResult,
    about: Mapping[str, str],
    chosen: Sequence[Mistake],
    marks: Marks,
    comparison: Comparison | None = None,
    picture_of: PictureOf = operator.attrgetter("path"),
) -> str:
    """Writes the report.

    Args:
        path: a folder, or the HTML file itself.
        result: what was read.
        about: what was evaluated, name -> value.
        chosen: the mistakes to show, of `gallery.choose`.
        marks: (set, id) -> the characters of a reading and where they stand.
        comparison: with a second model.
        picture_of: a row's picture, as `decode_image` takes it.

    Returns:
        The file's path.

    Raises:
        UserError: it cannot be written.
    """
    file = report_file(path)
    content = page(result, about, chosen, marks, comparison, picture_of)
    try:
        os.makedirs(os.path.dirname(file) or ".", exist_ok=True)
    except OSError as error:
        raise UserError(f"{file}: cannot be written: {error.strerror}") from error
    with whole_file(file, errors="replace") as stream:
        stream.write(content)
    return file


def page(
    result: EvaluationResult,
    about: Mapping[str, str],
    chosen: Sequence[Mistake],
    marks: Marks,
    comparison: Comparison | None = None,
    picture_of: PictureOf = operator.attrgetter("path"),
) -> str:
    """The report as HTML; arguments as of `write_report`."""
    numbers = {name: i for i, name in enumerate(result.sets)}
    cards: list[str] = []
    size = 0
    for mistake in chosen:
        row = mistake.row
        small = None if row.text is None else thumbnail(picture_of(row))
        card = mistake_card(mistake, numbers[row.set], small, marks.get((row.set, row.id)))
        size += len(card.encode(errors="replace"))
        if size > MAX_BYTES:
            break
        cards.append(card)
    style, script = _asset("report.css"), _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    facts = "".join(
        f"<span>{html.escape(name)} <b>{html.escape(value)}</b></span>"
        for name, value in about.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Evaluation report</title>
<style>{style}</style>
</head>
<body>
<header><h1>Evaluation report</h1><p class="facts">{facts}</p></header>
<main>
{_summary(result)}{"" if comparison is None else _comparison(comparison)}{_plots(result)}\
{_confusions(result)}{_mistakes(result, cards)}
</main>
<script>{script}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _summary(result: EvaluationResult) -> str:
    """The figures of all sets together, large, and the table of the sets."""
    name, sums = result.with_combined()[-1]
    metrics = sums.metrics()
    tiles = []
    for metric, (right, of, heading) in SHARES.items():
        if metric in metrics:
            low, high = wilson(getattr(sums, right), getattr(sums, of))
            interval = f"{100 * low:.1f} to {100 * high:.1f}, 95 %"
            tiles.append((heading, output.percent(metrics[metric]), interval))
    if "cer" in metrics:
        edits = f"{sums.edits:,} edits, {sums.characters:,} characters"
        tiles.append(("character errors (CER)", output.percent(metrics["cer"]), edits))
    if "ned" in metrics:
        tiles.append(("1-NED", output.percent(metrics["ned"]), "mean similarity"))
    if told := calibration.summary(*result.confidences(name)):
        kept = f"{100 * told['coverage_at_99']:.1f} % can be kept at 99 % right"
        tiles.append(("confidence is off by", f"{100 * told['calibration_error']:.1f}", kept))
    shown = "".join(
        f'<div class="tile"><span>{heading}</span><b>{value}<i>%</i></b>'
        f"<small>{below}</small></div>"
        for heading, value, below in tiles
    )
    return (
        f'<section id="summary"><div class="tiles">{shown}</div>'
        f"{_table(output.result_cells(result, mean=True), intervals=True)}"
        f'<p class="note">Percent, with Wilson 95 % intervals; every sample counts, pictures that '
        f"cannot be read as wrong.</p>{_list(output.reason_notes(result))}</section>"
    )


def _comparison(comparison: Comparison) -> str:
    """The table of two models."""
    return (
        f'<section id="comparison"><h2>A and B on the same samples</h2>'
        f"{_table(output.comparison_cells(comparison))}"
        f"<p class=\"note\">Interval of the difference: Newcombe's for pairs; p: McNemar's exact "
        f"test, the chance of so uneven a split between equals.</p>"
        f"{_list(output.comparison_notes(comparison))}</section>"
    )


def _plots(result: EvaluationResult) -> str:
    """Confidence and accuracy, by length and by shape."""
    name = result.with_combined()[-1][0]
    confidences = result.confidences(name)
    groups = result.groups(name)
    figures = [
        ("Calibration", plots.reliability_plot(*confidences), CALIBRATION_CAPTION),
        ("What a threshold leaves", plots.coverage_plot(*confidences), THRESHOLD_CAPTION),
    ]
    for key, title, what, caption in GROUP_PLOTS:
        if key in groups:
            figures.append((title, plots.groups_plot(groups[key], what), caption))
    shown = "".join(
        f"<figure><h3>{title}</h3>{drawn}<figcaption>{caption}</figcaption></figure>"
        for title, drawn, caption in figures
    )
    head = '<section id="plots"><h2>Where it reads well</h2>'
    return f'{head}<div class="plots">{shown}</div></section>'


def _confusions(result: EvaluationResult) -> str:
    """The heat map and the lists of the most frequent edits."""
    head = '<section id="confusions"><h2>Characters</h2>'
    counts = confusions(result.rows)
    if not counts:
        return f"{head}<p>No character was read wrong.</p></section>"
    lists = []
    for heading, lines in plots.edit_lists(counts):
        most = max((count for _, count in lines), default=1)
        items = "".join(
            f'<tr><td>{edit}</td><td class="bar"><meter max="{most}" value="{count}"></meter></td>'
            f"<td>{count:,}</td></tr>"
            for edit, count in lines
        )
        lists.append(f'<table class="edits"><caption>{heading}</caption>{items}</table>')
    characters = {character for pair in counts for character in pair if character}
    return (
        f'{head}<div class="confusions"><figure><div class="scroll">{plots.heat_map(counts)}</div>'
        f"<figcaption>Rows: what stands there; columns: what was read. The characters of the most "
        f"frequent substitutions, of {len(characters):,} that were ever read wrong.</figcaption>"
        f'</figure><div class="lists">{"".join(lists)}</div></div></section>'
    )


def _mistakes(result: EvaluationResult, cards: Sequence[str]) -> str:
    """How many mistakes of each kind there are in each set, the filters, and the cards shown."""
    head = '<section id="mistakes"><h2>Mistakes</h2>'
    names = list(result.sets)
    counts = collections.Counter((row.set, error_kind(row)) for row in result.rows)
    totals = [[counts[name, kind] for kind in ERROR_KINDS] for name in names]
    wrong = sum(map(sum, totals))
    if not wrong:
        return f"{head}<p>Everything was read right.</p></section>"
    lines = [["set", "right", *ERROR_KINDS]]
    for name, own in zip(names, totals, strict=True):
        lines.append([name, *(f"{count:,}" for count in (counts[name, RIGHT], *own))])
    # The script's own: totals behind "12 of 345".
    data = html.escape(json.dumps({"kinds": ERROR_KINDS, "totals": totals}))
    sets = "".join(f'<option value="{i}">{html.escape(name)}' for i, name in enumerate(names))
    kinds = "".join(
        f'<option value="{kind}">{kind} ({sum(own):,})'
        for kind, *own in zip(ERROR_KINDS, *totals, strict=True)
    )
    legend = "".join(f'<span class="{step}"><i></i>{text}</span>' for step, text in LEGEND)
    return f"""{head}
{_table(lines)}
<p class="note">{len(cards):,} of {wrong:,} mistakes are shown below: the most confident, the worst,
and some of every kind in every set.</p>
<div class="filters" data-counts="{data}">
<span class="switch"><button type="button" data-order="sure" aria-pressed="true">Most confident\
</button><button type="button" data-order="worst" aria-pressed="false">Worst</button></span>
<label>set <select id="set"><option value="">all{sets}</select></label>
<label>kind <select id="kind"><option value="">all{kinds}</select></label>
<label>text <input id="find" type="search" placeholder="in label or reading"></label>
<output></output></div>
<p class="legend">confidence of a character, in percent: {legend}</p>
<div class="cards">{"".join(cards)}</div></section>"""


def _table(lines: Sequence[Sequence[str]], *, intervals: bool = False) -> str:
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


def _list(notes: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(note)}</li>' for note in notes)}</ul>"
