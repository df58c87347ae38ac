"""Model files and names that are none, given to `demo -m`."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from crnn_jax.core.model_file import (
    _digest,
    load_model,
    read_safetensors,
    save_model,
    write_safetensors,
)
from experiments.faults.cases.case import HOLE, Case, image, write

SHIPPED = Path(__file__).resolve().parents[3] / "crnn_jax/weights/en_36.safetensors"


def cases(folder: Path) -> Iterator[Case]:
    word = image(folder / "word.png")

    def case(name: str, model: str, says: str) -> Case:
        return Case(name, ("demo", word, "--decoder", "greedy", "-m", model), says)

    def file(name: str, content: bytes) -> str:
        return write(folder / f"{name}.safetensors", content)

    def raw(name: str, header: bytes) -> str:
        return file(name, struct.pack("<Q", len(header)) + header)

    sound = SHIPPED.read_bytes()
    yield case("cut short", file("cut", sound[:-1000]), "no safetensors file")
    flipped = bytearray(sound)
    flipped[len(sound) // 2] ^= 1
    yield case("one bit flipped", file("flipped", bytes(flipped)), "damaged")
    yield case(
        "header of 4 EB", file("long", struct.pack("<Q", 1 << 62) + b"{"), "header too large"
    )
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    yield case("header nested 100,000 deep", raw("deep", deep), "no safetensors file")
    yield case("a name twice", raw("twice", b'{"a": {}, "a": {}}'), "no safetensors file")

    arrays, _ = read_safetensors(SHIPPED)
    variables, metadata = load_model(SHIPPED)
    for what, changed, says in (
        ("metadata nested 100,000 deep", "[" * 100_000, "metadata cannot be read"),
        ("metadata of a later version", '{"format": 2}', "format 2 of a newer crnn_jax"),
    ):
        path = folder / f"{what.split()[-1]}.safetensors"
        write_safetensors(path, arrays, {"crnn_jax": changed, "sha256": _digest(arrays, changed)})
        yield case(what, path.name, says)
    symbols = [c for c in map(chr, range(1 << 20)) if not "\ud800" <= c <= "\udfff"] + ["<BLK>"]
    for what, key, value, says in (
        ("table of a million characters", "charset", symbols, "charset: "),
        ("images a million high", "preprocessing", {"height": 10**6}, "must be 1 to 1,024"),
        ("temperature 0", "temperature", 0, "temperature=0"),
    ):
        path = folder / f"{key}.safetensors"
        old = metadata[key]
        new = old | value if isinstance(value, dict) else value
        save_model(path, variables, metadata | {key: new})
        yield case(what, path.name, says)
    next(iter(variables["params"]["conv1"].values()))[...] = float("nan")
    save_model(folder / "nan.safetensors", variables, metadata)
    yield case("weights that are NaN", "nan.safetensors", "not finite")
    yield case("image as a model", word, "no safetensors file|no model")
    (folder / "empty").mkdir()
    yield case("empty folder", "empty", "no model|workdir")
    (folder / "loop").symlink_to("loop")
    yield case("link to itself", "loop", "cannot be read|no such")
    (folder / "holes").touch()
    os.truncate(folder / "holes", HOLE)
    yield case("3 GB of zeros", "holes", "no safetensors file|damaged")
