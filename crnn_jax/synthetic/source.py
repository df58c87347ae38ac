"""Rendered words as a source of samples: images made from (seed, index) alone.

A sample has no file: its text, its size and its pixels are functions of the seed and of its
number, so that every process renders the same sample for itself, and numbers never run out. An
'epoch' is only a count; sample i of epoch e is number e * count + i.
"""

import functools
import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import cv2
import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.data.source import Reasons
from crnn_jax.synthetic.atlas import Atlas, characters_for, load_atlas, open_atlas
from crnn_jax.synthetic.layout import Layout, lay_out
from crnn_jax.synthetic.render import draw_layers, paint
from crnn_jax.synthetic.rng import Rng
from crnn_jax.synthetic.styles import easy, get_style
from crnn_jax.synthetic.text import Texts, word_list

COLORS = {"grey": 1, "rgb": 3}
FACE_TRIES = 12
TEXTS_KEPT = 4096


class SyntheticSource:
    """Samples rendered from fonts and words; configs/mjsynth.py says what the keys mean."""

    windowed = True  # plans ask for labels and sizes window by window

    def __init__(self, config: Any, charset: Charset, seed: int = 0):
        if config.color not in COLORS:
            raise UserError(f"synthetic.color={config.color!r}: grey or rgb is expected")
        if config.count < 1:
            raise UserError(f"synthetic.count={config.count}: at least 1 is expected")
        self.seed, self.charset = seed, charset
        self.style = get_style(config.style)
        self._easy = easy(self.style)
        self.count, self.max_aspect = int(config.count), float(config.max_aspect)
        self.channels = COLORS[config.color]
        low, high = config.heights
        self.heights = (int(low), int(high))
        self.name = f"synthetic:{config.style}"
        self.reasons, self.notes = Reasons(), Reasons()
        self.texts = Texts(word_list(config.words), self.style, charset)
        columns = characters_for(charset.characters, charset.ignore_case)
        self._path = open_atlas(config.fonts, columns, config.cache)
        self._written: dict[int, tuple[str, str]] = {}
        self._choose_faces()

    def __getstate__(self) -> dict[str, Any]:
        """Workers map the atlas themselves instead of receiving its pixels."""
        return {k: v for k, v in self.__dict__.items() if k != "atlas"} | {"_written": {}}

    @functools.cached_property
    def atlas(self) -> Atlas:
        """The glyphs, mapped from their file."""
        # images this small are drawn slower by several threads, and workers are many
        cv2.setNumThreads(1)
        return load_atlas(self._path)

    def _choose_faces(self) -> None:
        """Weights of the faces: families shrink to a power of their size, odd letters too."""
        atlas = self.atlas
        known = atlas.column_of
        self._usable = [
            frozenset(c for c, n in known.items() if row[n]) for row in atlas.usable.tolist()
        ]
        drawable = frozenset().union(*self._usable)
        missing = [
            c for c in self.charset.characters
            if not c.isspace() and not drawable & {c, c.upper(), c.lower()}
        ]  # fmt: skip
        if missing:
            raise UserError(f"synthetic.fonts: no face draws {' '.join(missing[:20])!r}")
        members = Counter(atlas.family.tolist())
        weight = [
            members[f] ** (self.style.heavy_families - 1.0) * s**self.style.usual_letters
            for f, s in zip(atlas.family.tolist(), atlas.score.tolist(), strict=True)
        ]
        self._face_sums = list(accumulate(weight))

    def __len__(self) -> int:
        return self.count

    def fingerprint(self) -> str:
        """Changes with everything that decides an image: fonts, words, style, seed, sizes."""
        with self._path.open("rb") as file:  # its name tells of paths and times of fonts
            glyphs = hashlib.file_digest(file, "sha256").hexdigest()
        parts = (glyphs, self.style, self.seed, self.heights, self.max_aspect)
        more = (self.channels, self.charset, self.texts.words_hash)
        return hashlib.sha256(repr((parts, more)).encode()).hexdigest()

    def _write(self, i: int) -> tuple[str, str]:
        """(drawn, label); kept a while, since a batch asks for labels, texts and images."""
        found = self._written.get(i)
        if found is None:
            if len(self._written) >= TEXTS_KEPT:
                self._written.clear()
            found = self._written[i] = self.texts.write(self.seed, i)
        return found

    def text(self, i: int) -> str:
        """The label of sample i, folded as the table asks."""
        return self._write(int(i))[1]

    def identity(self, i: int) -> str:
        """What to call sample i in a message."""
        return f"{self.name}/{self.seed}/{int(i)}"

    def labels_of(self, ids: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
        """Class ids of these samples: flat int32, and offsets int64 [m + 1]."""
        encoded = [self.charset.encode(self.text(i))[0] for i in ids]
        offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        return np.concatenate([np.zeros(0, np.int32), *encoded]), offsets

    @property
    def usable(self) -> np.ndarray:
        """bool [n], all True."""
        return np.ones(self.count, bool)

    def layout(self, i: int) -> Layout:
        """All choices of shape of sample i; nothing is drawn."""
        drawn, _ = self._write(int(i))
        rng = Rng(self.seed, "shape", int(i))
        style = self._easy if rng.chance(self.style.easy_share) else self.style
        face, drawn = self._face_for(drawn, rng)
        return lay_out(drawn, face, self.atlas, style, rng, self.heights, self.max_aspect)

    def _face_for(self, drawn: str, rng: Rng) -> tuple[int, str]:
        """A face that draws every character; in the other case or without marks if none does."""
        needed = frozenset(drawn) - {" "}
        for _ in range(FACE_TRIES):
            face = rng.index(self._face_sums)
            if needed <= self._usable[face]:
                return face, drawn
        label, count = self.texts.label(drawn), len(self._usable)
        start = bisect_left(self._face_sums, rng.random() * self._face_sums[-1])
        for text in (drawn, label, label.upper(), label.lower()):
            needed = frozenset(text) - {" "}
            for face in (number % count for number in range(start, start + count)):
                if needed <= self._usable[face] and self.texts.label(text) == label:
                    return face, text
        raise UserError(f"synthetic.fonts: no single face draws {drawn!r}")

    def sizes(self, ids: Iterable[int]) -> np.ndarray:
        """int32 [m 2]: height and width in pixels; nothing is drawn."""
        found = [(at.height, at.width) for at in map(self.layout, ids)]
        return np.array(found, np.int32).reshape(-1, 2)

    def draw(self, i: int) -> np.ndarray:
        """The image of sample i: uint8 [h w c]."""
        rng = Rng(self.seed, "look", int(i))
        layout = self.layout(i)
        layers = draw_layers(layout, self.atlas, rng)
        return paint(layers, layout.boxes, layout.style, rng, self.channels)

    def read(self, ids: Iterable[int]) -> list[np.ndarray]:
        """The images of these samples."""
        return [self.draw(i) for i in ids]
