"""Reads images with a model file.

    recognizer = Recognizer.load()  # the model that ships; or load('my.safetensors')
    for reading in recognizer.read(['a.png', 'b.jpg']):
        print(reading.text, reading.confidence)
    recognizer.read(paths, 'beam', beam_width=50, top_paths=5, lexicon='words.txt')
    recognizer.read(paths, characters='0123456789.-')  # nothing else is read

An image's reading does not depend on what it is read together with.
"""

import dataclasses
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.images import ImageSource, UnreadableImage
from crnn_jax.decoding.alignment import align, pixel_spans
from crnn_jax.decoding.greedy import FORBIDDEN, emittable, greedy_decode, sequence_log_prob, spelled
from crnn_jax.models.crnn import CRNN, prepare
from crnn_jax.reading.decoder import Decoded, Decoder, open_decoder
from crnn_jax.reading.loaded_model import SHIPPED, LoadedModel, open_model
from crnn_jax.reading.pictures import (
    BatchPlan,
    Prepared,
    as_list,
    plan_batches,
    prepare_all,
    prepare_views,
)
from crnn_jax.reading.views import SURE, choose

AT_ONCE = 256  # images whose views are held at a time
GREEDY = Decoder("greedy")


@dataclasses.dataclass(frozen=True)
class Character:
    """One character of a reading; it covers the columns [x0, x1) of the image as given."""

    text: str
    confidence: float  # its highest probability among the frames that wrote it, 0 to 1
    x0: float
    x1: float  # pixels, after EXIF orientation


@dataclasses.dataclass(frozen=True)
class Word:
    """What stands between spaces; confidence is the lowest of its characters'."""

    text: str
    confidence: float
    x0: float
    x1: float  # pixels, as in `Character`


@dataclasses.dataclass(frozen=True)
class Reading:
    """What stands in an image, and how sure that is: p(text | image) over all alignments."""

    text: str  # '' where nothing was read
    confidence: float  # 0 to 1, calibrated by the model's temperature
    characters: tuple[Character, ...] = ()
    alternatives: tuple[tuple[str, float], ...] = ()  # (text, log p) of others, best first
    decoder: str = "greedy"  # or 'beam', what gave the text
    greedy: str | None = None  # greedy decoding's text, where both were asked for
    angle: float = 0.0  # degrees, counter-clockwise, by which the image was turned to be read

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of a line, from left to right."""
        found = []
        for is_space, group in itertools.groupby(self.characters, lambda c: c.text.isspace()):
            if not is_space:
                some = list(group)
                text, lowest = "".join(c.text for c in some), min(c.confidence for c in some)
                found.append(Word(text, lowest, min(c.x0 for c in some), max(c.x1 for c in some)))
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; numbers are rounded to what they are good for."""
        record: dict[str, Any] = {
            "text": self.text,
            "confidence": self.confidence,
            "decoder": self.decoder,
            "angle": self.angle,
        }
        if self.greedy is not None:
            record["greedy"] = self.greedy
        for name, parts in (("words", self.words), ("characters", self.characters)):
            record[name] = [
                {
                    "text": part.text,
                    "confidence": round(part.confidence, 6),
                    "x0": round(part.x0, 2),
                    "x1": round(part.x1, 2),
                }
                for part in parts
            ]
        return record | {"alternatives": [list(pair) for pair in self.alternatives]}


class Recognizer:
    """A network, its characters and its preprocessing, ready to read.

    Attributes are `LoadedModel`'s; confidences are those of logits / temperature. With `views`
    unsure images are read in several views unless `read` is told otherwise.
    """

    def __init__(self, variables: dict[str, Any], metadata: dict[str, Any], name: str = "model"):
        """Takes what `load_model` returns; `name` is what errors call the model."""
        model = LoadedModel.of(variables, metadata, name)
        self.name = name
        self.config = model.config
        self.charset = model.charset
        self.preprocessing = model.preprocessing
        self.temperature = model.temperature
        self.views = model.views
        self.emits_unknown = model.emits_unknown
        self._all = np.ones(self.config.num_classes, bool)
        network = CRNN(self.config)
        self._variables = prepare(network, jax.device_put(variables))
        self._score, self._emit, self._read = _programs(network, model)

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> "Recognizer":
        """Loads a model file or the best checkpoint of a workdir; None: the model that ships."""
        if path is None:
            path = SHIPPED
            if not os.path.exists(path):
                raise UserError("no model ships with this installation; name one with -m MODEL")
        return cls(*open_model(path), name=os.fspath(path))

    @overload
    def read(
        self,
        images: ImageSource | Iterable[ImageSource],
        decoder: str | Decoder = "greedy",
        errors: Literal["raise"] = "raise",
        views: bool | None = None,
        **options: Any,
    ) -> list[Reading]: ...

    @overload
    def read(
        self,
        images: ImageSource | Iterable[ImageSource],
        decoder: str | Decoder = "greedy",
        *,
        errors: Literal["return"],
        views: bool | None = None,
        **options: Any,
    ) -> list[Reading | UnreadableImage]: ...

    def read(
        self,
        images: ImageSource | Iterable[ImageSource],
        decoder: str | Decoder = "greedy",
        errors: Literal["raise", "return"] = "raise",
        views: bool | None = None,
        **options: Any,
    ) -> Any:
        """Reads images of one word or text line each.

        Args:
            images: paths, encoded files' bytes, Pillow images, or arrays [h w], [h w 1|3|4];
                a single one will do.
            decoder: 'greedy', 'beam', or 'both': beam search, with the greedy text beside it. Or
                a `Decoder`: worth it where a lexicon or language model is used more than once.
            errors: of images that cannot be read: 'raise' the first (a UserError), or 'return'
                it (an `UnreadableImage`) in its place.
            views: whether images of which the first reading is not sure are read in several
                views, which agree on a text (`views.choose`); None: as `self.views`.
            **options: as `decoder.open_decoder` takes them.

        Returns:
            One `Reading` an image, in the order given.
        """
        if not isinstance(decoder, Decoder):
            decoder = open_decoder(self.charset, decoder, **options)
        elif options:
            raise ValueError(f"a decoder as it is takes no {', '.join(options)}")
        sources = as_list(images)
        answers: list[Any] = prepare_all(sources, self.preprocessing)
        for index, prepared in enumerate(answers):
            if isinstance(prepared, UnreadableImage) and errors == "raise":
                raise UserError(f"image {index}: {prepared}") from prepared
        readable = [i for i, p in enumerate(answers) if isinstance(p, Prepared)]
        plain = self._read_prepared([answers[i] for i in readable], decoder)
        for i, reading in zip(readable, plain, strict=True):
            answers[i] = reading
        if self.views if views is None else views:
            unsure = [i for i in readable if answers[i].confidence < SURE]
            for start in range(0, len(unsure), AT_ONCE):
                self._read_views(sources, unsure[start : start + AT_ONCE], answers, decoder)
        return answers

    def _read_views(
        self, sources: Sequence[ImageSource], some: Sequence[int], answers: Any, decoder: Decoder
    ) -> None:
        """Puts the reading that the views of some images agree on in their place."""
        views = prepare_views([sources[i] for i in some], self.preprocessing)
        readings = iter(self._read_prepared(list(itertools.chain(*views)), decoder))
        for i, of_one in zip(some, views, strict=True):
            found = [answers[i], *itertools.islice(readings, len(of_one))]
            answers[i] = found[choose([r.text for r in found], [r.confidence for r in found])]

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The network's output float32 [b t k] of images uint8 [b h w c], resized, not padded."""
        if images.dtype != np.uint8:
            raise ValueError(f"want uint8, got {images.dtype}")
        widths = np.full(len(images), images.shape[2], np.int32)
        return np.asarray(self._score(self._variables, images, widths)[0])

    def predict(self, batch: Any, decoder: Decoder = GREEDY) -> tuple[Any, Any, Any]:
        """Reads a batch of the data loaders: the first three of a `Prediction`."""
        started = self._start(batch, decoder)
        if decoder.name == "greedy":  # not waited for
            return started["ids"], started["id_lengths"], started["log_prob"]
        decoded = self._finish(started, decoder)
        return decoded.ids[:, 0], decoded.id_lengths[:, 0], decoded.log_prob[:, 0]

    def emitted(self, batch: Any, decoder: Decoder = GREEDY) -> tuple[jax.Array, jax.Array]:
        """What a decoder works on: logits float32 [b t k], low where not allowed; frames [b]."""
        arguments = batch["image"], batch["width"], self._allowed(decoder)
        return self._emit(self._variables, *arguments, decoder.lexicon is not None)

    def _allowed(self, decoder: Decoder) -> np.ndarray:
        return self._all if decoder.allowed is None else decoder.allowed

    def _start(self, batch: Any, decoder: Decoder) -> Any:
        """Sends a batch to the device; `_finish` waits for the answer."""
        if decoder.name == "greedy":
            arguments = batch["image"], batch["width"], self._allowed(decoder), self.temperature
            return self._read(self._variables, *arguments)
        return self.emitted(batch, decoder)

    def _finish(self, started: Any, decoder: Decoder) -> Decoded:
        if decoder.name == "greedy":
            out = {key: np.asarray(value) for key, value in started.items()}
            best = {key: out[key][:, None] for key in ("ids", "id_lengths", "log_prob")}
            decoded = Decoded(**out | best)
        else:
            logits, lengths = started
            blank_id = self.charset.blank_id
            decoded = decoder.decode(logits, lengths, self.temperature, blank_id=blank_id)
        self.require_numbers(decoded.log_prob)
        return decoded

    def require_numbers(self, scores: Any) -> None:
        """UserError where scores or confidences are NaN: finite weights, but some far too large."""
        if np.isnan(scores).any():
            raise UserError(f"{self.name}: its scores are not numbers; its weights are damaged")

    def _read_prepared(self, images: Sequence[Prepared], decoder: Decoder) -> list[Reading]:
        """One reading an image, in the order given.

        Each batch is sent to the device before the answer to the one before is waited for.
        """
        arrays = [prepared.image for prepared in images]
        widths = [array.shape[1] for array in arrays]

        def started() -> Iterator[Any]:
            for plan in plan_batches(widths, self.preprocessing.width):
                yield plan, self._start(plan.arrays(arrays), decoder)
            yield None

        found: dict[int, Reading] = {}
        for (plan, answer), _ in itertools.pairwise(started()):
            readings = self._readings(plan, self._finish(answer, decoder), images, decoder)
            found.update(zip(plan.indices, readings, strict=True))
        return [found[i] for i in range(len(images))]

    def _readings(
        self, plan: BatchPlan, decoded: Decoded, images: Sequence[Prepared], decoder: Decoder
    ) -> Iterator[Reading]:
        """One reading an image of a batch, in the plan's order."""
        ids, id_lengths = decoded.ids[:, 0], decoded.id_lengths[:, 0]
        aligned = align(
            decoded.log_probs, decoded.lengths, ids, id_lengths, blank_id=self.charset.blank_id
        )
        for row, index in enumerate(plan.indices):
            n = int(id_lengths[row])
            first, last, confidence = (array[row, :n] for array in aligned)
            (_, resized, _), view = images[index].image.shape, images[index].view
            geometry, width = self.config.geometry, view.size[0]
            spans = pixel_spans(first, last, geometry=geometry, resized=resized, width=width)
            spans = view.columns(spans)
            texts = [self.charset.decode([i]) for i in ids[row, :n]]
            greedy = None
            if decoded.greedy_ids is not None:
                greedy = self.charset.decode(decoded.greedy_ids[row, : decoded.greedy_lengths[row]])
            yield Reading(
                text="".join(texts),
                confidence=math.exp(decoded.log_prob[row, 0]),
                characters=tuple(
                    Character(text, float(sure), float(x0), float(x1))
                    for text, sure, (x0, x1) in zip(texts, confidence, spans, strict=True)
                ),
                alternatives=tuple(
                    (self.charset.decode(decoded.ids[row, i, :n]), float(decoded.log_prob[row, i]))
                    for i, n in enumerate(decoded.id_lengths[row].tolist())
                    if i > 0 and n >= 0
                ),
                decoder="beam" if decoder.name == "both" else decoder.name,
                greedy=greedy,
                angle=view.angle,
            )


def _programs(network: CRNN, model: LoadedModel) -> tuple[Any, Any, Any]:
    """Compiled functions: raw scores, what decoders work on, and that with its greedy reading."""
    blank_id = model.charset.blank_id

    def score(variables: Any, image: jax.Array, width: jax.Array) -> Any:
        return network.apply(variables, image, width, train=False)

    def emit(
        variables: Any, image: jax.Array, width: jax.Array, allowed: jax.Array, has_lexicon: bool
    ) -> Any:
        logits, lengths = score(variables, image, width)
        logits = emittable(logits, unknown_id=model.unknown_id)
        logits = jnp.where(allowed[None, None, :], logits, FORBIDDEN)
        # Letters that look alike are the lexicon's to tell apart.
        spelling = model.spelling._replace(alphabet=()) if has_lexicon else model.spelling
        return spelled(logits, lengths, spelling), lengths

    def read(
        variables: Any,
        image: jax.Array,
        width: jax.Array,
        allowed: jax.Array,
        temperature: jax.Array,
    ) -> dict[str, jax.Array]:
        logits, lengths = emit(variables, image, width, allowed, has_lexicon=False)
        ids, id_lengths = greedy_decode(logits, lengths, blank_id=blank_id)
        log_probs = jax.nn.log_softmax(logits / temperature, axis=-1)
        log_prob = sequence_log_prob(log_probs, lengths, ids, id_lengths, blank_id=blank_id)
        found = {"log_probs": log_probs, "lengths": lengths}
        return found | {"ids": ids, "id_lengths": id_lengths, "log_prob": log_prob}

    return jax.jit(score), jax.jit(emit, static_argnums=4), jax.jit(read)
