"""Files that help a decoder: lists of words, and language models.

A list holds one word a line, UTF-8; behind a TAB may stand how often it occurs, which makes
frequent words more probable. A language model is an ARPA file over characters, of the command
`language_model` or of KenLM.
"""

import os

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.user_files import text_lines
from crnn_jax.core.whole_file import whole_file
from crnn_jax.decoding.arpa import MAX_LINE as ARPA_LINE
from crnn_jax.decoding.arpa import arpa_lines, read_arpa
from crnn_jax.decoding.lexicon import Lexicon
from crnn_jax.decoding.ngram import NGram

MAX_LINE = 4096  # bytes; no picture shows a word of a thousand characters
# With so many characters the trie is built in 7 GB where hardly two words begin alike, 5 GB where
# most do.
MAX_WORDS = 10_000_000
MAX_CHARACTERS = 1 << 27
MAX_COUNT = 1e300  # their sum is still a number


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a list of words, without their ends, byte-order mark or not.

    Raises:
        UserError: it cannot be read, is not UTF-8, or holds more than `MAX_WORDS` and the other
            limits say.
    """
    name = os.fspath(path)
    lines, characters = [], 0
    for line in text_lines(path, MAX_LINE):
        lines.append(line)
        characters += len(line)
        if len(lines) > MAX_WORDS or characters > MAX_CHARACTERS:
            raise UserError(
                f"{name}: over {MAX_WORDS:,} words or {MAX_CHARACTERS:,} characters; keep the "
                "frequent ones"
            )
    return lines


def read_lexicon(path: str | os.PathLike[str], charset: Charset) -> Lexicon:
    """Reads a list of words.

    Words with characters outside the table are left out (`Lexicon.left_out` counts them). Where
    some line has a count every line needs one; a word's prior is its share of the counts.

    Raises:
        UserError: naming file and line.
    """
    name = os.fspath(path)
    lines = read_lines(path)
    words: list[str] = []
    counts: list[float] = []
    for number, line in enumerate(lines, 1):
        word, tab, count = line.partition("\t")
        if not word:
            continue
        if words and bool(tab) != bool(counts):
            raise UserError(f"{name}:{number}: a count on some lines only; on all or on none")
        if tab:
            try:
                counts.append(float(count))
            except ValueError:
                counts.append(0.0)
            if not 0 < counts[-1] < MAX_COUNT:
                raise UserError(f"{name}:{number}: {count[:20]!r} is no count; a number above 0")
        words.append(word)
    priors = np.log(counts) - np.log(np.sum(counts)) if counts else None
    try:
        return Lexicon.from_words(words, charset, priors)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def read_language_model(path: str | os.PathLike[str]) -> NGram:
    """Reads an ARPA file.

    Raises:
        UserError: naming file and line.
    """
    return read_arpa(text_lines(path, ARPA_LINE), os.fspath(path))


def write_language_model(path: str | os.PathLike[str], model: NGram) -> None:
    """Writes an ARPA file.

    Raises:
        UserError: it cannot be written.
    """
    with whole_file(path) as file:
        file.writelines(line + "\n" for line in arpa_lines(model))
