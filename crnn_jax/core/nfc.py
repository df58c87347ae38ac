"""Unicode's normal form C, in time that grows with the text."""

import functools
import unicodedata

import numpy as np

from crnn_jax.core.errors import UserError

# On one character. Unicode's own format for streams knows 30; what decorates text stays below 100.
MAX_MARKS = 100
_LAST = 0x1FFFF  # none of the planes behind has such marks, nor has this place


def nfc(text: str) -> str:
    """The text in NFC.

    Raises:
        UserError: over `MAX_MARKS` combining marks on one character: Python takes time that grows
            with their square, 12 s for 64,000 and hours for a megabyte.
    """
    if len(text) > MAX_MARKS and not text.isascii():
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        ends = np.append(np.flatnonzero(~_is_mark()[np.minimum(codes, _LAST)]), len(codes))
        runs = np.diff(ends, prepend=-1) - 1
        if runs.max() > MAX_MARKS:
            marked = text[max(0, ends[runs.argmax()] - runs.max() - 20) :][:20]
            raise UserError(f"a character with over {MAX_MARKS} combining marks: {marked!r}...")
    return unicodedata.normalize("NFC", text)


@functools.cache
def _is_mark() -> np.ndarray:
    return np.array([unicodedata.combining(chr(c)) > 0 for c in range(_LAST + 1)])
