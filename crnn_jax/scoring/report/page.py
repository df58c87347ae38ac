"""Puts a report together.

    found = choose(mistakes(result.rows))
    write_report('report', result, about, found, marks)  # report/report.html

Everything that came from a label, a text or a file's name is escaped, and the page's own policy
lets it load nothing and run its one script only.
"""

import base64
import hashlib
import html
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import resources

from crnn_jax.core.errors import UserError
from crnn_jax.core.images import ImageSource
from crnn_jax.core.whole_file import whole_file
from crnn_jax.scoring.comparison import Comparison
from crnn_jax.scoring.report.cards import Mark, card
from crnn_jax.scoring.report.choice import Mistake
from crnn_jax.scoring.report.gallery import gallery
from crnn_jax.scoring.report.sections import comparison_section, confusions, plots, summary
from crnn_jax.scoring.report.thumbnail import thumbnail
from crnn_jax.scoring.result import EvaluationResult
from crnn_jax.scoring.row import Row

NAME = "report.html"
MAX_BYTES = 3_500_000  # of all cards: a page for 5,000 samples stays under 5 MB whatever they are
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
        chosen: the mistakes to show, of `choice.choose`.
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
        made = card(mistake, numbers[row.set], small, marks.get((row.set, row.id)))
        size += len(made.encode(errors="replace"))
        if size > MAX_BYTES:
            break
        cards.append(made)
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
    sections = [
        summary(result),
        comparison_section(comparison),
        plots(result),
        confusions(result.rows),
        gallery(result, cards),
    ]
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
{"".join(sections)}
</main>
<script>{script}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
