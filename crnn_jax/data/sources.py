"""From a config to sources and plans: `data.train`, `data.validation`, how one is split off."""

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.annotations import resolve
from crnn_jax.data.files import FileSource
from crnn_jax.data.mixture import MixedSource
from crnn_jax.data.source import Source, trainable

SYNTHETIC = "synthetic"
RENDERED = "crnn_jax.synthetic.source:SyntheticSource"
VALIDATION_SEED = 1_000_003  # rendered words for validation are other ones


def open_sources(
    config: Any, charset: Charset, channels: int
) -> tuple[list[Any], list[float], list[Source]]:
    """The training sources that a config names, their weights, and validation sources, maybe none.

    `data.train` and `data.validation` name whatever `FileSource` opens, and 'synthetic'; several
    with commas, each with a weight if wanted: 'a.txt,b.txt*2,synthetic*0.5'. With `validation`
    empty, `data.split` says what is held out of the training files.
    """
    data = config.data
    if not data.train:
        raise UserError("data.train='': name an annotation file, a folder, or 'synthetic'")

    def open_one(name: str, seed: int) -> Any:
        if name == SYNTHETIC:
            return resolve(RENDERED, "data.train")(config.synthetic, charset, seed=seed)
        options = {key: getattr(data, key) for key in ("format", "images", "unknown", "cache")}
        source = FileSource(name, charset, channels=channels, **options)
        source.require_case()
        source.require_images()
        return source

    names = parse_names(data.train, "data.train")
    train: list[Any] = []
    validation: list[Source] = []
    part = data.split if data.split not in ("", "none") and not data.validation else ""
    for name, _ in names:
        source = open_one(name, config.seed)
        if part and isinstance(source, FileSource):
            source, held_out = source.split(part)
            validation.append(held_out)
        train.append(source)
    if part and not validation:
        raise UserError(f"data.split={part!r}: there is no file to split; name data.validation")
    for name, weight in parse_names(data.validation, "data.validation"):
        seed = config.seed + VALIDATION_SEED
        source = open_one(name, seed)
        if weight != 1 and not source.windowed:
            raise UserError(f"data.validation: {name}*{weight:g}: every sample counts once")
        validation.append(source if weight == 1 else MixedSource([source], [weight], seed))
    weights = [weight for _, weight in names]
    if data.synthetic_ratio:
        own = sum(weight * len(source) for weight, source in zip(weights, train, strict=True))
        train.append(open_one(SYNTHETIC, config.seed))
        weights.append(data.synthetic_ratio * own / len(train[-1]))
    return train, weights, validation


def mixed(
    config: Any, sources: list[Any], weights: list[float], rule: Preprocessing, geometry: str
) -> Source:
    """One source of several: their mixture."""
    if weights == [1.0]:
        return sources[0]
    train = list(sources)
    for k, source in enumerate(sources):
        if not source.windowed:  # a mixture repeats samples, and must not repeat unusable ones
            able, reasons = trainable(source, rule, geometry, config.data.max_label_length)
            if not able.any():
                why = reasons.lines()[0]
                raise UserError(f"{source.name}: no sample can be trained on ({why})")
            if round(weights[k] * able.sum()) == 0:
                raise UserError(f"data.train: {source.name}*{weights[k]:g} gives no sample")
            train[k] = source.part(np.flatnonzero(able), reasons=reasons)
    return MixedSource(train, weights, config.seed)


def charset_of(config: Any, kept: Iterable[str] = ()) -> Charset:
    """The characters that `config.charset` gives, or else those of the training labels.

    With `charset.keep` also `kept`, those of the model that training starts from.
    """
    wanted, data = config.charset, config.data
    if wanted.table and wanted.characters:
        raise UserError("charset.table, charset.characters: set one of the two, or none")
    if wanted.table:
        return Charset.read(wanted.table, ignore_case=wanted.ignore_case)
    if wanted.characters:
        return Charset.from_characters(wanted.characters, ignore_case=wanted.ignore_case)
    names = [n for n, _ in parse_names(data.train, "data.train") if n != SYNTHETIC]
    characters = count_characters(names, data.format, data.images, data.cache)
    if not characters:
        raise UserError("charset.table='': no labels to take the characters from; name a table")
    every = [*characters, *(kept if config.charset.keep else ())]
    return charset_from(every, wanted.ignore_case)


def count_characters(
    names: Sequence[str],
    format: str,  # noqa: A002
    images: str,
    cache: bool = True,
) -> Counter[str]:
    """Every character of the labels of sets (NFC); arguments as `FileSource`."""
    nothing = Charset.from_characters("\U0010fffd")  # a private character: all others are unknown
    options: dict[str, Any] = {"format": format, "images": images, "unknown": "strip"}
    found = (FileSource(name, nothing, cache=cache, **options).index.unknown for name in names)
    return sum(found, Counter())


def charset_from(characters: Iterable[str], ignore_case: bool) -> Charset:
    """A character table of all of them, sorted; in lower case where case is ignored."""
    wanted = set(characters)
    if ignore_case:  # Σ is lowered to σ, or to ς at the end of a word; İ to i
        wanted = {c.lower()[0] for c in wanted} | ({"ς"} if "Σ" in wanted else set())
    charset = Charset.from_characters(sorted(wanted))
    return dataclasses.replace(charset, ignore_case=ignore_case)


def parse_names(names: str, key: str) -> list[tuple[str, float]]:
    """'a.txt,b.txt*2' -> [('a.txt', 1.0), ('b.txt', 2.0)]; `key` is the config key to name."""
    # A file may have a comma or a star in its name.
    parts = [names] if os.path.exists(names) else names.split(",")
    parsed = []
    for part in filter(None, map(str.strip, parts)):
        match = re.fullmatch(r"(.+)\*\s*([0-9.eE+-]+)", part)
        if not match or os.path.exists(part):
            parsed.append((part, 1.0))
            continue
        try:
            weight = float(match[2])
        except ValueError:
            weight = 0.0
        if not 0 < weight < float("inf"):
            raise UserError(f"{key}: {part!r}: the weight must be a positive number")
        parsed.append((match[1].strip(), weight))
    return parsed
