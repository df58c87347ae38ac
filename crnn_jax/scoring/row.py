"""One sample of an evaluation, and how it is written as a cell or an object."""

import math
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One sample.

    Attributes:
        id: its number in the source.
        path: what a person finds it by.
        set: name of the file or source it belongs to.
        label: what stands in the picture.
        text: what was read; None if the picture could not be read.
        confidence: p(text | picture), NaN if the picture could not be read.
        reason: why it could not be read; None where it could.
    """

    id: int
    path: str
    set: str
    label: str
    text: str | None
    confidence: float
    reason: str | None = None

    @property
    def right(self) -> bool:
        """The text is the label, exactly."""
        return self.text == self.label

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, `COLUMNS`; confidence is null where there is none."""
        known = None if math.isnan(self.confidence) else self.confidence
        return self._asdict() | {"confidence": known, "right": self.right}


COLUMNS = (*Row._fields, "right")
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_MEANINGS = {escape[1]: character for character, escape in _ESCAPES.items()}


def to_cell(value: Any) -> str:
    """A value of one cell: no TAB and no line end may stay in it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "".join(_ESCAPES.get(c, c) for c in str(value))


def from_cell(cell: str) -> str:
    """The text that `to_cell` made the cell of.

    Raises:
        ValueError: a backslash that it writes in no such way.
    """
    if "\\" not in cell:
        return cell
    text, pieces = [], iter(cell)
    for c in pieces:
        meaning = _MEANINGS.get(next(pieces, "")) if c == "\\" else c
        if meaning is None:
            raise ValueError(f"{cell!r}: want \\\\, \\t, \\n or \\r")
        text.append(meaning)
    return "".join(text)
