"""An evaluation as one HTML file that needs nothing else: no network, no other files.

This gathers the figures; `report.html` with its CSS and script shows them. Jinja2 escapes labels,
texts and file names, and the page's own policy lets it load nothing.
"""

import base64
import collections
import hashlib
import importlib.util
import io
import itertools
import math
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import whole_file
from crnn_jax.core.images import ImageSource, UnreadableImage, decode_image
from crnn_jax.scoring import calibration, metrics, output, plots
from crnn_jax.scoring.compare import Comparison
from crnn_jax.scoring.evaluation import EvaluationResult, Row

LIMIT = 300  # mistakes with a thumbnail
MAX_BYTES = 3_500_000  # of all thumbnails: a page stays under 5 MB
HEIGHT, WIDTH = 64, 720  # pixels of a thumbnail; one higher than wide has up to twice the height
LONGEST = 150  # characters of a text that are shown
SHOWN, LISTED = 24, 15  # characters of the map of confusions, edits of each list


class Mistake(NamedTuple):
    """A misread sample; its distance is edits / length of the longer text."""

    row: Row
    kind: str
    distance: float
    confidence: float  # 0 for an image that could not be read


def page_of(path: str) -> str:
    """The file of the report that a path names, or of that in a folder; makes its folder.

    UserError where it cannot be written, or where the report's extra is not installed.
    """
    for name in ("jinja2", "matplotlib"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"--report needs {name}: pip install '.[report]'")
    file = path if path.endswith((".html", ".htm")) else os.path.join(path, "report.html")
    output.require_writable(os.path.join(os.path.dirname(file), ""))
    return file


def write_report(
    path: str,
    result: EvaluationResult,
    about: Mapping[str, str],
    chosen: Sequence[Mistake],
    characters: Mapping[tuple[str, int], Sequence[Any]],
    comparison: Comparison | None = None,
    image_of: Callable[[Row], ImageSource] = lambda row: row.path,
) -> str:
    """Writes the report; returns the file's path.

    Args:
        path: the HTML file, or a folder for `report.html`.
        about: what was evaluated, name -> value.
        chosen: the mistakes to show, of `choose`.
        characters: (set, id) -> those of a reading: text, confidence, and columns x0 to x1.
        image_of: a row's image, as `decode_image` takes it.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["sha256"] = lambda text: base64.b64encode(
        hashlib.sha256(text.encode()).digest()
    ).decode()
    name, _ = result.with_combined()[-1]
    confidences, groups = result.confidences(name), result.groups(name)
    kinds = collections.Counter(
        (row.set, metrics.error_kind(row.label, row.text)) for row in result.rows
    )
    page = environment.get_template("report.html").render(
        about=about,
        sums=output.result_cells(result),
        notes=list(output.reason_notes(result)),
        calibration=calibration.summary(*confidences),
        comparison=comparison and output.comparison_cells(comparison),
        comparison_notes=comparison and output.comparison_notes(comparison),
        reliability=plots.reliability_plot(*confidences),
        coverage=plots.coverage_plot(*confidences),
        lengths=plots.groups_plot(groups["by_length"], "characters of the label"),
        aspects="by_aspect" in groups
        and plots.groups_plot(groups["by_aspect"], "width / height of the image"),
        confusions=_confusions(result),
        kinds=metrics.ERROR_KINDS,
        right=[kinds[name, metrics.RIGHT] for name in result.sets],
        totals=[[kinds[name, kind] for kind in metrics.ERROR_KINDS] for name in result.sets],
        sets=list(result.sets),
        cards=list(_cards(chosen, characters, image_of)),
        longest=LONGEST,
    )
    file = page_of(path)
    with whole_file(file, errors="replace") as stream:
        stream.write(page)
    return file


def _confusions(result: EvaluationResult) -> dict[str, Any]:
    """The map of the most confused characters, and lists of the most frequent edits.

    All other characters share a row and a column.
    """
    counts = metrics.confusions((row.label, row.text) for row in result.rows)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    chosen: set[str] = set()
    for pair, _ in ordered:  # whole pairs, whose members meet
        if "" not in pair and len(chosen.union(pair)) <= SHOWN:
            chosen.update(pair)
    known = sorted(chosen)
    place = {character: i for i, character in enumerate(known)} | {"": len(known) + 1}
    cells: collections.Counter[tuple[int, int]] = collections.Counter()
    for (left, right), count in counts.items():
        cells[place.get(left, len(known)), place.get(right, len(known))] += count
    # The others' sum would make all cells pale, and frequencies fall off steeply: hence logarithms.
    inner = [count for pair, count in cells.items() if max(pair) < len(known)]
    most = math.log1p(max(inner or cells.values(), default=1))
    lists = []
    for heading, wanted in (
        ("Substitutions", lambda pair: "" not in pair),
        ("Missed", lambda pair: not pair[1]),
        ("Extra", lambda pair: not pair[0]),
    ):
        found = [([visible(c) for c in pair if c], n) for pair, n in ordered if wanted(pair)]
        lists.append((f"{heading} ({sum(n for _, n in found):,})", found[:LISTED]))
    return {
        "names": [*map(visible, known), "others"],
        "cells": cells,
        "shades": {at: 0.15 + 0.85 * min(math.log1p(n) / most, 1) for at, n in cells.items()},
        "characters": len({character for pair in counts for character in pair if character}),
        "lists": lists,
    }


def visible(character: str) -> str:
    """A character as what can be seen of it alone."""
    kind = unicodedata.category(character)[0]
    if character == " ":
        return "␣"
    if kind in "CZ":
        return f"U+{ord(character):04X}"
    return f"◌{character}" if kind == "M" else character  # a mark joins what is before it


def mistakes(rows: Iterable[Row]) -> Iterator[Mistake]:
    """All misread samples, in their order."""
    for row in rows:
        kind = metrics.error_kind(row.label, row.text)
        if row.text is None:
            yield Mistake(row, kind, 1.0, 0.0)
        elif kind != metrics.RIGHT:
            share = metrics.edit_distance(row.label, row.text) / max(len(row.label), len(row.text))
            yield Mistake(row, kind, share, row.confidence)


def choose(found: Iterable[Mistake], limit: int = LIMIT) -> list[Mistake]:
    """At most `limit` of the mistakes, none twice, the most confident first.

    A third are the most confident, a third the worst, by edits; the rest comes from every kind of
    error in every set in turn, so that a filter for one of them has something to show.
    """
    surest = sorted(found, key=lambda m: -m.confidence)
    # Of equally wrong ones the longer first; what could not be read has no error to look at.
    worst = sorted(surest, key=lambda m: (m.row.text is None, -m.distance, -len(m.row.label)))
    strata: dict[tuple[str, str], list[Mistake]] = {}
    for m in surest:
        strata.setdefault((m.row.set, m.kind), []).append(m)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*strata.values()))
    wanted = itertools.chain(surest[: limit // 3], worst[: limit // 3], filter(None, turns))
    return sorted(list(dict.fromkeys(wanted))[:limit], key=lambda m: -m.confidence)


def _cards(
    chosen: Iterable[Mistake],
    characters: Mapping[tuple[str, int], Sequence[Any]],
    image_of: Callable[[Row], ImageSource],
) -> Iterator[dict[str, Any]]:
    """What the page shows of each mistake."""
    size = 0
    for mistake in chosen:
        row, text = mistake.row, mistake.row.text or ""
        image = None if row.text is None else thumbnail(image_of(row))
        size += len(image["uri"]) if image is not None else 0
        if size > MAX_BYTES:
            return
        pairs = metrics.edits(row.label, text) if text else [(c, "") for c in row.label]
        read = [(b, a != b) for a, b in pairs if b]
        marks = characters.get((row.set, row.id), ())
        yield {
            "mistake": mistake,
            "path": os.path.normpath(row.path),
            "image": image,
            "label": [(a, a != b and row.text is not None) for a, b in pairs if a],
            "text": read,
            "marks": list(zip(read, marks, strict=False)),
        }


def thumbnail(source: ImageSource) -> dict[str, Any] | None:
    """An image small enough for hundreds of them; None where there is nothing to show."""
    try:
        image = Image.fromarray(decode_image(source, 3))
    except UnreadableImage:
        return None
    wide, tall = image.size
    scale = min(HEIGHT * min(max(tall / wide, 1), 2) / tall, WIDTH / wide)
    size = (max(round(wide * scale), 1), max(round(tall * scale), 1))
    if scale < 1:  # the browser enlarges
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=75, optimize=True)
    uri = f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
    return {"uri": uri, "width": size[0], "height": size[1], "scale": size[0] / wide}
