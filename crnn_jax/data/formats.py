"""Annotation formats: one line -> (path, label), and finding out which format a file has.

    mjsynth   ./2425/1/115_Lube_45484.jpg 45484     the label is in the file name
    icdar     word_1.png, "Tiredness"               everything between the outer quotes
    tsv       path TAB label                        both may hold spaces
    simple    path label                            the label may hold spaces
    name      2b827.png, LABEL_17.jpg               no annotation: the file name is the label

A parser of one's own is named `package.module:function` and is called as `parse(line)`.
"""

import functools
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence

from crnn_jax.core.errors import UserError
from crnn_jax.data.named import load

Parser = Callable[[str], tuple[str, str]]

DETECT_LINES = 100
LONGEST_PATH = 4096  # characters; no system opens longer ones

_MJSYNTH_NAME = re.compile(r"[0-9]+_.*_[0-9]+")
_COUNTER = re.compile(r"(.+)_[0-9]+")
_ICDAR = re.compile(r'([^\t]+?),\s*"')


def parse_mjsynth(line: str) -> tuple[str, str]:
    """`./2425/1/115_Lube_45484.jpg 45484`: the second `_` field of the file name."""
    fields = line.rsplit(None, 1)
    if len(fields) != 2 or not (fields[1].isascii() and fields[1].isdigit()):
        raise ValueError("want PATH/N_LABEL_NUMBER.jpg NUMBER")
    return parse_mjsynth_name(fields[0].lstrip())


def parse_mjsynth_name(path: str) -> tuple[str, str]:
    """`115_Lube_45484.jpg` in a folder that has no annotation file."""
    fields = _stem(path).split("_")
    if len(fields) < 3:
        raise ValueError("want a file name N_LABEL_NUMBER.jpg")
    return path, fields[1]


def parse_icdar(line: str) -> tuple[str, str]:
    r"""`word_1.png, "Tiredness"`: all between the outer quotes; `\"` stands for a quote."""
    # The end first: a pattern of both quotes takes the square of a hostile line's length.
    line = line.strip()
    match = _ICDAR.match(line) if line.endswith('"') else None
    if not match or match.end() == len(line):
        raise ValueError('want PATH, "LABEL"')
    return match[1], line[match.end() : -1].replace('\\"', '"')


def parse_tsv(line: str) -> tuple[str, str]:
    """`path TAB label`: the label as it stands, spaces at its ends included."""
    path, tab, label = line.partition("\t")
    if not tab or not path:
        raise ValueError("want PATH, a TAB, LABEL")
    return path, label


def parse_simple(line: str) -> tuple[str, str]:
    """`path label`: up to the first white space, and the rest."""
    fields = line.split(None, 1)
    if not fields:
        raise ValueError("want PATH LABEL")
    return fields[0], fields[1].rstrip() if len(fields) > 1 else ""


def parse_only_simple(line: str) -> tuple[str, str]:
    """The same in a file found to be simple, where a line plainly of another format is an error."""
    path, label = parse_simple(line)
    # In 'line1.png He said, "no"' the quotes are the label's: only a path that ends in a comma
    # tells icdar. A TAB behind the path is white space like any other.
    icdar = path.endswith(",") and _fits(parse_icdar, line)
    if icdar or (label.isdigit() and _is_mjsynth(line)):
        other = "icdar" if icdar else "mjsynth"
        raise ValueError(f"it reads as {other}; data.format=simple (--format) reads it as it is")
    return path, label


def parse_name(line: str) -> tuple[str, str]:
    """`2b827.png` -> 2b827; `LABEL_17.jpg` -> LABEL: the number tells equal labels apart."""
    stem = _stem(line)
    match = _COUNTER.fullmatch(stem)
    return line, match[1] if match else stem


PARSERS: dict[str, Parser] = {
    "mjsynth": parse_mjsynth,
    "icdar": parse_icdar,
    "tsv": parse_tsv,
    "simple": parse_simple,
    "name": parse_name,
}
FOLDER_PARSERS: dict[str, Parser] = {"mjsynth": parse_mjsynth_name, "name": parse_name}


def _stem(path: str) -> str:
    return os.path.splitext(path.rpartition("/")[2])[0]


def _is_mjsynth(line: str) -> bool:
    # The number must be the name's own: 'a_7_9.png 2010' is a path and a label.
    if not _fits(parse_mjsynth, line):
        return False
    path, number = line.rsplit(None, 1)
    return _stem(path).rpartition("_")[2] == number


def _format_of(line: str) -> str:
    """The strictest format that a line has."""
    if _is_mjsynth(line):
        return "mjsynth"
    strict = {"icdar": parse_icdar, "tsv": parse_tsv}
    return next((name for name, parse in strict.items() if _fits(parse, line)), "simple")


def _fits(parse: Parser, line: str) -> bool:
    try:
        parse(line)
    except ValueError:
        return False
    return True


def detect(lines: Sequence[str], where: str) -> str:
    """The name of the format that more of these lines have than any other.

    Not all: one broken line among the first must be told as such by whoever parses the file, and
    not turn an MJSynth file into one whose labels are numbers. Any line with a label is simple,
    so it counts as that only where it has no stricter format.

    Args:
        lines: the first (up to 100) non-empty lines.
        where: the file's name, for the message.

    Raises:
        UserError: no lines, or none of them has a label.
    """
    if not lines:
        raise UserError(f"{where}: no lines in the annotation file")
    counts = Counter(map(_format_of, lines))
    # Of equal ones the first: simple before tsv, whose lines it mostly reads alike.
    found = max(("mjsynth", "icdar", "simple", "tsv"), key=counts.__getitem__)
    if found != "simple" or any(parse_simple(line)[1] for line in lines):
        return found
    raise UserError(
        f"{where}:1: {shown(lines[0])} has no label; want PATH LABEL, PATH TAB LABEL or "
        f'PATH, "LABEL", or a folder whose file names are the labels'
    )


def detect_names(names: Sequence[str]) -> str:
    """'mjsynth' where all file names read N_LABEL_NUMBER, else 'name'."""
    matches = [_MJSYNTH_NAME.fullmatch(_stem(name)) for name in names]
    return "mjsynth" if matches and all(matches) else "name"


def parser(name: str) -> Parser:
    """The parser of a format by its name, or one's own by `package.module:function`.

    Raises:
        UserError: there is none.
    """
    if name in PARSERS:
        return PARSERS[name]
    wanted = " | ".join(["auto", *PARSERS, "package.module:function"])
    return functools.partial(_own, load(name, "data.format", wanted), name)


def _own(parse: Parser, name: str, line: str) -> tuple[str, str]:
    """What somebody's own parser gives, if it is what a parser should give."""
    found = parse(line)
    if isinstance(found, tuple) and len(found) == 2 and all(isinstance(f, str) for f in found):
        return found
    raise UserError(f"data.format={name!r}: gives {shown(str(found))}; want (path, label)")


def shown_path(path: str) -> str:
    """A path in a message: in quotes where it could not be seen or would change the terminal."""
    if len(path) > LONGEST_PATH:
        return repr(path[:60] + "...")
    return path if path.isprintable() else repr(path)


def shown(line: str) -> str:
    """A line in quotes, shortened for a message."""
    return repr(line if len(line) <= 60 else line[:57] + "...")
