"""A mistake as a card: the picture with the alignment over it, label, text, confidences."""

import html
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from crnn_jax.scoring.confusions import edits
from crnn_jax.scoring.report.choice import Mistake
from crnn_jax.scoring.report.thumbnail import Thumbnail

STRIP = 20  # pixels below the picture, for the characters
LONGEST = 150  # characters of a text that are shown
# Pixels of the picture, and characters, above which a card takes two columns, or all of them.
WIDE, WIDER = (330, 24), (540, 60)
STEPS = (0.5, 0.8, 0.95)  # confidences at which the colour changes


class Mark(NamedTuple):
    """One character that was read, and the columns [x0, x1) of the given picture it covers."""

    text: str
    confidence: float
    x0: float
    x1: float


def card(
    mistake: Mistake, number: int, thumbnail: Thumbnail | None, marks: Sequence[Mark] | None
) -> str:
    """The card as HTML.

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
    head = (
        f'<article class="card{wide}" data-set="{number}" data-kind="{mistake.kind}" '
        f'data-sure="{mistake.confidence:.6f}" data-worst="{mistake.distance:.4f}">'
    )
    picture = '<div class="none">no picture</div>'
    if thumbnail is not None:
        picture = f'<div class="picture">{_picture(thumbnail, marks or (), row.text)}</div>'
    label, text = _texts(mistake, marks)
    sure = "" if row.text is None else f'<span class="sure">{_percent(mistake.confidence)} %</span>'
    path = html.escape(os.path.normpath(row.path))
    return (
        f'{head}{picture}<dl><dt>label</dt><dd class="text label">{label}</dd>'
        f'<dt>read</dt><dd class="text read">{text}</dd></dl>'
        f'<p class="under"><span class="kind">{mistake.kind}</span>{sure}'
        f'<span class="path" title="{path}"><bdi>{path}</bdi></span></p></article>'
    )


def _percent(confidence: float) -> str:
    """Never 100 for what is not quite sure: a mistake least of all."""
    if confidence > 0.999:
        return ">99.9"
    return f"{100 * confidence:.1f}"


def _picture(thumbnail: Thumbnail, marks: Sequence[Mark], text: str | None) -> str:
    width, height = thumbnail.width, thumbnail.height
    scale = width / thumbnail.given_width
    parts = [f'<image href="{thumbnail.uri}" width="{width}" height="{height}" ']
    parts.append('preserveAspectRatio="none"/>')
    for i, mark in enumerate(marks):
        x, wide = mark.x0 * scale, (mark.x1 - mark.x0) * scale
        told = f"{html.escape(mark.text)}: {_percent(mark.confidence)} %"
        shape = f'x="{x:.1f}" width="{wide:.1f}" height="{height}"'
        parts.append(f'<g data-i="{i}" class="{_step(mark.confidence)}"><title>{told}</title>')
        parts.append(f'<rect class="span" {shape}/>')
        parts.append(f'<rect class="foot" x="{x:.1f}" y="{height}" width="{wide:.1f}" height="3"/>')
        size = f' style="font-size:{max(1.5 * wide, 5):.0f}px"' if wide < 9 else ""
        at = f'x="{x + wide / 2:.1f}" y="{height + 16}"'
        parts.append(f'<text {at} text-anchor="middle"{size}>{html.escape(mark.text)}</text></g>')
    box = f'viewBox="0 0 {width} {height + STRIP}" width="{width}" height="{height + STRIP}"'
    told = html.escape(f"picture, read as {text}" if text else "picture")
    return f'<svg {box} role="img" aria-label="{told}">{"".join(parts)}</svg>'


def _texts(mistake: Mistake, marks: Sequence[Mark] | None) -> tuple[str, str]:
    """Label and text as HTML, with what differs marked and a confidence at each character."""
    row = mistake.row
    if row.text is None:
        return _plain(row.label), f'<span class="say">{html.escape(row.reason or "")}</span>'
    pairs = edits(row.label, row.text)
    label = [_marked(a, a == b) for a, b in pairs if a]
    equal = [a == b for a, b in pairs if b]
    if marks is None:
        text = [_marked(b, a == b) for a, b in pairs if b]
    else:
        text = list(_chips(marks, equal))
    said = "".join(_shortened(text)) or '<span class="say">nothing</span>'
    return "".join(_shortened(label)) or '<span class="say">empty</span>', said


def _chips(marks: Sequence[Mark], equal: Sequence[bool]) -> Iterator[str]:
    for i, (mark, same) in enumerate(zip(marks, equal, strict=False)):
        style = _step(mark.confidence) + ("" if same else " off")
        sure = min(int(100 * mark.confidence), 99)
        inside = f"{_visible(mark.text)}<small>{sure}</small>"
        yield f'<span class="chip {style}" data-i="{i}">{inside}</span>'


def _marked(character: str, same: bool) -> str:
    return _visible(character) if same else f"<mark>{_visible(character)}</mark>"


def _visible(character: str) -> str:
    return "␣" if character == " " else html.escape(character)


def _plain(text: str) -> str:
    return "".join(_shortened([_visible(character) for character in text]))


def _shortened(pieces: list[str]) -> list[str]:
    return pieces if len(pieces) <= LONGEST else [*pieces[:LONGEST], " …"]


def _step(confidence: float) -> str:
    return f"c{sum(confidence >= step for step in STEPS)}"
