"""Evaluates a model on annotated images: what the `evaluate` command does.

evaluator = Evaluator.open('a.safetensors', ['test.txt'], 'beam', {'lexicon': 'words.txt'})
result = evaluator.evaluate()
evaluator.report('report', result, {'model': 'a.safetensors'})
"""

import dataclasses
import functools
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.model_file import read_safetensors, save_model
from crnn_jax.core.preprocessing import propose_boundaries
from crnn_jax.data.files import FileSource
from crnn_jax.data.loader import batches
from crnn_jax.data.plan import Plan
from crnn_jax.data.source import resized_widths
from crnn_jax.decoding.greedy import sequence_log_prob
from crnn_jax.reading.decoder import Decoder, open_decoder
from crnn_jax.reading.loaded_model import model_path, open_model
from crnn_jax.reading.pictures import PhotoWarning, plan_batches, prepare_views
from crnn_jax.reading.recognizer import AT_ONCE, GREEDY, Reading, Recognizer
from crnn_jax.reading.views import SURE, choose
from crnn_jax.scoring.calibration import best_temperature
from crnn_jax.scoring.compare import Comparison
from crnn_jax.scoring.evaluation import EvaluationResult, Row, evaluate_batches
from crnn_jax.scoring.output import require_writable

BATCH_SIZE = 64
SHAPES = 8  # array widths at most: every one is a compilation
COLUMNS = 32  # a multiple of so many pixels: other data then often meets the same shapes
TEMPERATURES = np.geomspace(0.25, 8, 41).astype(np.float32)  # 9 % apart


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """A model before its samples."""

    recognizer: Recognizer
    sources: Sequence[Any]
    decoders: Sequence[Decoder]  # one, or greedy and then the other; the last is what counts
    batch_size: int = BATCH_SIZE  # images read together; no result depends on it

    @classmethod
    def open(
        cls,
        model: str | None,
        annotations: Sequence[str],
        decoder: str = "greedy",
        options: Mapping[str, Any] | None = None,
        batch_size: int = BATCH_SIZE,
        views: bool | None = None,
        **opening: Any,
    ) -> "Evaluator":
        """Opens a model (None: the one that ships) and the files and words for its characters.

        The options are those of `open_decoder`, opening is that of `open_annotation`; views None:
        as the model states.
        """
        Decoder(decoder)  # tells a wrong name
        if "top_paths" in (options or {}):
            raise UserError("--top-paths: an evaluation has the best text of an image alone")
        recognizer = Recognizer.load(model)
        if views is not None:
            recognizer.views = views
        sources = [open_annotation(recognizer, path, **opening) for path in annotations]
        name = "beam" if decoder == "both" else decoder
        decoders = [open_decoder(recognizer.charset, name, **options or {})]
        if decoder == "both":
            decoders.insert(0, dataclasses.replace(GREEDY, allowed=decoders[0].allowed))
        return cls(recognizer, sources, decoders, batch_size)

    def evaluate(self, decoder: Decoder | None = None) -> EvaluationResult:
        """Reads every sample once; with the decoder that counts unless another is named."""
        result = EvaluationResult()
        for source in self.sources:
            result += evaluate_source(
                self.recognizer, source, self.batch_size, decoder or self.decoders[-1]
            )
        return result

    def calibrate(self, path: str) -> float:
        """Finds the temperature on the samples, uses it, writes the model with it; returns it."""
        model = model_path(self.recognizer.name)
        require_writable(path, folders=False)
        if os.path.exists(path) and not os.path.samefile(path, model):
            raise UserError(f"{path}: another file is there already; {model} is to be written")
        found = find_temperature(self.recognizer, self.sources, self.decoders[-1], self.batch_size)
        self.recognizer.temperature = found
        save_calibrated(model, path, found, self.recognizer.views)
        return found

    def report(
        self,
        path: str,
        result: EvaluationResult,
        about: Mapping[str, str],
        comparison: Comparison | None = None,
    ) -> str:
        """Writes the HTML report of what `evaluate` returned; returns its path."""
        from crnn_jax.scoring.html_report import choose, mistakes, write_report

        sources = {source.name: source for source in self.sources}

        def image_of(row: Row) -> Any:
            return sources[row.set].content(row.id)

        # An evaluation keeps no alignments: the mistakes shown are read once more.
        chosen = choose(mistakes(result.rows))
        rows = [mistake.row for mistake in chosen if mistake.row.text is not None]
        readings = _read(self.recognizer, map(image_of, rows), self.decoders[-1])
        # An image may have changed since, or an equal score fallen the other way: the report
        # shows what was counted, without an alignment of something else.
        characters = {
            (row.set, row.id): reading.characters
            for row, reading in zip(rows, readings, strict=True)
            if isinstance(reading, Reading) and reading.text == row.text
        }
        return write_report(path, result, about, chosen, characters, comparison, image_of)


def open_annotation(recognizer: Recognizer, path: str, *, split: str = "", **opening: Any) -> Any:
    """Opens an annotation file, or a folder labelled by its file names, for a model.

    With a split, as in `data.split`, only the samples that training with it does not see; opening
    is `FileSource`'s format and images.
    """
    source = FileSource(
        path,
        recognizer.charset,
        unknown="map" if recognizer.emits_unknown else "unusable",
        channels=recognizer.preprocessing.channels,
        **opening,
    )
    source.require_images()
    return source.split(split)[1] if split else source


def evaluate_source(
    recognizer: Recognizer, source: Any, batch_size: int = BATCH_SIZE, decoder: Decoder = GREEDY
) -> EvaluationResult:
    """Reads every sample of a source once and counts; why training would not is noted."""
    plan, stream = read_batches(recognizer, source, batch_size)
    predict = functools.partial(recognizer.predict, decoder=decoder)
    result = evaluate_batches(predict, stream, source, recognizer.charset)
    recognizer.require_numbers([row.confidence for row in result.rows if row.text is not None])
    if recognizer.views:
        result = read_unsure_again(result, recognizer, source, decoder)
    result.note_reasons(source.name, plan.reasons.counts)
    result.note_aspects(source.name, source.sizes(np.arange(len(source))))
    return result


def read_unsure_again(
    result: EvaluationResult, recognizer: Recognizer, source: Any, decoder: Decoder
) -> EvaluationResult:
    """The result with `Recognizer.read`'s readings of images where the first is not sure."""
    unsure = [row for row in result.rows if row.text is not None and row.confidence < SURE]
    again = {}
    for start in range(0, len(unsure), AT_ONCE):  # their files' bytes may be held
        rows = unsure[start : start + AT_ONCE]
        images = [source.content(row.id) for row in rows]
        for row, reading in zip(rows, _read(recognizer, images, decoder, views=True), strict=True):
            if isinstance(reading, Reading):  # else the file has changed since
                confidence = min(reading.confidence, 1.0)
                again[row.id] = row._replace(text=reading.text, confidence=confidence)
    counted = EvaluationResult()
    for row in result.rows:
        counted.add(again.get(row.id, row))
    return counted


def _read(recognizer: Recognizer, images: Any, decoder: Decoder, **options: Any) -> list[Any]:
    """Reads images that have been read before: nothing is said of them again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PhotoWarning)
        return recognizer.read(images, decoder, errors="return", **options)


def read_batches(
    recognizer: Recognizer, source: Any, batch_size: int = BATCH_SIZE
) -> tuple[Plan, Iterator[Any]]:
    """Every sample of a source once, in few array shapes: the plan and its batches."""
    preprocessing = recognizer.preprocessing
    boundaries: tuple[int, ...] = ()
    if preprocessing.free_width:
        sizes = source.sizes(np.arange(len(source)))
        widths = resized_widths(sizes[sizes[:, 0] > 0], preprocessing)
        proposed = propose_boundaries(widths, SHAPES, COLUMNS)
        boundaries = tuple(min(width, preprocessing.max_width) for width in proposed)
    plan = Plan(
        source,
        batch_size=batch_size,
        boundaries=boundaries,
        preprocessing=preprocessing,
        geometry=recognizer.config.geometry,
        shuffle=False,
        all=True,
    )
    return plan, batches(plan, source, preprocessing, stop=plan.steps_per_epoch)


def find_temperature(
    recognizer: Recognizer,
    sources: Sequence[Any],
    decoder: Decoder = GREEDY,
    batch_size: int = BATCH_SIZE,
) -> float:
    """The temperature at which confidences tell best which readings are right.

    A network trained to the end is too sure of itself; dividing its logits by a temperature above
    1 makes it less so and changes no text (C. Guo et al., ICML 2017, section 4.2), but maybe which
    of an image's views is taken: with them each temperature is tried on its own choice. Where all
    readings are right, or all wrong, the model's own temperature stays.
    """
    log_probs, right = [], []
    for source in sources:
        found: dict[int, list[tuple[np.ndarray, str]]] = {}
        for batch in read_batches(recognizer, source, batch_size)[1]:
            failed = dict(batch["failed"])
            tried = _tried_texts(recognizer, batch, decoder)
            for sample, reading in zip(batch["id"].tolist(), tried, strict=True):
                if sample >= 0 and sample not in failed:
                    found[sample] = [reading]
        if recognizer.views:
            _try_views(recognizer, source, decoder, found)
        for sample, readings in found.items():
            log_prob, texts = zip(*readings, strict=True)
            of_all = np.stack(log_prob)
            taken = [choose(texts, np.exp(p)) if p[0] < np.log(SURE) else 0 for p in of_all.T]
            log_probs.append(of_all[taken, np.arange(len(taken))])
            right.append(np.array([texts[i] == source.text(sample) for i in taken]))
    if not right:
        raise UserError("no image to calibrate on")
    of_all, is_right = np.stack(log_probs), np.stack(right)
    recognizer.require_numbers(of_all)
    if is_right.all() or not is_right.any():  # the best one would be 0, or without end
        return recognizer.temperature
    return best_temperature(TEMPERATURES, of_all, is_right)[0]


def _try_views(
    recognizer: Recognizer, source: Any, decoder: Decoder, found: dict[int, list[Any]]
) -> None:
    """Adds the readings of the views of images that are not read surely at some temperature."""
    ids = [i for i, ((log_prob, _),) in found.items() if (log_prob < np.log(SURE)).any()]
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        views = prepare_views([source.content(i) for i in some], recognizer.preprocessing)
        places = [i for i, of_one in zip(some, views, strict=True) for _ in of_one]
        images = [prepared.image for of_one in views for prepared in of_one]
        for plan in plan_batches([x.shape[1] for x in images], recognizer.preprocessing.width):
            tried = _tried_texts(recognizer, plan.arrays(images), decoder)
            for place, reading in zip(plan.indices, tried, strict=False):
                found[places[place]].append(reading)


def _tried_texts(
    recognizer: Recognizer, batch: Any, decoder: Decoder
) -> list[tuple[np.ndarray, str]]:
    """Each row's log p(text | image) at TEMPERATURES, float32 [g], and text."""
    blank_id = recognizer.charset.blank_id
    logits, lengths = recognizer.emitted(batch, decoder)
    decoded = decoder.decode(logits, lengths, 1.0, blank_id=blank_id)
    ids, id_lengths = decoded.ids[:, 0], decoded.id_lengths[:, 0]
    tried = np.asarray(_tried(logits, lengths, ids, id_lengths, blank_id=blank_id))
    tried = np.where(np.isneginf(decoded.log_prob[:, 0]), -np.inf, tried)  # no word of a lexicon
    texts = [recognizer.charset.decode(row[:n]) for row, n in zip(ids, id_lengths, strict=True)]
    return list(zip(tried.T, texts, strict=True))


@functools.partial(jax.jit, static_argnames=("blank_id",))
def _tried(
    logits: jax.Array, lengths: jax.Array, ids: jax.Array, id_lengths: jax.Array, *, blank_id: int
) -> jax.Array:
    """log p(text | image) at each of TEMPERATURES: float32 [g, b]."""

    def at(temperature):
        return sequence_log_prob(logits / temperature, lengths, ids, id_lengths, blank_id=blank_id)

    return jax.lax.map(at, jnp.asarray(TEMPERATURES))


def save_calibrated(
    model: str | os.PathLike[str], path: str | os.PathLike[str], temperature: float, views: bool
) -> None:
    """Writes a model (file or workdir) anew, parameters in float16 still so, maybe in place.

    It states the views, with or without, for which its temperature is.
    """
    variables, metadata = open_model(model)
    half = False
    if not os.path.isdir(model):
        half = any(array.dtype == np.float16 for array in read_safetensors(model)[0].values())
    metadata = metadata | {"temperature": temperature, "views": views}
    save_model(path, variables, metadata, float16=half)
