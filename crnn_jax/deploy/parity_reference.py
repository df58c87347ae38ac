"""What this package reads in the pictures that an exported file is compared on."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from crnn_jax.data.files import FileSource
from crnn_jax.data.progress import Progress
from crnn_jax.decoding.confidence import sequence_log_prob
from crnn_jax.decoding.greedy import FORBIDDEN, emittable
from crnn_jax.deploy.batching import plan_batches
from crnn_jax.deploy.decoder import Decoder
from crnn_jax.deploy.export_functions import network
from crnn_jax.deploy.loaded_model import LoadedModel
from crnn_jax.deploy.pictures import Prepared, prepare_all
from crnn_jax.spec.preprocessing import Preprocessing

AT_ONCE = 64  # pictures decoded together


@dataclasses.dataclass(frozen=True)
class Pictures:
    """The pictures of annotation files that can be read.

    Attributes:
        paths: of all of them, in the files' order.
        labels: of all of them, as texts are compared.
        images: uint8 [h w c] of each, as the network takes it; None where it cannot be read.
        reasons: of those that cannot.
    """

    paths: list[str]
    labels: list[str]
    images: list[np.ndarray | None]
    reasons: dict[str, str]


def open_pictures(
    model: LoadedModel,
    annotations: Sequence[str],
    rule: Preprocessing,
    *,
    images: str = "",
    form: str = "auto",
    limit: int = 0,
) -> Pictures:
    """Decodes and resizes the pictures of annotation files.

    Args:
        model: gives the characters.
        annotations: annotation files, or folders labelled by their file names.
        rule: the preprocessing that the exported file asks for.
        images: folder at which the paths start; '' is the annotation file's own.
        form: of the annotation files; 'auto' finds it.
        limit: at most so many pictures of each, evenly spread; 0: all.

    Raises:
        UserError: naming file and line.
    """
    paths, labels = [], []
    for annotation in annotations:
        source = FileSource(
            annotation, model.charset, format=form, images=images, channels=rule.channels
        )
        source.require_pictures()
        count = min(limit or len(source), len(source))
        chosen = [i * len(source) // count for i in range(count)]
        paths += [source.path(i) for i in chosen]
        labels += [source.text(i) for i in chosen]
    found: list[np.ndarray | None] = []
    reasons: dict[str, str] = {}
    progress = Progress("pictures decoded", len(paths))
    for start in range(0, len(paths), AT_ONCE):
        some = paths[start : start + AT_ONCE]
        for path, prepared in zip(some, prepare_all(some, rule), strict=True):
            if isinstance(prepared, Prepared):
                found.append(prepared.image)
            else:
                found.append(None)
                reasons[path] = prepared.reason
        progress(len(found))
    return Pictures(paths, labels, found, reasons)


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
