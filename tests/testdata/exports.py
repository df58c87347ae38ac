"""A tiny model as exports take it, with pictures of several widths to compare on."""

import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from crnn_jax.core.charset import Charset
from crnn_jax.reading.loaded_model import LoadedModel
from tests.testdata.tiny_model import CHARSET, noise_pictures, tiny_metadata, tiny_variables


class LazyTensorFlow:
    """TensorFlow, imported on first use: else every process that collects tests would import it."""

    def __getattr__(self, name):
        import tensorflow

        return getattr(tensorflow, name)


tf = LazyTensorFlow()


def tiny_model(table: Charset = CHARSET, **changes) -> LoadedModel:
    """The tiny network with random weights; `changes` as in `tiny_metadata`."""
    variables, _ = tiny_variables(
        table.num_classes, changes.get("preprocessing", {}).get("channels", 1)
    )
    return LoadedModel.of(variables, tiny_metadata(table, **changes), "tiny")


def calm(model: LoadedModel) -> LoadedModel:
    """The same with weights as small as trained ones: texts are less certain, roundings small."""
    params = dict(model.variables["params"])
    for name, factor in (("bi_lstm1", 3), ("bi_lstm2", 3), ("logits", 8)):
        params[name] = jax.tree.map(lambda a, f=factor: a / f, params[name])
    return dataclasses.replace(model, variables=model.variables | {"params": params})


@functools.cache
def resized(count: int = 4, seed: int = 0) -> list[np.ndarray]:
    """uint8 [32 w 1] of several widths."""
    rule = tiny_model().preprocessing
    return [rule.resize(picture[..., None]) for picture in noise_pictures(count, seed)]


def read_by_model(model: LoadedModel, images, post: str = "greedy", beam_width: int = 1):
    """(logits [t k] of each, text of each) of resized pictures."""
    from crnn_jax.exporting.plan import ExportPlan
    from crnn_jax.exporting.verify import Reference

    beam = {"beam_width": beam_width} if post == "beam_search" else {}
    return Reference(model, ExportPlan("x", "saved_model", post, **beam)).read(images)


def padded(images: list[np.ndarray], level: int = 77) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [b 32 w 1] with that level right of each picture, widths int32 [b])."""
    widths = np.array([image.shape[1] for image in images], np.int32)
    batch = np.full((len(images), 32, widths.max(), 1), level, np.uint8)
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[1]] = image
    return batch, widths


def write_annotated(folder: Path, model: LoadedModel, count: int = 6) -> str:
    """Pictures, two of three labelled by what the model reads, and a damaged one at the end."""
    pictures = noise_pictures(count)
    images = [model.preprocessing.resize(picture[..., None]) for picture in pictures]
    _, texts = read_by_model(model, images)
    lines = []
    for i, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
        Image.fromarray(picture).save(folder / f"{i}.png")
        lines.append(f"{i}.png\t{text if i % 3 else 'wrong'}\n")
    (folder / "damaged.png").write_bytes(b"no picture")
    lines.append("damaged.png\tdamaged\n")
    path = folder / "labels.tsv"
    path.write_text("".join(lines))
    return str(path)
