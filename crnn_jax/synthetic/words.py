"""Word lists: the system's, a user's, or the small one that comes with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import text_lines

LONGEST = 1000  # bytes of a line: what is longer is no word that a picture could show
MOST = 10_000_000  # words, about a gigabyte
DICTIONARIES = (
    "/usr/share/dict/american-english",  # larger lists add words that no sign shows
    "/usr/share/dict/british-english",
    "/usr/share/dict/words",
)


def builtin_words() -> tuple[str, ...]:
    """The common English and sign words that come with the package, commonest kinds first."""
    text = resources.files("crnn_jax.synthetic").joinpath("common_words.txt").read_text("utf-8")
    return tuple(text.split())


def word_list(names: str) -> tuple[str, ...]:
    """Words of one or several lists.

    Args:
        names: 'auto' (the first of the system's dictionaries, else the built-in list), 'builtin',
            or files of one word a line (UTF-8), several joined by commas.

    Returns:
        The words, without doubles, in the order of the files.

    Raises:
        UserError: a file that cannot be read or holds no word.
    """
    if names == "auto":
        found = next((path for path in DICTIONARIES if Path(path).is_file()), "builtin")
        # one word in five of these lists is another one with 's, which styles add themselves
        return tuple(w for w in word_list(found) if not w.endswith("'s"))
    if names == "builtin":
        return builtin_words()
    words: dict[str, None] = {}
    for name in names.split(","):
        for line in text_lines(Path(name).expanduser(), LONGEST):
            if word := line.strip():
                words[word] = None
            if len(words) > MOST:
                raise UserError(f"{name}: more than {MOST:,} words; a part of them will do")
    if not words:
        raise UserError(f"{names}: no words in it; one word a line is expected")
    return tuple(words)
