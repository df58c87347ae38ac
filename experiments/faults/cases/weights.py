"""Weights of other projects, given to `import_weights`."""

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

from experiments.faults.cases.case import Case, write
from tests.testdata.pth_files import crnn, dictionary, number, storage, tensor, zipped


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
    says = "its pickle imports posix.system"
    yield case("pickle that runs a command", zipped(folder / "evil.pth", evil), says)
    yield case("the old format", write(folder / "old.pth", evil), "a bare pickle")
    content = sound.read_bytes()
    yield case("cut in half", write(folder / "cut.pth", content[: len(content) // 2]), "cut.pth: ")
    for name, changes in (
        ("tensor of 10^21 numbers", {"size": (1 << 35, 1 << 35)}),
        ("tensor behind its storage's end", {"offset": 1 << 62}),
        ("storage outside the archive", {"block": storage(key="../data.pkl")}),
    ):
        path = zipped(folder / "lies.pth", dictionary(a=tensor(**changes)))
        yield case(name, path, "damaged")
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
