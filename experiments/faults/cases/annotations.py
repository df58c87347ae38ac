"""Annotation files, the images they name, and stores, given to `check` and `demo`."""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import lmdb

from experiments.faults.cases.case import HOLE, Case, image, write


def cases(folder: Path) -> Iterator[Case]:
    word = image(folder / "word.png")
    content = (folder / word).read_bytes()
    name_of: dict[str, str] = {}

    def check(name: str, path: str, says: str, code: int = 0, *more: str) -> Case:
        return Case(name, ("check", "-a", path, *more), says, code)

    def lines(name: str, text: str | bytes) -> str:
        return write(folder / f"{name}.tsv", text)

    good = "word.png\tab\n"
    zero = lines("zero", good + "a\0.png\tx\0y\n")
    yield check("zero bytes in a line", zero, "^ +1 damaged")
    yield check("not UTF-8", lines("latin", good.encode() + b"a.png\t\xe9\n"), "latin.tsv:2: ", 2)
    million = lines("million", good + "word.png\t" + "x" * 10**6 + "\n")
    yield check("a label of a million characters", million, "1 too long|1 label")
    marks = lines("marks", good + "word.png\te" + "\u0301" * 10**6 + "\n")
    yield check("a million combining marks", marks, "1 too long|1 label")
    yield check("empty", lines("empty", ""), "no lines", 2)
    yield check("/dev/zero", "/dev/zero", "is not a file", 2)
    os.mkfifo(folder / "pipe.tsv")
    yield check("pipe that nobody writes to", "pipe.tsv", "pipe.tsv", 2)
    (folder / "holes.tsv").touch()
    os.truncate(folder / "holes.tsv", HOLE)
    yield check("3 GB of zeros", "holes.tsv", "holes.tsv", 2)
    (folder / "round").mkdir()
    (folder / "round" / "again").symlink_to("..")
    image(folder / "round" / "ab_1.png")
    yield check("folder with a link to the folder above", "round", "1 samples", 0)

    # images that are none; each stands beside a sound one
    def png(side: int) -> bytes:
        """A grey PNG that states so many pixels a side, and holds none."""
        parts = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))]
        parts += [(b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in parts
        )

    name_of["bomb, 65,535 x 65,535"] = write(folder / "bomb.png", png(65_535))
    name_of["of no bytes"] = write(folder / "none.png", b"")
    name_of["cut short"] = write(folder / "cut.png", content[:60])
    name_of["text"] = write(folder / "text.png", "no image")
    (folder / "folder.png").mkdir()
    (folder / "loop.png").symlink_to("loop.png")
    os.mkfifo(folder / "pipe.png")
    name_of |= {"a folder": "folder.png", "a link to itself": "loop.png"}
    name_of |= {"a pipe that nobody writes to": "pipe.png", "missing": "nowhere.png"}
    for name, path in name_of.items():
        file = lines("image", f"{good}{path}\tab\n")
        yield check(f"image: {name}", file, "^ +1 (?!image|duplicate)[a-z]")
        yield Case(f"the same in `demo`: {name}", ("demo", word, path), path)

    for i, (name, count, says) in enumerate(
        (
            ("LMDB that states 10^12 samples", b"1000000000000", "but there are 3 entries"),
            ("LMDB whose count is no number", b"many", "no number under 'num-samples'"),
        )
    ):
        store = folder / f"lmdb{i}"
        with lmdb.open(str(store), map_size=1 << 22) as opened, opened.begin(write=True) as put:
            put.put(b"image-000000001", content)
            put.put(b"label-000000001", b"ab")
            put.put(b"num-samples", count)
        yield check(name, store.name, says, 2)
    whole = (folder / "lmdb0" / "data.mdb").read_bytes()
    (folder / "lmdb2").mkdir()
    write(folder / "lmdb2" / "data.mdb", whole[: len(whole) // 2])
    yield check("LMDB cut in half", "lmdb2", "cut short|cannot be opened", 2)
    (folder / "shards").mkdir()
    write(folder / "shards" / "words-train.array_record-00000-of-00002", bytes(1 << 16))
    yield check("ArrayRecord with a shard missing", "shards", "shard|ArrayRecord", 2)
    write(folder / "shards" / "words-train.array_record-00001-of-00002", bytes(1 << 16))
    yield check("ArrayRecord of zeros", "shards", "ArrayRecord|no records", 2)
