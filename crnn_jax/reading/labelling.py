"""Readings as an annotation file: labels to be looked through instead of typed.

labels = Labels('words/labels.tsv', min_confidence=0.95)
labels.add(path, reading)  # of every image: a Reading, or the error in its place
labels.write()
print(labels)  # words/labels.tsv: 950 of 1000; left out: 48 below 0.95, 2 read as nothing
"""

import collections
import contextlib
import os

from crnn_jax.core.charset import REPLACEMENT
from crnn_jax.core.errors import UserError
from crnn_jax.core.files import whole_file
from crnn_jax.data.annotations import parse_tsv
from crnn_jax.reading.recognizer import Reading


class Labels:
    """An annotation file in the making: `path TAB text` a line, paths from its folder.

    Attributes:
        lines: what the file will hold.
        left_out: reason -> images.

    Raises:
        UserError: the file is there already or cannot be written, or no such confidence.
    """

    def __init__(self, path: str, min_confidence: float = 0.0) -> None:
        if not 0 <= min_confidence <= 1:
            raise UserError(f"--min-confidence {min_confidence}: want 0 to 1")
        self.path = path
        self.min_confidence = min_confidence
        self.lines: list[str] = []
        self.left_out: collections.Counter[str] = collections.Counter()
        if os.path.exists(path):
            # It may hold what somebody has corrected by hand.
            raise UserError(f"{path}: is there already; name a new file")
        self.write()  # what keeps it from being written is told before anything is read
        os.remove(os.path.realpath(path))  # an empty one would stop the corrected command

    def add(self, path: str, reading: Reading | UserError) -> None:
        """Takes an image's reading, or counts why not."""
        if not isinstance(reading, Reading):
            self.left_out["unreadable"] += 1
        elif reading.confidence < self.min_confidence:
            self.left_out[f"below {self.min_confidence:g}"] += 1
        elif not reading.text:
            self.left_out["read as nothing"] += 1
        elif REPLACEMENT in reading.text:
            self.left_out["with a character outside the table"] += 1
        elif not _can_be_written(line := f"{self._relative(path)}\t{reading.text}", reading.text):
            self.left_out["whose name cannot stand in the file"] += 1
        else:
            self.lines.append(line)

    def write(self) -> None:
        """Writes the file; raises UserError where it cannot be written."""
        with whole_file(self.path) as stream:
            stream.writelines(f"{line}\n" for line in self.lines)

    def __str__(self) -> str:
        count = len(self.lines)
        told = f"{self.path}: {count} of {count + self.left_out.total()}"
        reasons = ", ".join(f"{n} {reason}" for reason, n in self.left_out.most_common())
        return f"{told}; left out: {reasons}" if reasons else told

    def _relative(self, path: str) -> str:
        """The path as seen from the annotation file's folder; whole on another drive."""
        with contextlib.suppress(ValueError):
            # Of a link's target: the kernel takes `link/..` as the folder around that.
            whole = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
            return os.path.relpath(whole, os.path.realpath(os.path.dirname(self.path)))
        return os.path.abspath(path)


def _can_be_written(line: str, text: str) -> bool:
    """Whether the line is read as it was meant: a file's name may hold a TAB, or no UTF-8."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return not any(c in line for c in "\n\r") and parse_tsv(line)[1] == text
