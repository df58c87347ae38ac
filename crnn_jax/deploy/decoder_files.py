"""Files that help a decoder: lists of words, and language models.

A list holds one word a line, UTF-8; behind a TAB may stand how often it occurs, which makes
frequent words more probable. A language model is an ARPA file over characters, of the command
`language_model` or of KenLM.
"""

import os

import numpy as np

from crnn_jax.decoding.arpa import arpa_lines, read_arpa
from crnn_jax.decoding.lexicon import Lexicon
from crnn_jax.decoding.ngram import NGram
from crnn_jax.spec.charset import Charset
from crnn_jax.spec.errors import UserError


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a text file without their ends, byte-order mark or not.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{name}:{line}: not UTF-8") from None
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


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
            if not 0 < counts[-1] < np.inf:
                raise UserError(f"{name}:{number}: {count!r} is no count; a number above 0")
        words.append(word)
    priors = np.log(np.array(counts) / sum(counts)) if counts else None
    try:
        return Lexicon.from_words(words, charset, priors)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def read_language_model(path: str | os.PathLike[str]) -> NGram:
    """Reads an ARPA file.

    Raises:
        UserError: naming file and line.
    """
    return read_arpa(read_lines(path), os.fspath(path))


def write_language_model(path: str | os.PathLike[str], model: NGram) -> None:
    """Writes an ARPA file.

    Raises:
        UserError: it cannot be written.
    """
    try:
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(line + "\n" for line in arpa_lines(model))
    except OSError as error:
        raise UserError(f"{os.fspath(path)}: cannot be written: {error.strerror}") from error
