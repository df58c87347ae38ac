"""Reads pictures with a model file.

    recognizer = Recognizer.load()  # the model that ships; or load('my.safetensors')
    for reading in recognizer.read(['a.png', 'b.jpg']):
        print(reading.text, reading.confidence)
    recognizer.read(paths, 'beam', beam_width=50, top_paths=5, lexicon='words.txt')

A picture's reading does not depend on what it is read together with.
"""

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import jax
import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.images import ImageSource, UnreadableImage
from crnn_jax.decoding.alignment import align, pixel_spans
from crnn_jax.decoding.confidence import sequence_log_prob
from crnn_jax.decoding.greedy import emittable, greedy_decode
from crnn_jax.models.crnn import CRNN, prepare
from crnn_jax.reading.decoder import Decoded, Decoder, open_decoder
from crnn_jax.reading.loaded_model import SHIPPED, ModelSpec, open_model
from crnn_jax.reading.pictures import BatchPlan, Prepared, as_list, plan_batches, prepare_all
from crnn_jax.reading.result import Character, Reading

GREEDY = Decoder("greedy")


class Recognizer:
    """A network, its characters and its preprocessing, ready to read.

    Attributes:
        charset, preprocessing, config: as the model file states them; read in float32.
        metadata: all of the file's metadata.
        emits_unknown: characters outside the table were trained as `<UNK>`; else none is read.
        temperature: confidences are those of logits / temperature; texts do not depend on it.
    """

    def __init__(self, variables: dict[str, Any], metadata: dict[str, Any], name: str = "model"):
        """Takes what `load_model` returns; `name` is what errors call the model.

        Raises:
            UserError: the metadata contradict each other or the weights.
        """
        self.name = name
        self.metadata = metadata
        spec = ModelSpec.of(variables, metadata, name)
        # Whatever it was trained in: a text does not depend on what the processor multiplies.
        self.config = dataclasses.replace(spec.config, dtype="float32")
        self.charset = spec.charset
        self.preprocessing = spec.preprocessing
        self.temperature = float(spec.temperature)
        self.emits_unknown = spec.emits_unknown
        unknown_id = -1 if self.emits_unknown else self.charset.unknown_id
        network = CRNN(self.config)
        self._variables = prepare(network, jax.device_put(variables))
        self._score, self._emit, self._read = _programs(network, self.charset.blank_id, unknown_id)

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> "Recognizer":
        """Loads a model file or the best checkpoint of a workdir; None: the model that ships.

        Raises:
            UserError: it is not there, is damaged, or is no model.
        """
        if path is None:
            path = SHIPPED
            if not os.path.exists(path):
                raise UserError("no model ships with this installation; name one with -m MODEL")
        return cls(*open_model(path), name=os.fspath(path))

    def read(
        self,
        images: ImageSource | Iterable[ImageSource],
        decoder: str | Decoder = "greedy",
        errors: Literal["raise", "return"] = "raise",
        **options: Any,
    ) -> list[Any]:
        """Reads pictures of one word or text line each.

        Args:
            images: paths, encoded files' bytes, Pillow pictures, or arrays [h w], [h w 1|3|4];
                a single one will do.
            decoder: 'greedy', 'beam', or 'both': beam search, with the greedy text beside it. Or
                a `Decoder`: worth it where a lexicon or language model is used more than once.
            errors: of pictures that cannot be read: 'raise' the first, naming its index, or
                'return' it (an `UnreadableImage`) in its place.
            **options: beam_width, top_paths, lexicon (a file of words, or the words), lm (an ARPA
                file), lm_weight, length_bonus: see `decoder.open_decoder`.

        Returns:
            One `Reading` a picture, in the order given.

        Raises:
            UserError: a picture cannot be read, or there is no such decoder.
        """
        decoder = self._decoder(decoder, **options)
        if errors not in ("raise", "return"):
            raise ValueError(f"errors={errors!r}: 'raise' or 'return'")
        answers: list[Any] = prepare_all(as_list(images), self.preprocessing)
        for index, prepared in enumerate(answers):
            if isinstance(prepared, UnreadableImage) and errors == "raise":
                raise UserError(f"picture {index}: {prepared}") from prepared
        readable = [i for i, p in enumerate(answers) if isinstance(p, Prepared)]
        pictures = [answers[i] for i in readable]
        for plan, decoded in self._run(pictures, decoder):
            for place, reading in zip(
                plan.indices, self._readings(plan, decoded, pictures, decoder), strict=True
            ):
                answers[readable[place]] = reading
        return answers

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The network's raw output, for comparison with other runtimes.

        Args:
            images: uint8 [b h w c], resized as `preprocessing` says, none of it padding.

        Returns:
            float32 [b t k].

        Raises:
            ValueError: another dtype or shape.
        """
        want = (self.preprocessing.height, self.preprocessing.channels)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1::2] != want:
            raise ValueError(
                f"want uint8 [b {want[0]} w {want[1]}], got {images.dtype} {list(images.shape)}"
            )
        widths = np.full(len(images), images.shape[2], np.int32)
        return np.asarray(self._score(self._variables, images, widths)[0])

    def predict(self, batch: Any, decoder: Decoder = GREEDY) -> tuple[Any, Any, Any]:
        """Reads a batch of the data loaders; for `scoring.evaluation.evaluate_batches`.

        Returns:
            ids int32 [b n], id_lengths int32 [b], log p(text | picture) float32 [b].
        """
        started = self._start(batch["image"], batch["width"], decoder)
        if decoder.is_plain:
            return started["ids"], started["id_lengths"], started["log_prob"]
        decoded = self._finish(started, decoder)
        return decoded.ids[:, 0], decoded.id_lengths[:, 0], decoded.log_prob[:, 0]

    def emitted(self, batch: Any) -> tuple[jax.Array, jax.Array]:
        """What every decoder works on: logits float32 [b t k] without `<UNK>`, and frames [b]."""
        return self._emit(self._variables, batch["image"], batch["width"])

    def _decoder(self, decoder: str | Decoder, **options: Any) -> Decoder:
        if isinstance(decoder, Decoder):
            if options:
                raise ValueError(f"a decoder as it is takes no {', '.join(options)}")
            return decoder
        return open_decoder(self.charset, decoder, **options)

    def _start(self, image: np.ndarray, width: np.ndarray, decoder: Decoder) -> Any:
        """Sends a batch to the device; `_finish` waits for the answer."""
        if decoder.is_plain:
            return self._read(self._variables, image, width, self.temperature)
        return self._emit(self._variables, image, width)

    def _finish(self, started: Any, decoder: Decoder) -> Decoded:
        if not decoder.is_plain:
            logits, lengths = started
            decoded = decoder.decode(
                logits, lengths, self.temperature, blank_id=self.charset.blank_id
            )
        else:
            out = {key: np.asarray(value) for key, value in started.items()}
            decoded = Decoded(
                out["log_probs"],
                out["lengths"],
                out["ids"][:, None],
                out["id_lengths"][:, None],
                out["log_prob"][:, None],
            )
        if np.isnan(decoded.log_prob).any():  # finite weights, but some far too large
            raise UserError(f"{self.name}: its scores are not numbers; its weights are damaged")
        return decoded

    def _run(
        self, pictures: Sequence[Prepared], decoder: Decoder
    ) -> Iterator[tuple[BatchPlan, Decoded]]:
        """Sends batches to the device, each before the answer to the one before is waited for."""
        waiting: tuple[BatchPlan, Any] | None = None
        widths = [picture.image.shape[1] for picture in pictures]
        for plan in plan_batches(widths, self.preprocessing.width):
            height, channels = self.preprocessing.height, self.preprocessing.channels
            batch = np.zeros((plan.rows, height, plan.width, channels), np.uint8)
            width = np.zeros(plan.rows, np.int32)
            for row, index in enumerate(plan.indices):
                width[row] = widths[index]
                batch[row, :, : width[row]] = pictures[index].image
            started = self._start(batch, width, decoder)
            if waiting is not None:
                yield waiting[0], self._finish(waiting[1], decoder)
            waiting = plan, started
        if waiting is not None:
            yield waiting[0], self._finish(waiting[1], decoder)

    def _readings(
        self, plan: BatchPlan, decoded: Decoded, pictures: Sequence[Prepared], decoder: Decoder
    ) -> Iterator[Reading]:
        """One reading a picture of a batch, in the plan's order."""
        ids, id_lengths = decoded.ids[:, 0], decoded.id_lengths[:, 0]
        aligned = align(
            decoded.log_probs, decoded.lengths, ids, id_lengths, blank_id=self.charset.blank_id
        )
        for row, index in enumerate(plan.indices):
            n = int(id_lengths[row])
            picture = pictures[index]
            spans = pixel_spans(
                aligned.first[row, :n],
                aligned.last[row, :n],
                geometry=self.config.geometry,
                resized=picture.image.shape[1],
                width=picture.given_width,
            )
            texts = [self.charset.decode([i]) for i in ids[row, :n]]
            greedy = None
            if decoded.greedy_ids is not None:
                greedy = self.charset.decode(decoded.greedy_ids[row, : decoded.greedy_lengths[row]])
            yield Reading(
                text="".join(texts),
                confidence=math.exp(decoded.log_prob[row, 0]),
                characters=tuple(
                    Character(text, float(confidence), float(x0), float(x1))
                    for text, confidence, (x0, x1) in zip(
                        texts, aligned.confidence[row, :n], spans, strict=True
                    )
                ),
                alternatives=self._alternatives(decoded, row),
                decoder=decoder.kind,
                greedy=greedy,
            )

    def _alternatives(self, decoded: Decoded, row: int) -> tuple[tuple[str, float], ...]:
        """The other texts of a row, in the decoder's order."""
        return tuple(
            (self.charset.decode(decoded.ids[row, i, :n]), float(decoded.log_prob[row, i]))
            for i, n in enumerate(decoded.id_lengths[row].tolist())
            if i > 0 and n >= 0
        )


def _programs(model: CRNN, blank_id: int, unknown_id: int) -> tuple[Any, Any, Any]:
    """Compiled functions: raw scores, what decoders work on, and that with its greedy reading."""

    def score(variables: Any, image: jax.Array, width: jax.Array) -> Any:
        return model.apply(variables, image, width, train=False)

    def emit(variables: Any, image: jax.Array, width: jax.Array) -> Any:
        logits, lengths = score(variables, image, width)
        return emittable(logits, unknown_id=unknown_id), lengths

    def read(
        variables: Any, image: jax.Array, width: jax.Array, temperature: jax.Array
    ) -> dict[str, jax.Array]:
        logits, lengths = emit(variables, image, width)
        ids, id_lengths = greedy_decode(logits, lengths, blank_id=blank_id)
        log_probs = jax.nn.log_softmax(logits / temperature, axis=-1)
        log_prob = sequence_log_prob(log_probs, lengths, ids, id_lengths, blank_id=blank_id)
        return {
            "log_probs": log_probs,
            "lengths": lengths,
            "ids": ids,
            "id_lengths": id_lengths,
            "log_prob": log_prob,
        }

    return jax.jit(score), jax.jit(emit), jax.jit(read)
