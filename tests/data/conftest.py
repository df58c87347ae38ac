"""Small labelled sets in temporary folders."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from crnn_jax.core.charset import Charset
from crnn_jax.data.source import Reasons, gather

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def write_picture(path: Path, height: int, width: int, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def words(tmp_path_factory):
    """A TSV annotation of 100 images, widths 20 to 200 at height 20 to 50; each fits its width."""
    folder = tmp_path_factory.mktemp("words")
    rng = np.random.default_rng(1)
    labels, sizes = [], []
    for i in range(100):
        size = (int(rng.integers(20, 50)), int(rng.integers(20, 200)))
        write_picture(folder / f"images/{i}.png", *size, seed=i)
        labels.append("".join(rng.choice(list(LETTERS), int(rng.integers(1, 4)), replace=False)))
        sizes.append(size)
    path = folder / "labels.tsv"
    path.write_text("".join(f"images/{i}.png\t{label}\n" for i, label in enumerate(labels)))
    charset = Charset.from_characters(LETTERS)
    return SimpleNamespace(path=path, labels=labels, sizes=sizes, charset=charset)


class FakeSource:
    """Labels and sizes given directly; the pixels of sample i are 1 + i."""

    windowed = False

    def __init__(self, labels, sizes, usable=None, name="fake"):
        self.name = name
        self._labels = [list(label) for label in labels]
        self._sizes = np.array(sizes, np.int32).reshape(-1, 2)
        self.usable = np.ones(len(labels), bool) if usable is None else np.array(usable, bool)
        self.reasons, self.notes = Reasons(), Reasons()
        self.reasons.add("marked", count=int((~self.usable).sum()))

    def __len__(self):
        return len(self._labels)

    def labels_of(self, ids):
        flat = np.array([i for label in self._labels for i in label], np.int32)
        return gather(flat, np.cumsum([0, *map(len, self._labels)]), np.asarray(ids) % len(self))

    def sizes(self, ids):
        return self._sizes[np.asarray(ids) % len(self)]

    def read(self, ids):
        sizes = zip(ids, self.sizes(ids), strict=True)
        return [np.full((*size, 1), 1 + i % 255, np.uint8) for i, size in sizes]

    def text(self, index):
        return "".join(LETTERS[i % 26] for i in self._labels[index % len(self)])

    def identity(self, index):
        return f"{self.name}/{index}"


class EndlessSource(FakeSource):
    """The same, but every epoch has samples of its own, as rendered words have."""

    windowed = True
