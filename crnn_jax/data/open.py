"""From a config to sources: `data.train`, `data.validation` and how one is parted for the other."""

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.characters import characters_of, table_of
from crnn_jax.data.files import FileSource
from crnn_jax.data.mixture import MixedSource
from crnn_jax.data.named import load
from crnn_jax.data.plan import Plan
from crnn_jax.data.source import Source
from crnn_jax.data.split import Subset, split
from crnn_jax.data.stored import open_stored
from crnn_jax.data.usable import trainable

SYNTHETIC = "synthetic"
RENDERED = "crnn_jax.synthetic.source:SyntheticSource"
# Rendered words for validation come from a stream of their own.
VALIDATION_SEED = 1_000_003


def open_sources(
    config: Any, charset: Charset, preprocessing: Preprocessing, geometry: str
) -> tuple[Source, list[Source]]:
    """Opens what a config names.

    Args:
        config: with `seed`, `synthetic` and data.{train, validation, images, format, unknown,
            split, replay, max_label_length, cache}. `train` and `validation` name annotation files,
            folders labelled by their file names, LMDB folders, folders of ArrayRecord shards,
            and 'synthetic'; several with commas, each
            with a weight if wanted: 'a.txt,b.txt*2,synthetic*0.5'. With `validation` empty,
            `split` tells what is kept from the training files ('' or 'none', '10%', 'k/n').
        charset: turns labels into class ids.
        preprocessing, geometry: tell what fits its width, where sources are mixed.

    Returns:
        (the training source, the validation sources in the order named, maybe none).

    Raises:
        UserError: a name that is no file, a line that fits no format, labels that fail on case
            alone (more than 1 %), a folder of pictures that is not there.
    """
    data = config.data
    if not data.train:
        raise UserError("data.train='': name an annotation file, a folder, or 'synthetic'")
    names = parse_names(data.train, "data.train")
    if data.replay < 0:
        raise UserError(f"data.replay={data.replay}: a share of the training samples, 0 for none")
    train: list[Source] = []
    validation: list[Source] = []
    part = data.split if data.split not in ("", "none") and not data.validation else ""
    for name, _ in names:
        source = _open(name, config, charset, preprocessing, config.seed)
        if part and isinstance(source, FileSource):
            source, held_out = split(source, part)
            validation.append(held_out)
        train.append(source)
    if part and not validation:
        raise UserError(f"data.split={part!r}: there is no file to part; name data.validation")
    for name, weight in parse_names(data.validation, "data.validation"):
        seed = config.seed + VALIDATION_SEED
        source = _open(name, config, charset, preprocessing, seed)
        if weight != 1 and not source.windowed:
            raise UserError(f"data.validation: {name}*{weight:g}: every sample counts once")
        validation.append(source if weight == 1 else MixedSource([source], [weight], seed))
    weights = [weight for _, weight in names]
    if data.replay:
        own = sum(weight * len(source) for weight, source in zip(weights, train, strict=True))
        train.append(_open(SYNTHETIC, config, charset, preprocessing, config.seed))
        weights.append(data.replay * own / len(train[-1]))
    if weights == [1.0]:
        return train[0], validation
    able = [_trainable(s, preprocessing, geometry, data.max_label_length) for s in train]
    return MixedSource(able, weights, config.seed), validation


def charset_of(config: Any) -> Charset:
    """The characters that `config.charset` states, by a table file or themselves.

    Where it states neither they are those of the training labels.

    Raises:
        UserError: both are given, the table is none, or there are no labels to take them from.
    """
    wanted = config.charset
    if wanted.table and wanted.characters:
        raise UserError("charset.table, charset.characters: set one of the two, or none")
    if not wanted.table and not wanted.characters:
        return _charset_of_labels(config)
    if wanted.table:
        return Charset.read(wanted.table, ignore_case=wanted.ignore_case)
    return Charset.from_characters(wanted.characters, ignore_case=wanted.ignore_case)


def _charset_of_labels(config: Any) -> Charset:
    data = config.data
    names = [n for n, _ in parse_names(data.train, "data.train") if n != SYNTHETIC]
    counted = [characters_of(n, format=data.format, images=data.images) for n in names]
    everything = sum(counted, Counter())
    if not everything:
        raise UserError("charset.table='': no labels to take the characters from; name a table")
    return table_of(everything, config.charset.ignore_case)


def preprocessing_of(config: Any, origin: Preprocessing | None = None) -> Preprocessing:
    """The rule that `config.preprocessing` states.

    Args:
        config: its values 0 (of `width` -1) leave it to the model that training starts from.
        origin: of that model; None: the defaults. What has no config key is always its own.

    Raises:
        UserError: a value that makes no sense.
    """
    wanted, origin = config.preprocessing, origin or Preprocessing()
    return dataclasses.replace(
        origin,
        channels=wanted.channels or origin.channels,
        height=wanted.height,
        width=origin.width if wanted.width == -1 else wanted.width,
        min_width=wanted.min_width or origin.min_width,
        max_width=wanted.max_width or origin.max_width,
    )


def plan_of(
    config: Any, source: Source, preprocessing: Preprocessing, geometry: str, *, evaluation: bool
) -> Plan:
    """The batches of a source: shuffled for training; every sample once for evaluation."""
    return Plan(
        source,
        batch_size=config.evaluation.batch_size if evaluation else config.batch_size,
        boundaries=config.data.boundaries,
        max_label_length=config.data.max_label_length,
        preprocessing=preprocessing,
        geometry=geometry,
        seed=config.seed,
        shuffle=not evaluation,
        all=evaluation,
    )


def parse_names(names: str | Sequence[str], key: str) -> list[tuple[str, float]]:
    """'a.txt,b.txt*2' -> [('a.txt', 1.0), ('b.txt', 2.0)]; a list of such names will do too.

    Raises:
        UserError: a weight that is not positive; `key` is the config key to name.
    """
    # A file may have a comma or a star in its name.
    whole = isinstance(names, str) and (os.path.exists(names) or "," not in names)
    parts = ([names] if whole else names.split(",")) if isinstance(names, str) else list(names)
    parsed = []
    for part in parts:
        name, weight = part.strip(), 1.0
        match = re.fullmatch(r"(.+)\*\s*([0-9.eE+-]+)", name)
        if match and not os.path.exists(name):
            try:
                name, weight = match[1].strip(), float(match[2])
            except ValueError:
                raise UserError(f"{key}: {part!r}: the weight must be a number") from None
            if not 0 < weight < float("inf"):
                raise UserError(f"{key}: {part!r}: the weight must be positive")
        if name:
            parsed.append((name, weight))
    return parsed


def _open(name: str, config: Any, charset: Charset, preprocessing: Preprocessing, seed: int) -> Any:
    """A source by its name in the config."""
    if name == SYNTHETIC:
        return load(RENDERED, "data.train")(config.synthetic, charset, seed=seed)
    data = config.data
    source = open_stored(
        name,
        charset,
        format=data.format,
        images=data.images,
        unknown=data.unknown,
        channels=preprocessing.channels,
        cache=data.cache,
    )
    source.require_case()
    source.require_pictures()
    return source


def _trainable(
    source: Any, preprocessing: Preprocessing, geometry: str, max_label_length: int
) -> Any:
    """The samples that can be trained on: a mixture repeats some, and must not repeat others."""
    if source.windowed:
        return source
    usable, reasons = trainable(source, preprocessing, geometry, max_label_length)
    if not usable.any():
        raise UserError(f"{source.name}: no sample can be trained on ({reasons.lines()[0]})")
    return Subset(source, np.flatnonzero(usable), reasons=reasons)
