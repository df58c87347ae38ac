"""What this package reads in the pictures that an exported file is compared on."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crnn_jax.core.images import UnreadableImage
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.files import FileSource
from crnn_jax.data.progress import Progress
from crnn_jax.decoding.confidence import sequence_log_prob
from crnn_jax.decoding.greedy import FORBIDDEN, emittable
from crnn_jax.exporting.export_functions import network
from crnn_jax.reading.batching import plan_batches
from crnn_jax.reading.decoder import Decoder
from crnn_jax.reading.loaded_model import LoadedModel


@dataclasses.dataclass(frozen=True)
class Pictures:
    """The pictures of annotated sets that can be read.

    Attributes:
        paths: of all of them, in the sets' order; of a record its store and key.
        labels: of all of them, as texts are compared.
        images: uint8 [h w c] of each, as the network takes it; None where it cannot be read.
        reasons: of those that cannot.
        places: (source, sample) of each.
    """

    paths: list[str]
    labels: list[str]
    images: list[np.ndarray | None]
    reasons: dict[str, str]
    places: list[tuple[Any, int]]

    def contents(self) -> Iterator[str | bytes]:
        """A path, or an encoded picture out of a store, of each; b"" where there is none."""
        for source, sample in self.places:
            try:
                yield source.content(sample)
            except UnreadableImage:
                yield b""


def open_annotations(
    model: LoadedModel, annotations: Sequence[str], *, images: str = "", form: str = "auto"
) -> list[Any]:
    """Opens annotated sets.

    Args:
        model: gives characters and channels.
        annotations: annotation files, folders labelled by their file names, LMDB, ArrayRecord.
        images: folder at which the paths start; '' is the annotation file's own.
        form: of the annotation files; 'auto' finds it.

    Raises:
        UserError: naming file and line.
    """
    sources = []
    for annotation in annotations:
        channels = model.preprocessing.channels
        source = FileSource(
            annotation, model.charset, format=form, images=images, channels=channels
        )
        source.require_pictures()
        sources.append(source)
    return sources


def read_pictures(sources: Sequence[Any], rule: Preprocessing, *, limit: int = 0) -> Pictures:
    """Decodes and resizes the pictures of opened sets.

    Args:
        sources: of `open_annotations`.
        rule: the preprocessing that the exported file asks for.
        limit: at most so many pictures of each, evenly spread; 0: all.
    """
    places = []
    for source in sources:
        count = min(limit or len(source), len(source))
        places += [(source, i * len(source) // count) for i in range(count)]
    paths = [source.identity(i) for source, i in places]
    labels = [source.text(i) for source, i in places]
    found: list[np.ndarray | None] = []
    reasons: dict[str, str] = {}
    progress = Progress("pictures decoded", len(places))
    for path, (source, i) in zip(paths, places, strict=True):
        (decoded,) = source.read(np.array([i]))
        if isinstance(decoded, str):
            reasons[path] = decoded
        found.append(None if isinstance(decoded, str) else rule.resize(decoded))
        progress(len(found))
    return Pictures(paths, labels, found, reasons, places)


class Reference:
    """Reads pictures with the model itself.

    Args:
        model: to read with.
        post: 'beam_search', or greedy for all others.
        beam_width: texts that a beam search keeps from frame to frame.
    """

    def __init__(self, model: LoadedModel, post: str, beam_width: int) -> None:
        self._model = model
        self._score = jax.jit(network(model.config))
        name = "beam" if post == "beam_search" else "greedy"
        self._decoder = Decoder(name, beam_width=beam_width)

    def read(self, images: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[str]]:
        """(logits float32 [t k], text) of uint8 pictures [h w c]."""
        logits: list[np.ndarray] = [np.zeros(0)] * len(images)
        texts = [""] * len(images)
        widths = [image.shape[1] for image in images]
        fixed = widths[0] if len(set(widths)) == 1 else 0
        progress, done = Progress("read by the model itself", len(images)), 0
        for plan in plan_batches(widths, fixed):
            h, _, c = images[plan.indices[0]].shape
            batch = np.zeros((plan.rows, h, plan.width, c), np.uint8)
            width = np.zeros(plan.rows, np.int32)
            for row, i in enumerate(plan.indices):
                batch[row, :, : widths[i]] = images[i]
                width[row] = widths[i]
            scores, frames = (
                np.asarray(x) for x in self._score(self._model.variables, batch, width)
            )
            for row, i in enumerate(plan.indices):
                logits[i] = scores[row, : frames[row]]
            for i, text in zip(plan.indices, self.texts(scores, frames), strict=False):
                texts[i] = text
            done += len(plan.indices)
            progress(done)
        return logits, texts

    def texts(self, logits: np.ndarray, frames: np.ndarray) -> list[str]:
        """What the decoder makes of raw logits float32 [b, t, k] with int32 [b] real frames."""
        blank_id = self._model.charset.blank_id
        allowed = emittable(jnp.asarray(logits), unknown_id=self._model.unknown_id)
        decoded = self._decoder.decode(allowed, jnp.asarray(frames), 1.0, blank_id=blank_id)
        return [
            self._model.charset.decode(ids[: max(n, 0)])
            for ids, n in zip(decoded.ids[:, 0], decoded.id_lengths[:, 0], strict=True)
        ]

    def allowed(self, scores: np.ndarray) -> np.ndarray:
        """Scores [t k] with what is never read made impossible."""
        allowed = np.nan_to_num(scores, nan=FORBIDDEN)
        if self._model.unknown_id >= 0:
            allowed[:, self._model.unknown_id] = FORBIDDEN
        return allowed

    def decode(self, ids: np.ndarray) -> str:
        """The text of class ids [n]; -1 writes nothing."""
        return self._model.charset.decode(ids)

    def log_prob(self, logits: np.ndarray, text: str) -> float:
        """log p(text | picture), given the picture's logits [t k]."""
        ids, _ = self._model.charset.encode(text, "strip")
        return float(
            sequence_log_prob(
                emittable(jnp.asarray(logits[None]), unknown_id=self._model.unknown_id),
                jnp.array([len(logits)], jnp.int32),
                jnp.asarray(ids[None]),
                jnp.array([len(ids)], jnp.int32),
                blank_id=self._model.charset.blank_id,
            )[0]
        )
