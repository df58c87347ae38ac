"""Characters and their class ids: CRNN.tf2's table files, in code and in a model's metadata.

A table file holds one character a line; the line number, from 0, is the class id. ``<UNK>``
stands for every other character, ``<SPACE>`` (or a line of one space) for the space. The blank
of CTC is the line ``<BLK>``, or else the only other line of several characters.

    charset = Charset.read('table.txt', ignore_case=True)
    ids, unknown = charset.encode('Tiredness')
    charset.decode(ids)  # 'tiredness'
"""

import collections
import dataclasses
import functools
import itertools
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.nfc import nfc
from crnn_jax.core.user_files import text_lines
from crnn_jax.core.whole_file import whole_file

BLANK = "<BLK>"
UNKNOWN = "<UNK>"
SPACE = "<SPACE>"
# What the class `<UNK>` reads as: one character, so that edit distances count it once.
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
UNKNOWN_RULES = ("unusable", "strip", "map")
MAX_CLASSES = 0x110000 + 2  # every character that there is, the blank and the unknown
MAX_LINE = 256  # bytes of a table's line: a character, or the blank by a name of its own

_METADATA = {
    "charset": (list, tuple),
    "blank_id": (int,),
    "ignore_case": (bool,),
    "unknown_id": (int, type(None)),
}


@dataclasses.dataclass(frozen=True)
class Charset:
    """Class id -> symbol, and back.

    Attributes:
        symbols: one entry a class; the blank's is '<BLK>', the unknown's '<UNK>', else one
            character (NFC).
        blank_id: class id of the CTC blank.
        unknown_id: class id of '<UNK>', -1 where the table has none.
        ignore_case: labels are folded to one case before they are looked up.

    Raises:
        UserError: a symbol twice, a symbol of several characters, or no blank.
    """

    symbols: tuple[str, ...]
    blank_id: int
    unknown_id: int = -1
    ignore_case: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.blank_id < len(self.symbols) or self.symbols[self.blank_id] != BLANK:
            raise UserError(f"charset: class {self.blank_id} is not the blank {BLANK}")
        found = self.symbols.index(UNKNOWN) if UNKNOWN in self.symbols else -1
        if found != self.unknown_id:
            raise UserError(f"charset: unknown_id is {self.unknown_id}, {UNKNOWN} is at {found}")
        if len(set(self.symbols)) != len(self.symbols):
            twice = min(s for s, n in collections.Counter(self.symbols).items() if n > 1)
            raise UserError(f"charset: {twice!r} stands twice, each character may stand once")
        for symbol in self.characters:
            # Half of a surrogate pair is none: it cannot be written to a file.
            if len(symbol) != 1 or "\ud800" <= symbol <= "\udfff":
                raise UserError(f"charset: {symbol[:20]!r} is not one character")
        if len(self.characters) == 0:
            raise UserError("charset: no characters beside the special ones")

    @property
    def num_classes(self) -> int:
        """Number of classes, the blank included."""
        return len(self.symbols)

    @functools.cached_property
    def characters(self) -> tuple[str, ...]:
        """The real characters (neither blank nor unknown) in the order of their ids."""
        special = (self.blank_id, self.unknown_id)
        return tuple(s for i, s in enumerate(self.symbols) if i not in special)

    @functools.cached_property
    def _id_of(self) -> dict[str, int]:
        special = (self.blank_id, self.unknown_id)
        return {s: i for i, s in enumerate(self.symbols) if i not in special}

    @functools.cached_property
    def _upper_only(self) -> dict[int, str]:
        """Lower-case characters that the table knows in upper case alone."""
        pairs = ((c.lower(), c) for c in self.characters)
        return {ord(low): c for low, c in pairs if len(low) == 1 and low not in self._id_of}

    def normalize(self, text: str) -> str:
        """The text as labels are compared: NFC, and of one case where `ignore_case` says so.

        The case is lower, but for characters that the table holds in upper case alone.
        """
        if text.isascii():  # the usual label; NFC leaves ASCII as it is
            if not self.ignore_case:
                return text
            lowered = text.lower()
        else:
            text = nfc(text)
            if not self.ignore_case:
                return text
            lowered = nfc(text.lower())
        return lowered.translate(self._upper_only) if self._upper_only else lowered

    def encode(self, text: str, unknown: str = "unusable") -> tuple[np.ndarray, str]:
        """Class ids of a text.

        Args:
            text: any text; it is normalized first.
            unknown: what becomes of characters outside the table. 'unusable': no ids at all;
                'strip': they are left out; 'map': they become '<UNK>'.

        Returns:
            (ids int32 [n], the unknown characters met in order of their place, '' if none).

        Raises:
            UserError: `unknown` is no such rule, or 'map' with a table without '<UNK>'.
        """
        self.check_rule(unknown)
        text = self.normalize(text)
        id_of = self._id_of
        ids = [id_of.get(c, -1) for c in text]
        if -1 not in ids:
            return np.array(ids, np.int32), ""
        met = "".join(c for c, i in zip(text, ids, strict=True) if i < 0)
        if unknown == "unusable":
            ids = []
        elif unknown == "strip":
            ids = [i for i in ids if i >= 0]
        else:
            ids = [i if i >= 0 else self.unknown_id for i in ids]
        return np.array(ids, np.int32), met

    def check_rule(self, unknown: str) -> None:
        """Raises UserError where `unknown` is no rule for unknown characters of this table."""
        if unknown not in UNKNOWN_RULES:
            rules = " | ".join(UNKNOWN_RULES)
            raise UserError(f"data.unknown={unknown!r}: must be one of {rules}")
        if unknown == "map" and self.unknown_id < 0:
            raise UserError(f"data.unknown='map': the character table has no line {UNKNOWN}")

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """The text of collapsed class ids; blanks and negative ids (padding) are left out."""
        text = []
        for i in np.asarray(ids, np.int64).reshape(-1).tolist():
            if i == self.unknown_id and i >= 0:
                text.append(REPLACEMENT)
            elif i >= 0 and i != self.blank_id:
                text.append(self.symbols[i])
        return "".join(text)

    def to_metadata(self) -> dict[str, Any]:
        """JSON-ready form, as a model file's metadata holds it."""
        return {
            "charset": list(self.symbols),
            "blank_id": self.blank_id,
            "unknown_id": self.unknown_id,
            "ignore_case": self.ignore_case,
        }

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> "Charset":
        """The opposite of `to_metadata`; other keys are not looked at."""
        found = {"unknown_id": None} | metadata
        for key, kind in _METADATA.items():
            if key not in found:
                raise UserError(f"charset: the metadata has no key '{key}'")
            if type(found[key]) not in kind:
                raise UserError(f"charset: {key} is a {type(found[key]).__name__}")
        symbols, unknown_id = tuple(found["charset"]), found["unknown_id"]
        if not all(isinstance(symbol, str) for symbol in symbols):
            raise UserError("charset: a character that is no string")
        if unknown_id is None:
            unknown_id = symbols.index(UNKNOWN) if UNKNOWN in symbols else -1
        return cls(symbols, found["blank_id"], unknown_id, found["ignore_case"])

    @classmethod
    def from_characters(cls, characters: Iterable[str], ignore_case: bool = False) -> "Charset":
        """A table of these characters in this order; the blank comes last, no '<UNK>'."""
        if isinstance(characters, str):
            characters = nfc(characters)
        symbols = tuple(characters) + (BLANK,)
        return cls(symbols, len(symbols) - 1, -1, ignore_case)

    @classmethod
    def read(cls, path: str | os.PathLike[str], ignore_case: bool = False) -> "Charset":
        """Reads a table file (see the top of this module).

        Raises:
            UserError: naming file and line, where the file is no table.
        """
        return cls._from_lines(_table_lines(path), os.fspath(path), ignore_case)

    @classmethod
    def _from_lines(cls, lines: list[str], path: str, ignore_case: bool) -> "Charset":
        first: dict[str, int] = {}
        symbols = []
        for number, line in enumerate(lines, 1):
            symbol = " " if line == SPACE else nfc(line)
            if not symbol:
                raise UserError(f"{path}:{number}: empty line; a space is written {SPACE}")
            if symbol in first:
                raise UserError(
                    f"{path}:{number}: {symbol!r} stands on line {first[symbol]} already"
                )
            first[symbol] = number
            symbols.append(symbol)
        several = [s for s in symbols if len(s) > 1 and s not in (BLANK, UNKNOWN)]
        if BLANK not in symbols and len(several) == 1:  # a blank by another name
            symbols[first[several[0]] - 1] = BLANK
        elif several:
            last = several[-1]
            wanted = "one character a line" if BLANK in symbols else f"one line {BLANK}"
            raise UserError(f"{path}:{first[last]}: {last!r} is not one character; {wanted}")
        if BLANK not in symbols:
            raise UserError(f"{path}: no line for the blank; add a line {BLANK}")
        if all(s in (BLANK, UNKNOWN) for s in symbols):
            raise UserError(f"{path}: no characters; one character a line")
        unknown_id = symbols.index(UNKNOWN) if UNKNOWN in symbols else -1
        return cls(tuple(symbols), symbols.index(BLANK), unknown_id, ignore_case)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes a table file that `read` and CRNN.tf2 take (UTF-8, LF)."""
        lines = [SPACE if s == " " else s for s in self.symbols]
        with whole_file(path) as file:
            file.write("\n".join(lines) + "\n")


def _table_lines(path: str | os.PathLike[str]) -> list[str]:
    """The file's lines; empty lines at the end are no lines."""
    read = text_lines(path, MAX_LINE, "no character table")
    lines = list(itertools.islice(read, MAX_CLASSES + 1))
    if len(lines) > MAX_CLASSES:
        raise UserError(f"{os.fspath(path)}: over {MAX_CLASSES:,} lines; one character a line")
    while lines and not lines[-1]:
        lines.pop()
    return lines
