"""Annotation files: their formats, their lines, and the images in a folder.

    mjsynth   ./2425/1/115_Lube_45484.jpg 45484     the label is in the file name
    icdar     word_1.png, "Tiredness"               everything between the outer quotes
    tsv       path TAB label                        both may hold spaces
    simple    path label                            the label may hold spaces
    name      2b827.png, LABEL_17.jpg               no annotation: the file name is the label

What has no line an image (json, csv, gt) is converted when it is opened, see `conversions`.
A parser of your own is named `package.module:function` and called as `parse(line)`.
"""

import contextlib
import importlib
import os
import re
import weakref
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from crnn_jax.core.errors import UserError, shown
from crnn_jax.data.conversions import convert_file, convert_folder
from crnn_jax.data.source import LONGEST_LABEL, Block

Parser = Callable[[str], tuple[str, str]]

DETECT_LINES = 100
BLOCK_BYTES = 4 << 20  # read at a time; no line is longer
LINE_BYTES = 256  # read at first where one line is asked for
LEFT_OUT = "name with a line break or not UTF-8, or a linked or unreadable folder, left out"

IMAGE_ENDINGS = frozenset(
    [".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp"]
    + [".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".tga", ".pcx", ".ico", ".psd"]
)
_MJSYNTH_NAME = re.compile(r"[0-9]+_.*_[0-9]+")
_COUNTER = re.compile(r"(.+)_[0-9]+")
_NUMBERED = re.compile(rb"^.*[^/\n]_[0-9]+(?:\.[^./\n]*)?$", re.MULTILINE)
_ICDAR = re.compile(r'([^\t]+?),\s*"(.*)"', re.DOTALL)


def parse_mjsynth(line: str) -> tuple[str, str]:
    """`./2425/1/115_Lube_45484.jpg 45484`: the second `_` field of the file name."""
    parts = line.rsplit(None, 1)
    if len(parts) < 2 or not (parts[1].isascii() and parts[1].isdigit()):
        raise ValueError("want PATH/N_LABEL_NUMBER.jpg NUMBER")
    return parse_mjsynth_name(parts[0].lstrip())


def parse_mjsynth_name(path: str) -> tuple[str, str]:
    """`115_Lube_45484.jpg` in a folder that has no annotation file."""
    fields = _stem(path).split("_", 2)
    if len(fields) < 3:
        raise ValueError("want a file name N_LABEL_NUMBER.jpg")
    return path, fields[1]


def parse_icdar(line: str) -> tuple[str, str]:
    r"""`word_1.png, "Tiredness"`: everything between the outer quotes; `\"` is a quote."""
    match = _ICDAR.fullmatch(line.strip())
    if not match:
        raise ValueError('want PATH, "LABEL"')
    return match[1], match[2].replace('\\"', '"')


def parse_tsv(line: str) -> tuple[str, str]:
    """`path TAB label`: the label as written, with spaces at its ends."""
    path, tab, label = line.partition("\t")
    if not tab or not path:
        raise ValueError("want PATH, a TAB, LABEL")
    return path, label


def parse_simple(line: str) -> tuple[str, str]:
    """`path label`: up to the first white space, and the rest."""
    if not line.strip():
        raise ValueError("want PATH LABEL")
    path, *label = line.split(None, 1)
    return path, "".join(label).rstrip()


def parse_only_simple(line: str) -> tuple[str, str]:
    """The same in a file detected as simple, where a line clearly of another format is an error."""
    path, label = parse_simple(line)
    # In 'line1.png He said, "no"' the quotes belong to the label: in icdar a comma ends the path.
    if path.endswith(",") or label.isdigit():
        found = _format_of(line)
        if found in ("icdar", "mjsynth"):
            raise ValueError(f"it reads as {found}; data.format=simple (--format) accepts it")
    return path, label


def parse_name(line: str) -> tuple[str, str]:
    """`2b827.png` -> 2b827; `LABEL_17.jpg` -> LABEL: the number separates equal labels."""
    stem = _stem(line)
    match = _COUNTER.fullmatch(stem)
    return line, match[1] if match else stem


PARSERS: dict[str, Parser] = {
    "mjsynth": parse_mjsynth,
    "icdar": parse_icdar,
    "tsv": parse_tsv,
    "simple": parse_simple,
    "name": parse_name,
    "json": parse_tsv,  # as `conversions` makes it
    "csv": parse_tsv,
}
FOLDER_PARSERS: dict[str, Parser] = {
    "mjsynth": parse_mjsynth_name,
    "name": parse_name,
    "gt": parse_tsv,  # as `conversions` makes it
}


def _stem(path: str) -> str:
    name = path[path.rfind("/") + 1 :]
    return name[:dot] if (dot := name.rfind(".")) > 0 else name  # splitext takes four times as long


def _fits(parse: Parser, line: str) -> bool:
    try:
        parse(line)
    except ValueError:
        return False
    return True


def _format_of(line: str) -> str:
    """The strictest format that a line has."""
    if _fits(parse_mjsynth, line):
        path, number = line.rsplit(None, 1)
        # The number must be the name's own: '1_7_9.png 2010' is a path and a label.
        if _MJSYNTH_NAME.fullmatch(_stem(path)) and _stem(path).endswith("_" + number):
            return "mjsynth"
    return next((name for name in ("icdar", "tsv") if _fits(PARSERS[name], line)), "simple")


def detect(lines: Sequence[str], where: str) -> str:
    """The format that most of these lines of a file have."""
    if not lines:
        raise UserError(f"{where}: no lines in the annotation file")
    # Most, not all: one broken line must not make the numbers of an MJSynth file its labels.
    counts = Counter(map(_format_of, lines))
    found = max(("mjsynth", "icdar", "simple", "tsv"), key=counts.__getitem__)
    if found != "simple" or any(parse_simple(line)[1] for line in lines):
        return found
    raise UserError(
        f"{where}:1: {shown(lines[0])} has no label; want PATH LABEL, PATH TAB LABEL or "
        f'PATH, "LABEL", or a folder whose file names are the labels'
    )


def detect_names(names: Sequence[str]) -> str:
    """'mjsynth' where all file names read N_LABEL_NUMBER, else 'name'."""
    return "mjsynth" if all(_MJSYNTH_NAME.fullmatch(_stem(name)) for name in names) else "name"


def parser(name: str, known: dict[str, Parser] = PARSERS) -> Parser:
    """The parser of a format by its name, or a user's by `package.module:function`."""
    wanted = " | ".join(["auto", *known, "package.module:function"])
    return known.get(name) or resolve(name, "data.format", wanted)


def resolve(name: str, key: str, wanted: str = "package.module:function") -> Any:
    """The function that `package.module:function` under this config key names."""
    # Rendered words and augmentation are reached this way too: this room may not import them.
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
        if callable(found):
            return found
        reason: object = f"{attribute} cannot be called"
    except (ImportError, AttributeError, ValueError) as error:
        reason = error
    raise UserError(f"{key}={name!r}: {reason}; must be {wanted}")


class Annotation:
    """The lines of an annotation file, or the names in a folder, by the byte where each begins.

    Millions of paths and labels would take gigabytes as Python strings: a line is read again
    whenever it is asked for, and a file that changes while it is in use is an error.

    Args:
        path: of the annotation file, or of a folder whose file names are the labels.
        format: a name of `PARSERS`, `package.module:function`, or 'auto'; then the one detected.
        images: folder at which the paths start; '' is the annotation file's own.
    """

    no_image = "; paths start at the annotation file, or at the folder data.images (--images)"

    def __init__(self, path: str, format: str = "auto", images: str = "") -> None:  # noqa: A002
        self.path = path
        self.left_out: list[str] = []
        self._file: int | None = None
        self._listing: bytes | None = None  # the lines, where a folder or a whole file was read
        if images and not os.path.isdir(images):
            raise UserError(f"data.images={images!r}: no such folder")
        if os.path.isdir(path):
            self._listing, self.left_out = list_image_paths(path)
            if texts := convert_folder(path, self._listing, format):
                self._listing, format = texts, "gt"  # noqa: A001
            self.root = path
        else:
            if os.path.exists(path) and not os.path.isfile(path):
                raise UserError(f"{path}: is not a file; want an annotation file, or a folder")
            if converted := convert_file(path, format):
                format, self._listing = converted  # noqa: A001
            self.root = images or os.path.dirname(path)
        if self._listing is None:
            self._state = self._state_of_file()
        else:
            self._state = [len(self._listing), zlib.crc32(self._listing)]
        self.total = self._state[0]
        head = self._read(0, BLOCK_BYTES)
        # LF ends a line (the CR of a CRLF is removed), or CR in a file without any LF.
        self._end = b"\r" if b"\r" in head and b"\n" not in head else b"\n"
        lines = [line for _, line in next(self._lines(), ([], 0))[0][:DETECT_LINES]]
        if os.path.isdir(path):
            self.format = detect_names(lines) if format == "auto" else format
            self.parse = parser(self.format, FOLDER_PARSERS)
        else:
            self.format = detect(lines, path) if format == "auto" else format
            only_simple = format == "auto" and self.format == "simple"
            self.parse = parse_only_simple if only_simple else parser(self.format)

    def __getstate__(self) -> dict[str, Any]:
        # A worker process opens the file anew.
        return {**self.__dict__, "_file": None}

    def _state_of_file(self) -> list[int]:
        if self._file is None:
            try:
                self._file = os.open(self.path, os.O_RDONLY)
            except OSError as error:
                raise UserError(f"{self.path}: no annotation file: {error.strerror}") from None
            weakref.finalize(self, os.close, self._file)
        status = os.fstat(self._file)
        return [status.st_size, status.st_mtime_ns]

    def stamp(self) -> list[Any]:
        """Path, size and time of the file."""
        return [os.path.abspath(self.path), *self._state]

    def _read(self, at: int, size: int) -> bytes:
        """These bytes, fewer only at the end of the file."""
        if self._listing is not None:
            return self._listing[at : at + size]
        if self._state_of_file() != self._state:
            raise UserError(
                f"{self.path}: was changed while it was in use; run the same command again"
            )
        assert self._file is not None
        # Not a memory map: if somebody truncates a mapped file, the next access kills the process.
        return os.pread(self._file, max(0, min(size, self.total - at)), at)

    def _lines(self) -> Iterator[tuple[list[tuple[int, str]], int]]:
        """Blocks of lines that are not blank, (first byte, text), and where each block ends."""
        at = 3 if self._read(0, 3) == b"\xef\xbb\xbf" else 0
        while at < self.total:
            block = self._read(at, BLOCK_BYTES)
            if at + len(block) < self.total:
                block = block[: block.rfind(self._end) + 1]
            if not block:
                raise UserError(
                    f"{self.where(at)}: a line of over {BLOCK_BYTES:,} bytes; "
                    "want a text file with a path and a label a line"
                )
            lines, end = [], at + len(block)
            for raw in block.split(self._end):
                line = self._decode(raw, at)
                if line and not line.isspace():
                    lines.append((at, line))
                at += len(raw) + 1
            yield lines, (at := end)

    def _decode(self, raw: bytes, at: int) -> str:
        try:
            return raw.decode().removesuffix("\r")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self.where(at)}: not UTF-8 (byte 0x{raw[error.start]:02x}); save it as UTF-8"
            ) from None

    def blocks(self) -> Iterator[Block]:
        """All samples in order. Raises UserError, naming the line that does not fit."""
        for lines, done in self._lines():
            labels = []
            for at, line in lines:
                try:
                    _, label = self.parse(line)
                    if "\n" in label:
                        raise ValueError("its label holds a line break")
                except (ValueError, TypeError, LookupError) as error:  # TypeError: not a pair
                    raise UserError(
                        f"{self.where(at)}: {shown(line.strip())} is not {self.format}: {error}"
                    ) from None
                labels.append(label[:LONGEST_LABEL])
            yield Block([at for at, _ in lines], labels, [0] * len(lines), done)

    def line(self, place: int) -> tuple[str, str]:
        """(path, label) of the line at this byte. Raises UserError where the file has changed."""
        size = LINE_BYTES
        while self._end not in (raw := self._read(place, size)) and len(raw) == size:
            size *= 16
        path, label = self.parse(self._decode(raw.partition(self._end)[0], place))
        return path, label[:LONGEST_LABEL]

    def numbered(self) -> list[int]:
        """Places of the names whose number `parse_name` leaves out of the label."""
        return [match.start() for match in _NUMBERED.finditer(self._read(0, self.total))]

    def where(self, place: int) -> str:
        """`file:line` of a byte; the image's path where no line says it."""
        if self._listing is not None:
            with contextlib.suppress(ValueError, TypeError):  # that line may be what is reported
                return self.content(place)
            return self.path
        number = 1
        for at in range(0, place, BLOCK_BYTES):
            number += self._read(at, min(BLOCK_BYTES, place - at)).count(self._end)
        return f"{self.path}:{number}"

    def content(self, place: int) -> str:
        """The path of an image."""
        return os.path.join(self.root, self.line(place)[0])


def list_image_paths(folder: str) -> tuple[bytes, list[str]]:
    """Relative paths of all images below a folder, sorted, one a line; and what is left out.

    Hidden ones are ignored; left out are names that are not UTF-8 or hold a line break, and
    folders that are a link or cannot be listed.
    """
    names: list[str] = []
    left_out: list[str] = []
    errors: list[OSError] = []
    for parent, folders, files in os.walk(folder, onerror=errors.append):
        inside = "" if parent == folder else os.path.relpath(parent, folder) + "/"
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        left_out += (inside + f for f in folders if os.path.islink(os.path.join(parent, f)))
        for name in files:
            ending = os.path.splitext(name)[1].lower()
            if not name.startswith(".") and ending in IMAGE_ENDINGS:
                plain = not any(c in "\n\r" or "\ud800" <= c <= "\udfff" for c in name)
                (names if plain else left_out).append(inside + name)
    left_out += (os.path.relpath(error.filename, folder) for error in errors)
    if not names:
        odd = [f"; {LEFT_OUT}: {shown(name)}" for name in sorted(left_out)[:1]]
        raise UserError(f"{folder}: no images in this folder{''.join(odd)}")
    return "\n".join(sorted(names)).encode(), sorted(left_out)
