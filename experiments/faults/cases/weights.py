"""Weights of other projects, given to `import_weights`."""

import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

from experiments.faults.cases.case import Case, write
from tests.testdata.pth_files import (
    PROTO,
    STOP,
    crnn,
    dictionary,
    legacy,
    number,
    storage,
    tensor,
    zipped,
)


class Payload:
    """Unpickled, it would run a command."""

    def __reduce__(self):
        return os.system, ("touch ran",)


def cases(folder: Path) -> Iterator[Case]:
    def case(name: str, path: Path | str, says: str, code: int = 2) -> Case:
        file = Path(path).name
        words = ("import_weights", file, "--alphabet", "ab", "-o", "model.safetensors")
        return Case(name, words, says, code)

    pickled, block = crnn()
    sound = zipped(folder / "sound.pth", pickled, {"0": block})
    yield case("(sound, for comparison)", sound, "model.safetensors", 0)
    evil = pickle.dumps({"cnn.conv0.weight": Payload()})
    says = "its pickle wants to run 'posix.system'"
    yield case("pickle that runs a command", zipped(folder / "evil.pth", evil), says)
    yield case("the same in the old format", legacy(folder / "old.pth", evil, 6), says)
    content = sound.read_bytes()
    yield case("cut in half", write(folder / "cut.pth", content[: len(content) // 2]), "cut.pth: ")
    bomb = zipped(folder / "bomb.pth", pickled, {"0": bytes(1 << 28)}, zipfile.ZIP_DEFLATED)
    yield case("archive that unpacks to more", bomb, "compressed")
    for name, changes in (
        ("tensor of 10^21 numbers", {"size": (1 << 35, 1 << 35)}),
        ("tensor behind its storage's end", {"offset": 1 << 62}),
        ("storage of 10^18 numbers", {"block": storage(length=1 << 60)}),
        ("storage outside the archive", {"block": storage(key="../data.pkl")}),
    ):
        path = zipped(folder / "lies.pth", dictionary(a=tensor(**changes)))
        yield case(name, path, "damaged|holds no tensors")
    nested = tensor()
    for level in range(7):
        again = b"h" + bytes([level])
        nested = b"](" + nested + b"q" + bytes([level]) + again * 60 + b"e"
    path = zipped(folder / "nested.pth", dictionary(a=nested))
    yield case("lists in lists, 60^7 in the end", path, "over 100,000 tensors")
    marks = PROTO + b"N" * 200_000 + b"(t" * 200_000 + STOP
    yield case(
        "marks looked for again and again", zipped(folder / "marks.pth", marks), "no tensors"
    )
    yield case("a number", zipped(folder / "number.pth", dictionary(a=number(1))), "no tensors")

    import h5py

    with h5py.File(folder / "sound.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv1"]
        group = file.create_group("conv1")
        group.attrs["weight_names"] = [b"conv1/kernel:0"]
        group["conv1/kernel:0"] = [0.0] * 100
    content = (folder / "sound.h5").read_bytes()
    cut = write(folder / "cut.h5", content[: len(content) // 2])
    yield case("HDF5 cut in half", cut, "damaged or cut short")
    for place in (2072, 6969):
        harmed = bytearray(content)
        harmed[place % len(content)] = 255
        path = folder / f"byte{place}.h5"
        yield case(f"HDF5 with byte {place} overwritten", write(path, bytes(harmed)), path.name)
    with h5py.File(folder / "link.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv1"]
        group = file.create_group("conv1")
        group.attrs["weight_names"] = [b"conv1/kernel:0"]
        group["conv1/kernel:0"] = h5py.ExternalLink("sound.h5", "conv1/conv1/kernel:0")
    yield case("HDF5 that points to another file", "link.h5", "damaged or cut short")
    with zipfile.ZipFile(folder / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", b"")
        archive.writestr("config.json", b" " * 10**8)
    yield case("Keras archive that unpacks to more", "bomb.keras", "too large")
    (folder / "saved" / "variables").mkdir(parents=True)
    write(folder / "saved" / "saved_model.pb", bytes(100))
    write(folder / "saved" / "variables" / "variables.index", bytes(100))
    yield case("SavedModel of zeros", "saved", "damaged|no SavedModel")
