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
import os
import string
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import text_lines, whole_file

BLANK = "<BLK>"
UNKNOWN = "<UNK>"
SPACE = "<SPACE>"
# What the class `<UNK>` reads as: one character, so that edit distances count it once.
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
UNKNOWN_RULES = ("unusable", "strip", "map")
MAX_LINE = 256  # bytes of a table's line: a character, or any name of the blank


@dataclasses.dataclass(frozen=True)
class Charset:
    """Class id -> symbol, and back.

    Raises:
        UserError: a symbol twice, a symbol of several characters, or no blank.
    """

    symbols: tuple[str, ...]  # of each class: '<BLK>', '<UNK>', or one character in NFC
    blank_id: int  # class id of the CTC blank
    unknown_id: int = -1  # class id of '<UNK>', -1 where the table has none
    ignore_case: bool = False  # labels are folded to one case before they are looked up

    def __post_init__(self) -> None:
        if BLANK not in self.symbols or self.blank_id != _place(BLANK, self.symbols):
            raise UserError(f"charset: class {self.blank_id} is not the blank {BLANK}")
        if self.unknown_id != _place(UNKNOWN, self.symbols):
            raise UserError(f"charset: class {self.unknown_id} is not {UNKNOWN}")
        if len(set(self.symbols)) != len(self.symbols):
            twice = min(s for s, n in collections.Counter(self.symbols).items() if n > 1)
            raise UserError(f"charset: {twice!r} stands twice; each character may occur once")
        for symbol in self.characters:
            # Half of a surrogate pair is none: it cannot be written to a file.
            if len(symbol) != 1 or "\ud800" <= symbol <= "\udfff":
                raise UserError(f"charset: {symbol[:20]!r} is not one character")
        if not self.characters:
            raise UserError("charset: no characters but the special ones")

    @property
    def num_classes(self) -> int:
        """The blank included."""
        return len(self.symbols)

    @functools.cached_property
    def characters(self) -> tuple[str, ...]:
        """The real characters (neither blank nor unknown) in the order of their ids."""
        return tuple(symbol for symbol in self.symbols if symbol not in (BLANK, UNKNOWN))

    @property
    def gaps(self) -> str:
        """Digits and letters that are missing from a range of them that is mostly there."""
        gaps = ""
        for some in (string.digits, string.ascii_lowercase, string.ascii_uppercase):
            missing = "".join(c for c in some if c not in self.characters)
            if 3 * len(missing) < len(some):
                gaps += missing
        return gaps

    @functools.cached_property
    def _id_of(self) -> dict[str, int]:
        ids = {symbol: i for i, symbol in enumerate(self.symbols)}
        return {symbol: ids[symbol] for symbol in self.characters}

    @functools.cached_property
    def _upper_only(self) -> dict[int, str]:
        """Lower-case characters that the table knows in upper case alone."""
        pairs = ((c.lower(), c) for c in self.characters)
        return {ord(low): c for low, c in pairs if len(low) == 1 and low not in self._id_of}

    def normalize(self, text: str) -> str:
        """The text as labels are compared: NFC, and of one case where `ignore_case` says so.

        The case is lower, but for characters that the table holds in upper case alone.
        """
        text = nfc(text)
        if not self.ignore_case:
            return text
        lowered = nfc(text.lower().replace("i\u0307", "i"))  # İ, as one character
        return lowered.translate(self._upper_only) if self._upper_only else lowered

    def encode(self, text: str, unknown: str = "unusable") -> tuple[np.ndarray, str]:
        """Class ids of a text.

        Args:
            text: any text; it is normalized first.
            unknown: rule for characters outside the table. 'unusable': no ids at all;
                'strip': they are left out; 'map': they become '<UNK>'.

        Returns:
            (ids int32 [n], the unknown characters in order, '' if none).
        """
        self.check_rule(unknown)
        text, id_of = self.normalize(text), self._id_of
        if id_of.keys() >= set(text):
            return np.array([id_of[c] for c in text], np.int32), ""
        met = "".join(c for c in text if c not in id_of)
        if unknown == "unusable":
            text = ""
        elif unknown == "strip":
            text = "".join(c for c in text if c in id_of)
        return np.array([id_of.get(c, self.unknown_id) for c in text], np.int32), met

    def ids_by_code_point(self) -> np.ndarray:
        """int32 [0x110000]: the class id of each code point, -1 outside the table."""
        found = np.full(0x110000, -1, np.int32)
        found[[ord(c) for c in self._id_of]] = list(self._id_of.values())
        return found

    def check_rule(self, unknown: str) -> None:
        """Raises UserError if `unknown` is not a rule that this table allows."""
        if unknown not in UNKNOWN_RULES:
            rules = " | ".join(UNKNOWN_RULES)
            raise UserError(f"data.unknown={unknown!r}: must be one of {rules}")
        if unknown == "map" and self.unknown_id < 0:
            raise UserError(f"data.unknown='map': the character table has no line {UNKNOWN}")

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """The text of collapsed class ids; blanks and negative ids (padding) are left out."""
        ids = np.asarray(ids, np.int64).ravel().tolist()
        kept = (i for i in ids if i >= 0 and i != self.blank_id)
        return "".join(REPLACEMENT if i == self.unknown_id else self.symbols[i] for i in kept)

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
        for key, kind in (("charset", (list, tuple)), ("blank_id", int), ("ignore_case", bool)):
            if not isinstance(metadata.get(key), kind):
                raise UserError(f"charset: no {key} of the correct type in the metadata")
        symbols = tuple(map(str, metadata["charset"]))
        return cls(symbols, metadata["blank_id"], _place(UNKNOWN, symbols), metadata["ignore_case"])

    @classmethod
    def from_characters(cls, characters: Iterable[str], ignore_case: bool = False) -> "Charset":
        """A table of these characters in this order; the blank comes last, no '<UNK>'."""
        if isinstance(characters, str):
            characters = nfc(characters)
        symbols = tuple(characters) + (BLANK,)
        return cls(symbols, len(symbols) - 1, -1, ignore_case)

    @classmethod
    def read(cls, path: str | os.PathLike[str], ignore_case: bool = False) -> "Charset":
        """Reads a table file; UserError names file and line where it is none."""
        name = os.fspath(path)
        lines = list(text_lines(path, MAX_LINE))
        while lines and not lines[-1]:  # empty lines at the end are ignored
            lines.pop()
        line_of: dict[str, int] = {}
        for number, line in enumerate(lines, 1):
            symbol = " " if line == SPACE else nfc(line)
            if not symbol:
                raise UserError(f"{name}:{number}: empty line; a space is written {SPACE}")
            if symbol in line_of:
                before = line_of[symbol]
                raise UserError(f"{name}:{number}: {symbol!r} is on line {before} already")
            line_of[symbol] = number
        symbols = list(line_of)
        several = [s for s in symbols if len(s) > 1 and s not in (BLANK, UNKNOWN)]
        if BLANK not in symbols and len(several) == 1:  # a blank by another name
            symbols[line_of[several[0]] - 1] = BLANK
        elif several:
            last, wanted = several[-1], "one character a line, and one line " + BLANK
            raise UserError(f"{name}:{line_of[last]}: {last!r} is not one character; {wanted}")
        if BLANK not in symbols:
            raise UserError(f"{name}: no line for the blank; add a line {BLANK}")
        return cls(tuple(symbols), symbols.index(BLANK), _place(UNKNOWN, symbols), ignore_case)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes a table file that `read` and CRNN.tf2 take (UTF-8, LF)."""
        lines = [SPACE if s == " " else s for s in self.symbols]
        with whole_file(path) as file:
            file.write("\n".join(lines) + "\n")


def nfc(text: str) -> str:
    """The text in Unicode's normal form C, in which one character has one spelling."""
    return unicodedata.normalize("NFC", text)


def _place(symbol: str, symbols: Sequence[str]) -> int:
    return symbols.index(symbol) if symbol in symbols else -1
