"""Everything that a command writes, where a file may grow to a few hundred bytes only."""

from collections.abc import Iterator
from pathlib import Path

from crnn_jax.synthetic.atlas import characters_for, open_atlas
from experiments.faults.cases.case import Case, image, write
from tests.testdata.pth_files import crnn, zipped
from tests.testdata.tiny_model import write_tiny_model

ROOM = 100  # bytes


def cases(folder: Path) -> Iterator[Case]:
    def full(name: str, *arguments: str, says: str = "") -> Case:
        return Case(name, arguments, f"{says or arguments[-1]}.*: cannot be written: ", room=ROOM)

    word = image(folder / "word.png")
    labels = write(folder / "labels.tsv", f"{word}\tword\n" * 40)
    model = Path(write_tiny_model(folder / "tiny.safetensors")).name
    reads = ("-m", model, "--decoder", "greedy")
    yield full("readings", "demo", *[word] * 20, *reads, "-o", "readings.txt")
    beam = ("demo", word, "-m", model, "--decoder", "beam")
    no_room = "no room for the compiled beam search"
    caches = {"NUMBA_CACHE_DIR": str(folder / "new")}
    yield Case("compiled functions", beam, no_room, room=ROOM, environment=caches)
    yield full("labels", "demo", *[word] * 20, *reads, "--write_annotations", "new.tsv")
    yield full("what check found", "check", "-a", labels, "--json", "-o", "found.json")
    yield full("predictions", "evaluate", "-a", labels, *reads, "-o", "predictions.tsv")
    yield full("a report", "evaluate", "-a", labels, *reads, "--report", "report")
    glyphs = open_atlas("builtin", characters_for("", ignore_case=True), str(folder))
    fonts = ("--fonts", glyphs.name)
    yield full("rendered words", "synthesize", *fonts, "--count", "3", "-o", "words")
    yield full("a contact sheet", "synthesize", *fonts, "--sheet", "sheet.png")
    write(folder / "text", "words " * 100)
    yield full("a language model", "language_model", "text", "-o", "text.arpa")
    yield full("shards", "shards", "-a", labels, "-o", "shards")
    pickled, block = crnn()
    zipped(folder / "sound.pth", pickled, {"0": block})
    imported = ("import_weights", "sound.pth", "--alphabet", "ab", "-o", "imported.safetensors")
    yield full("imported weights", *imported, says="imported.safetensors")
    for form in ("saved_model", "tflite", "keras", "stablehlo", "onnx"):
        name = "word.h5" if form == "keras" else f"word.{form}"
        yield full(f"an export: {form}", "export", "-m", model, "--format", form, "-o", name)
    written = sorted(path.name for path in folder.iterdir())
    assert not any("partial" in name or name.endswith(".tmp") for name in written), written
