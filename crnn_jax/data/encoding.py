"""Labels -> class ids, a hundred thousand at a time."""

import dataclasses
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.data.source import NO_LABEL, UNKNOWN_CHARACTER, USABLE

STATUS = (USABLE, NO_LABEL, UNKNOWN_CHARACTER)  # what a status byte stands for


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Class ids of n labels.

    Attributes:
        flat: class ids one after the other; uint16, or int32 for tables beyond its range.
        lengths: int64 [n].
        status: uint8 [n], index into `STATUS`.
        has_unknown: bool [n], a character is outside the table.
        case_alone: bool [n], and would be inside in its other case.
        unknown: character -> how often it stands in the labels.
    """

    flat: np.ndarray
    lengths: np.ndarray
    status: np.ndarray
    has_unknown: np.ndarray
    case_alone: np.ndarray
    unknown: Counter[str]


class LabelError(ValueError):
    """Labels that nothing can be made of; `indices` tells which of those given, all of them."""

    def __init__(self, indices: list[int], what: str) -> None:
        super().__init__(what)
        self.indices = indices


class LabelEncoder:
    """`Charset.encode` for many labels at once; the same results.

    Args:
        charset: the characters.
        unknown: 'unusable', 'strip' or 'map', as in `Charset.encode`.

    Raises:
        UserError: no such rule.
    """

    def __init__(self, charset: Charset, unknown: str = "unusable") -> None:
        charset.check_rule(unknown)
        self.charset = charset
        self.unknown = unknown
        self.dtype = np.dtype(np.uint16 if charset.num_classes <= 1 << 16 else np.int32)
        self._table = np.full(sys.maxunicode + 1, -1, np.int32)
        for index, symbol in enumerate(charset.symbols):
            if index not in (charset.blank_id, charset.unknown_id):
                self._table[ord(symbol)] = index

    def __call__(self, labels: Sequence[str]) -> Encoded:
        """Encodes labels.

        Raises:
            LabelError: labels hold a line feed, or more combining marks than `nfc` takes.
        """
        # A line feed composes with nothing and is no letter, so that normalizing the joined
        # labels is normalizing each of them.
        try:
            joined = self.charset.normalize("\n".join([*labels, ""]))
        except UserError as error:
            marked = [index for index, label in enumerate(labels) if not self._can_be(label)]
            raise LabelError(marked, str(error)) from None
        raw = joined.encode("utf-32-le", "surrogatepass")
        codes = np.frombuffer(raw, np.uint32)
        ends = np.flatnonzero(codes == ord("\n"))
        if ends.size != len(labels):
            broken = [index for index, label in enumerate(labels) if "\n" in label]
            raise LabelError(broken, "the label holds a line break")
        ids = self._table[codes]
        inside = np.ones(codes.size, bool)
        inside[ends] = False
        strange = (ids < 0) & inside
        counts = _per_label(strange, ends)
        has_unknown = counts > 0
        unknown: Counter[str] = Counter()
        case_alone = np.zeros(len(labels), bool)
        if has_unknown.any():
            met, inverse, times = np.unique(codes[strange], return_inverse=True, return_counts=True)
            characters = [chr(code) for code in met]
            unknown.update(dict(zip(characters, times.tolist(), strict=True)))
            other_case = np.zeros(codes.size, bool)
            swaps = np.array([self._known_in_other_case(c) for c in characters])
            other_case[strange] = swaps[inverse]
            case_alone = has_unknown & (_per_label(other_case, ends) == counts)
        keep = inside
        if self.unknown == "unusable":
            starts = np.concatenate(([0], ends[:-1] + 1))
            keep = inside & np.repeat(~has_unknown, ends - starts + 1)
        elif self.unknown == "strip":
            keep = inside & ~strange
        else:
            ids = np.where(strange, self.charset.unknown_id, ids)
        lengths = _per_label(keep, ends)
        status = np.where(lengths == 0, STATUS.index(NO_LABEL), 0)
        if self.unknown == "unusable":
            status[has_unknown] = STATUS.index(UNKNOWN_CHARACTER)
        return Encoded(
            ids[keep].astype(self.dtype),
            lengths,
            status.astype(np.uint8),
            has_unknown,
            case_alone,
            unknown,
        )

    def _can_be(self, label: str) -> bool:
        try:
            self.charset.normalize(label)
        except UserError:
            return False
        return True

    def _known_in_other_case(self, character: str) -> bool:
        other = character.swapcase()
        return len(other) == 1 and other != character and self._table[ord(other)] >= 0


def count_denormalized(labels: Sequence[str]) -> int:
    """How many labels are not in NFC, so that normalizing changes them."""
    return sum(not (s.isascii() or unicodedata.is_normalized("NFC", s)) for s in labels)


def _per_label(marks: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """How many positions of each label are marked; `ends` are the labels' last positions."""
    running = np.cumsum(marks, dtype=np.int64)[ends]
    return np.diff(running, prepend=0)
