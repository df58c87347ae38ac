"""Rendered words as a source of samples: images made from (seed, index) alone.

A sample has no file: its text, its size and its pixels are functions of the seed and of its
number, so that every process renders the same sample for itself, and numbers never run out. An
'epoch' is only a count; sample i of epoch e is number e * count + i.
"""

import functools
import hashlib
import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.data.source import Reasons
from crnn_jax.data.sources import parse_names
from crnn_jax.synthetic.atlas import Atlas, characters_for, load_atlas, open_atlas
from crnn_jax.synthetic.fonts import LIGATURES
from crnn_jax.synthetic.layout import Layout, lay_out
from crnn_jax.synthetic.render import draw_layers, paint
from crnn_jax.synthetic.rng import Rng
from crnn_jax.synthetic.styles import Style, easy, get_styles
from crnn_jax.synthetic.text import BUILTIN, Texts, word_list

COLORS = {"grey": 1, "rgb": 3}
FACE_TRIES = 12
LINE_FACE_TRIES = 200  # so that the faces of rare letters come by their weights, too
WIDEST_FACES = 24  # of which one draws any line
TEXTS_KEPT = 4096


@dataclass(frozen=True)
class _Look:
    """One style of the stream: what is written and drawn in it."""

    style: Style
    easy: Style
    texts: list[Texts]  # of each language
    face_sums: list[float]  # running sums of the weights of all faces
    monospaced_sums: list[float]  # the same of the monospaced ones; [] where none is asked for


class SyntheticSource:
    """Samples rendered from fonts and words; configs/mjsynth.py says what the keys mean."""

    windowed = True  # plans ask for labels and sizes window by window

    def __init__(self, config: Any, charset: Charset, seed: int = 0):
        low, high = config.heights if len(config.heights) == 2 else (0, 0)
        for key, value, good, wanted in (
            ("color", config.color, config.color in COLORS, "grey or rgb"),
            ("count", config.count, config.count >= 1, "at least 1"),
            ("heights", config.heights, 8 <= low <= high, "(low, high) from 8 pixels up"),
            ("max_aspect", config.max_aspect, 1 <= config.max_aspect < math.inf, "from 1 up"),
        ):
            if not good:
                raise UserError(f"synthetic.{key}={value!r}: {wanted} is expected")
        self.seed, self.charset = seed, charset
        self.count, self.max_aspect = int(config.count), float(config.max_aspect)
        self.channels, self.heights = COLORS[config.color], (int(low), int(high))
        self.name = f"synthetic:{config.style}"
        self.reasons, self.notes = Reasons(), Reasons()
        columns = characters_for(charset.characters, charset.ignore_case)
        styles, lists = get_styles(config.style), parse_names(config.words, "words") or [("", 1.0)]
        words = [(word_list(name), Path(name).stem) for name, _ in lists]
        self._path = open_atlas(config.fonts, columns, config.cache)
        self._check_faces()
        self._style_sums = list(accumulate(weight for _, weight in styles))
        self._list_sums = list(accumulate(weight for _, weight in lists))
        self.looks = [self._look(style, words) for style, _ in styles]
        self.texts = self.looks[0].texts[0]  # labels are the same in all
        for (name, _), texts in zip(lists, self.looks[0].texts, strict=True):
            if not texts.has_words and name not in ("", "auto", BUILTIN):
                raise UserError(f"{name}: the character table can write none of its words")
        self._written: dict[int, tuple[str, str]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Workers map the atlas themselves instead of receiving its pixels."""
        return {k: v for k, v in self.__dict__.items() if k != "atlas"} | {"_written": {}}

    @functools.cached_property
    def atlas(self) -> Atlas:
        """The glyphs, mapped from their file."""
        # images this small are drawn slower by several threads, and workers are many
        cv2.setNumThreads(1)
        return load_atlas(self._path)

    def _check_faces(self) -> None:
        """Which characters each face draws, as the bits of a number; all must be drawn by one."""
        usable = self.atlas.usable
        self._bit_of = {" ": 0} | {c: 1 << n for c, n in self.atlas.column_of.items()}
        bits = np.packbits(usable, axis=1, bitorder="little")
        self._usable = [int.from_bytes(row.tobytes(), "little") for row in bits]
        drawable = {c for c, n in self.atlas.column_of.items() if usable[:, n].any()}
        wanted = (c for c in self.charset.characters if not c.isspace())
        if missing := [c for c in wanted if not drawable & {c, c.upper(), c.lower()}]:
            raise UserError(f"synthetic.fonts: no face draws {' '.join(missing[:20])!r}")

    def _look(self, style: Style, words: list[tuple[tuple[str, ...], str]]) -> _Look:
        """Weights of the faces: families shrink to a power of their size, odd letters too."""
        atlas = self.atlas
        members = Counter(atlas.family.tolist())
        weight = [
            members[f] ** (style.heavy_families - 1.0) * s**style.usual_letters
            for f, s in zip(atlas.family.tolist(), atlas.score.tolist(), strict=True)
        ]
        named = np.array([re.search(style.faces, name) is not None for name in atlas.faces])
        chosen = np.array(weight) * (named if named.any() else 1.0)
        monospaced = chosen * atlas.monospaced if style.monospaced_share else chosen * 0.0
        if len(words) == 1 and not style.line_share:
            texts = [Texts(words[0][0], style, self.charset)]
        else:
            widest = np.argsort(-atlas.usable.sum(1), kind="stable")[:WIDEST_FACES].tolist()
            columns = atlas.column_of.items()
            faces = [frozenset(c for c, n in columns if atlas.usable[f, n]) for f in widest]
            texts = [Texts(w, style, self.charset, name, faces) for w, name in words]
        sums = [list(accumulate(w.tolist())) if w.any() else [] for w in (chosen, monospaced)]
        return _Look(style, easy(style), texts, sums[0], sums[1])

    def _choose(self, i: int) -> tuple[_Look, Texts]:
        """The style and the language of sample i."""
        if len(self._style_sums) == len(self._list_sums) == 1:
            return self.looks[0], self.texts
        rng = Rng(self.seed, "stream", i)
        look = self.looks[rng.index(self._style_sums)]
        return look, look.texts[rng.index(self._list_sums)]

    def __len__(self) -> int:
        return self.count

    def fingerprint(self) -> str:
        """Changes with everything that decides an image: fonts, words, style, seed, sizes."""
        with self._path.open("rb") as file:  # its name tells of paths and times of fonts
            glyphs = hashlib.file_digest(file, "sha256").hexdigest()
        parts = (glyphs, [k.style for k in self.looks], self.seed, self.heights, self.max_aspect)
        words = [texts.words_hash for texts in self.looks[0].texts]
        more = (self.channels, self.charset, words, self._style_sums, self._list_sums)
        return hashlib.sha256(repr((parts, more)).encode()).hexdigest()

    def _write(self, i: int) -> tuple[str, str]:
        """(drawn, label); kept a while, since a batch asks for labels, texts and images."""
        found = self._written.get(i)
        if found is None:
            if len(self._written) >= TEXTS_KEPT:
                self._written.clear()
            found = self._written[i] = self._choose(i)[1].write(self.seed, i)
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
        look, _ = self._choose(int(i))
        style = look.easy if rng.chance(look.style.easy_share) else look.style
        face, drawn = self._face_for(drawn, look, rng)
        if style.ligature_share and rng.chance(style.ligature_share):
            for letters, glyph in LIGATURES.items():
                if not self._needed(glyph) & ~self._usable[face]:
                    drawn = drawn.replace(letters, glyph)
        return lay_out(drawn, face, self.atlas, style, rng, self.heights, self.max_aspect)

    def _needed(self, text: str) -> int:
        """The bits of its characters; that of no face for one the atlas does not have."""
        bits, known, unknown = 0, self._bit_of, 1 << len(self._bit_of)
        for symbol in text:
            bits |= known.get(symbol, unknown)
        return bits

    def _face_for(self, drawn: str, look: _Look, rng: Rng) -> tuple[int, str]:
        """A face that draws every character; in the other case or without marks if none does."""
        needed, sums = self._needed(drawn), look.face_sums
        if look.monospaced_sums and rng.chance(look.style.monospaced_share):
            sums = look.monospaced_sums
        for _ in range(LINE_FACE_TRIES if look.style.line_share else FACE_TRIES):
            face = rng.index(sums)
            if not needed & ~self._usable[face]:
                return face, drawn
        label, count = self.texts.label(drawn), len(self._usable)
        start = bisect_left(look.face_sums, rng.random() * look.face_sums[-1])
        for text in (drawn, label, label.upper(), label.lower()):
            needed = self._needed(text)
            for face in (number % count for number in range(start, start + count)):
                if not needed & ~self._usable[face] and self.texts.label(text) == label:
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
