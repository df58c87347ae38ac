"""Reads pictures with a model file.

    recognizer = Recognizer.load()  # the model that ships; or load('my.safetensors')
    for reading in recognizer.read(['a.png', 'b.jpg']):
        print(reading.text, reading.confidence)

A picture's reading does not depend on what it is read together with.
"""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import flax
import jax
import numpy as np

from crnn_jax.decoding.alignment import align, pixel_spans
from crnn_jax.decoding.confidence import sequence_log_prob
from crnn_jax.decoding.greedy import emittable, greedy_decode
from crnn_jax.deploy.batching import BatchPlan, plan_batches
from crnn_jax.deploy.pictures import Prepared, as_list, prepare_all
from crnn_jax.deploy.reading import Character, Reading
from crnn_jax.models.config import ModelConfig
from crnn_jax.models.crnn import CRNN
from crnn_jax.scoring.evaluation import Prediction
from crnn_jax.spec.charset import Charset
from crnn_jax.spec.errors import UserError
from crnn_jax.spec.images import ImageSource, UnreadableImage
from crnn_jax.spec.preprocessing import Preprocessing
from crnn_jax.training.open_model import open_model

SHIPPED = os.path.join(os.path.dirname(os.path.dirname(__file__)), "weights", "en_36.safetensors")
DECODERS = ("greedy",)


class Recognizer:
    """A network, its characters and its preprocessing, ready to read.

    Attributes:
        charset, preprocessing, config: as the model file states them.
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
        try:
            self.config = ModelConfig.from_dict(metadata["model"])
            self.charset = Charset.from_metadata(metadata)
            self.preprocessing = Preprocessing.from_metadata(metadata["preprocessing"])
            self.temperature = float(metadata.get("temperature", 1.0))
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise UserError(f"{name}: its metadata cannot be used: {error}") from error
        if self.config.num_classes != self.charset.num_classes:
            raise UserError(
                f"{name}: a network of {self.config.num_classes} classes and a table of "
                f"{self.charset.num_classes}"
            )
        self.emits_unknown = bool(metadata.get("emit_unknown", False))
        unknown_id = -1 if self.emits_unknown else self.charset.unknown_id
        self._variables = jax.device_put(variables)
        self._score, self._read = _programs(self.config, self.charset.blank_id, unknown_id)

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
        decoder: str = "greedy",
        errors: Literal["raise", "return"] = "raise",
    ) -> list[Any]:
        """Reads pictures of one word or text line each.

        Args:
            images: paths, encoded files' bytes, Pillow pictures, or arrays [h w], [h w 1|3|4];
                a single one will do.
            decoder: 'greedy'.
            errors: of pictures that cannot be read: 'raise' the first, naming its index, or
                'return' it (an `UnreadableImage`) in its place.

        Returns:
            One `Reading` a picture, in the order given.

        Raises:
            UserError: a picture cannot be read, or there is no such decoder.
        """
        check_decoder(decoder)
        if errors not in ("raise", "return"):
            raise ValueError(f"errors={errors!r}: 'raise' or 'return'")
        answers: list[Any] = prepare_all(as_list(images), self.preprocessing)
        for index, prepared in enumerate(answers):
            if isinstance(prepared, UnreadableImage) and errors == "raise":
                raise UserError(f"picture {index}: {prepared}") from prepared
        readable = [i for i, p in enumerate(answers) if isinstance(p, Prepared)]
        pictures = [answers[i] for i in readable]
        for plan, output in self._run(pictures):
            for place, reading in zip(
                plan.indices, self._readings(plan, output, pictures), strict=True
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
        return np.asarray(self._call(self._score, images, widths)[0])

    def predict(self, batch: Any) -> Prediction:
        """Reads a batch of the data loaders; for `scoring.evaluation.evaluate_batches`."""
        output = self._call(self._read, batch["image"], batch["width"], self.temperature)
        return Prediction(output["ids"], output["id_lengths"], output["log_prob"])

    def _call(self, program: Any, *args: Any) -> Any:
        try:
            return program(self._variables, *args)
        except flax.errors.FlaxError as error:  # parameters missing or of other shapes
            reason = str(error).split(" (https")[0]
            raise UserError(f"{self.name}: its weights do not fit its network: {reason}") from error

    def _run(self, pictures: Sequence[Prepared]) -> Iterator[tuple[BatchPlan, dict[str, Any]]]:
        """Sends batches to the device, each before the answer to the one before is waited for."""
        waiting: tuple[BatchPlan, dict[str, Any]] | None = None
        widths = [picture.image.shape[1] for picture in pictures]
        for plan in plan_batches(widths, self.preprocessing.width):
            height, channels = self.preprocessing.height, self.preprocessing.channels
            batch = np.zeros((plan.rows, height, plan.width, channels), np.uint8)
            width = np.zeros(plan.rows, np.int32)
            for row, index in enumerate(plan.indices):
                width[row] = widths[index]
                batch[row, :, : width[row]] = pictures[index].image
            started = self._call(self._read, batch, width, self.temperature)
            if waiting is not None:
                yield waiting
            waiting = plan, started
        if waiting is not None:
            yield waiting

    def _readings(
        self, plan: BatchPlan, output: dict[str, Any], pictures: Sequence[Prepared]
    ) -> Iterator[Reading]:
        """One reading a picture of a batch, in the plan's order."""
        out = {key: np.asarray(value) for key, value in output.items()}
        aligned = align(
            out["log_probs"],
            out["lengths"],
            out["ids"],
            out["id_lengths"],
            blank_id=self.charset.blank_id,
        )
        for row, index in enumerate(plan.indices):
            n = int(out["id_lengths"][row])
            picture = pictures[index]
            spans = pixel_spans(
                aligned.first[row, :n],
                aligned.last[row, :n],
                geometry=self.config.geometry,
                resized=picture.image.shape[1],
                width=picture.given_width,
            )
            texts = [self.charset.decode([i]) for i in out["ids"][row, :n]]
            yield Reading(
                text="".join(texts),
                confidence=math.exp(out["log_prob"][row]),
                characters=tuple(
                    Character(text, float(confidence), float(x0), float(x1))
                    for text, confidence, (x0, x1) in zip(
                        texts, aligned.confidence[row, :n], spans, strict=True
                    )
                ),
            )


def check_decoder(decoder: str) -> None:
    """Raises UserError where there is no decoder of this name."""
    if decoder in ("beam", "both"):
        raise UserError(f"--decoder {decoder}: beam search is not in this version; take greedy")
    if decoder not in DECODERS:
        raise UserError(f"--decoder {decoder}: there is {', '.join(DECODERS)}")


def _programs(config: ModelConfig, blank_id: int, unknown_id: int) -> tuple[Any, Any]:
    """Compiled functions: raw scores, and scores with their greedy reading."""
    model = CRNN(config)

    def score(variables: Any, image: jax.Array, width: jax.Array) -> Any:
        return model.apply(variables, image, width, train=False)

    def read(
        variables: Any, image: jax.Array, width: jax.Array, temperature: jax.Array
    ) -> dict[str, jax.Array]:
        logits, lengths = score(variables, image, width)
        logits = emittable(logits, unknown_id=unknown_id)
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

    return jax.jit(score), jax.jit(read)
