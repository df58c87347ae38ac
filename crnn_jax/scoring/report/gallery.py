"""The mistakes of a report: which of thousands are shown, and each of them as a card.

for mistake in choose(mistakes(result.rows)):
    mistake_card(mistake, number_of_its_set, thumbnail(mistake.row.path), marks)
"""

import base64
import html
import io
import itertools
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from crnn_jax.core.images import ImageSource, UnreadableImage, decode_image
from crnn_jax.scoring.confusions import RIGHT, edits, error_kind
from crnn_jax.scoring.metrics import edit_distance
from crnn_jax.scoring.result import Row

LIMIT = 300  # mistakes with a thumbnail
# Pixels: a thumbnail's height, twice that where the picture is higher than wide; the width that a
# text line is squeezed into; the strip below the picture for the characters.
HEIGHT, WIDTH, STRIP = 64, 720, 20
LONGEST = 150  # characters of a text that are shown
# Pixels of the picture, and characters, above which a card takes two columns, or all of them.
WIDE, WIDER = (330, 24), (540, 60)
STEPS = (0.5, 0.8, 0.95)  # confidences at which the colour changes


class Mistake(NamedTuple):
    """A sample that was not read right.

    Attributes:
        row: the sample.
        kind: one of `confusions.ERROR_KINDS`.
        distance: edits / length of the longer of label and text; 1 where nothing was read.
    """

    row: Row
    kind: str
    distance: float

    @property
    def confidence(self) -> float:
        """0 for a picture that could not be read: nobody was sure of anything."""
        return self.row.confidence if self.row.text is not None else 0.0


class Mark(NamedTuple):
    """One character that was read, and the columns [x0, x1) of the given picture it covers."""

    text: str
    confidence: float
    x0: float
    x1: float


class Thumbnail(NamedTuple):
    """A picture on the page.

    Attributes:
        uri: `data:image/jpeg;base64,...`.
        width, height: on the page, in CSS pixels.
        given_width: of the picture itself, in its pixels.
    """

    uri: str
    width: int
    height: int
    given_width: int


def mistakes(rows: Iterable[Row]) -> list[Mistake]:
    """All samples that were not read right, in their order."""
    wrong = ((row, kind) for row in rows if (kind := error_kind(row)) != RIGHT)
    return [Mistake(row, kind, _distance(row)) for row, kind in wrong]


def _distance(row: Row) -> float:
    if row.text is None:
        return 1.0
    return edit_distance(row.label, row.text) / max(len(row.label), len(row.text), 1)


def choose(found: Sequence[Mistake], limit: int = LIMIT) -> list[Mistake]:
    """At most `limit` of the mistakes, none twice, the most confident first.

    A third are the most confident, a third the worst, by edits; the rest comes from every kind of
    error in every set in turn, so that a filter for one of them has something to show.
    """
    surest = sorted(range(len(found)), key=lambda i: -found[i].confidence)
    # Of equally wrong ones the longer first; what could not be read has no error to look at.
    worst = sorted(
        range(len(found)),
        key=lambda i: (found[i].row.text is None, -found[i].distance, -len(found[i].row.label)),
    )
    chosen = dict.fromkeys([*surest[: limit // 3], *worst[: limit // 3]])
    strata: dict[tuple[str, str], list[int]] = {}
    for i in surest:
        if i not in chosen:
            strata.setdefault((found[i].row.set, found[i].kind), []).append(i)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*strata.values()))
    rest = [i for i in turns if i is not None]
    chosen |= dict.fromkeys(rest[: limit - len(chosen)])
    return [found[i] for i in surest if i in chosen]


def thumbnail(source: ImageSource) -> Thumbnail | None:
    """A picture small enough for hundreds of them; None where there is nothing to show."""
    try:
        picture = Image.fromarray(decode_image(source, 3))
    except UnreadableImage:
        return None
    given_width, given_height = picture.size
    height = HEIGHT * min(max(given_height / given_width, 1), 2)
    scale = min(height / given_height, WIDTH / given_width)
    size = (max(round(given_width * scale), 1), max(round(given_height * scale), 1))
    if size[0] < given_width:  # never larger than it is: the browser does that
        picture = picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    # Grey pictures, the most of them, are a third smaller without colours that say nothing.
    pixels = np.asarray(picture)
    grey = bool((pixels == pixels[..., :1]).all())
    stream = io.BytesIO()
    picture.convert("L" if grey else "RGB").save(stream, "JPEG", quality=75, optimize=True)
    encoded = base64.b64encode(stream.getvalue()).decode()
    return Thumbnail(f"data:image/jpeg;base64,{encoded}", *size, given_width)


def mistake_card(
    mistake: Mistake, number: int, thumbnail: Thumbnail | None, marks: Sequence[Mark] | None
) -> str:
    """The picture with the alignment over it, label, text and confidences, as HTML.

    Args:
        mistake: what is shown.
        number: of the card's set, for the filter: names of sets may hold anything.
        thumbnail: None where there is no picture to show.
        marks: one a character of the text; None where the alignment is not known.
    """
    row = mistake.row
    size = (0 if thumbnail is None else thumbnail.width, max(len(row.label), len(row.text or "")))
    larger = [any(a > b for a, b in zip(size, limits, strict=True)) for limits in (WIDE, WIDER)]
    wide = " wider" if larger[1] else " wide" if larger[0] else ""
    picture = '<div class="none">no picture</div>'
    if thumbnail is not None:
        picture = f'<div class="picture">{_picture(thumbnail, marks or (), row.text)}</div>'
    label, text = _label_and_text(row, marks)
    sure = "" if row.text is None else f'<span class="sure">{_percent(mistake.confidence)} %</span>'
    path = html.escape(os.path.normpath(row.path))
    return (
        f'<article class="card{wide}" data-set="{number}" data-kind="{mistake.kind}" '
        f'data-sure="{mistake.confidence:.6f}" data-worst="{mistake.distance:.4f}">'
        f'{picture}<dl><dt>label</dt><dd class="text label">{label}</dd>'
        f'<dt>read</dt><dd class="text read">{text}</dd></dl>'
        f'<p class="under"><span class="kind">{mistake.kind}</span>{sure}'
        f'<span class="path" title="{path}"><bdi>{path}</bdi></span></p></article>'
    )


def _picture(thumbnail: Thumbnail, marks: Sequence[Mark], text: str | None) -> str:
    width, height = thumbnail.width, thumbnail.height
    scale = width / thumbnail.given_width
    parts = [f'<image href="{thumbnail.uri}" width="{width}" height="{height}" ']
    parts.append('preserveAspectRatio="none"/>')
    for i, mark in enumerate(marks):
        x, wide, shown = mark.x0 * scale, (mark.x1 - mark.x0) * scale, html.escape(mark.text)
        size = f' style="font-size:{max(1.5 * wide, 5):.0f}px"' if wide < 9 else ""
        parts.append(
            f'<g data-i="{i}" class="{_colour(mark.confidence)}">'
            f"<title>{shown}: {_percent(mark.confidence)} %</title>"
            f'<rect class="span" x="{x:.1f}" width="{wide:.1f}" height="{height}"/>'
            f'<rect class="foot" x="{x:.1f}" y="{height}" width="{wide:.1f}" height="3"/>'
            f'<text x="{x + wide / 2:.1f}" y="{height + 16}" text-anchor="middle"{size}>{shown}'
            "</text></g>"
        )
    box = f'viewBox="0 0 {width} {height + STRIP}" width="{width}" height="{height + STRIP}"'
    told = html.escape(f"picture, read as {text}" if text else "picture")
    return f'<svg {box} role="img" aria-label="{told}">{"".join(parts)}</svg>'


def _label_and_text(row: Row, marks: Sequence[Mark] | None) -> tuple[str, str]:
    """Both as HTML, with what differs marked and a confidence at each character of the text."""
    if row.text is None:
        return _shortened(map(_visible, row.label)), _aside(row.reason or "")
    pairs = edits(row.label, row.text)
    label = _shortened(_visible(a) if a == b else _marked(a) for a, b in pairs if a)
    text = [_visible(b) if a == b else _marked(b) for a, b in pairs if b]
    if marks is not None:
        equal = [a == b for a, b in pairs if b]
        text = [
            f'<span class="chip {_colour(mark.confidence)}{"" if same else " off"}" data-i="{i}">'
            f"{_visible(mark.text)}<small>{min(int(100 * mark.confidence), 99)}</small></span>"
            for i, (mark, same) in enumerate(zip(marks, equal, strict=False))
        ]
    return label or _aside("empty"), _shortened(text) or _aside("nothing")


def _shortened(pieces: Iterable[str]) -> str:
    pieces = list(pieces)
    return "".join(pieces[:LONGEST]) + (" …" if len(pieces) > LONGEST else "")


def _visible(character: str) -> str:
    return "␣" if character == " " else html.escape(character)


def _marked(character: str) -> str:
    return f"<mark>{_visible(character)}</mark>"


def _aside(text: str) -> str:
    return f'<span class="say">{html.escape(text)}</span>'


def _percent(confidence: float) -> str:
    """Never 100 for what is not quite sure: a mistake least of all."""
    return ">99.9" if confidence > 0.999 else f"{100 * confidence:.1f}"


def _colour(confidence: float) -> str:
    return f"c{sum(confidence >= step for step in STEPS)}"
