"""The characters that occur in a set's labels, and a table made of them."""

import dataclasses
from collections import Counter
from collections.abc import Iterable

from crnn_jax.core.charset import Charset
from crnn_jax.data.stored import open_stored


def characters_of(name: str, *, format: str, images: str) -> Counter[str]:  # noqa: A002
    """Every character of a set's labels (NFC), counted.

    Args:
        name: annotation file, folder, LMDB or ArrayRecord folder.
        format, images: as in `FileSource`.
    """
    nothing = Charset.from_characters("\U0010fffd")  # a private character: all others are unknown
    source = open_stored(name, nothing, format=format, images=images, unknown="strip", cache=True)
    return source.index.unknown


def folded(characters: Iterable[str], ignore_case: bool) -> str:
    """The different characters in order, in lower case where case is ignored."""
    return "".join(
        sorted({c.lower() if ignore_case and len(c.lower()) == 1 else c for c in characters})
    )


def table_of(characters: Iterable[str], ignore_case: bool) -> Charset:
    """A character table of all of them."""
    charset = Charset.from_characters(folded(characters, ignore_case))
    return dataclasses.replace(charset, ignore_case=ignore_case)
