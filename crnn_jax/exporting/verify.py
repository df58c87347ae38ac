"""Checks that an exported file reads what the model reads: by its own runtime, on real images.

Where the model is read in several views, the plain one is compared: a graph has no others.

sources = open_sources(model, ['test.txt'])
report = verify(model, plan, sources)
report.passed, report.text()
"""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.images import UnreadableImage
from crnn_jax.data.files import FileSource
from crnn_jax.data.source import progress_bar
from crnn_jax.decoding.greedy import FORBIDDEN, Spelling, emittable, sequence_log_prob, spelled
from crnn_jax.exporting.onnx import OPENCV_WIDTH, opencv_classes
from crnn_jax.exporting.plan import ExportPlan
from crnn_jax.exporting.runtimes import AT_ONCE, in_own_process, read_all
from crnn_jax.exporting.stablehlo import network
from crnn_jax.reading.decoder import Decoder
from crnn_jax.reading.loaded_model import LoadedModel
from crnn_jax.reading.pictures import plan_batches

TIE = 1e-4  # difference of two classes' scores, or of two texts' log p, that rounding decides
TINY = 1e-37  # added to probabilities: the log of 0 is no number
# Smallest share of images with the same text. 8-bit weights decide a few close calls otherwise.
REQUIRED = {"none": 1.0, "files": 0.998, "float16": 0.995, "dynamic": 0.95}
OURS = ("crnn_jax", "jax", "jaxlib", "flax", "optax", "orbax", "ml_collections")
# Runtime (a function of `runtimes`) -> packages that cannot be imported there.
BLOCKED = {
    "saved_model": OURS,
    "tflite": OURS,
    "keras": OURS,
    "onnx": (*OURS, "tensorflow", "keras"),
    "opencv": (*OURS, "tensorflow", "keras", "onnxruntime"),
    "stablehlo": ("crnn_jax", "flax", "optax", "orbax", "tensorflow"),
}


@dataclasses.dataclass
class Report:
    """The result of `verify`: figures, and a line for each text that differs."""

    passed: bool
    figures: list[str]
    differences: list[str]

    def text(self, most: int = sys.maxsize) -> str:
        """For people; `most` limits the differences shown."""
        hidden = len(self.differences) - most
        more = [f"  and {hidden:,} more in the report"] if hidden > 0 else []
        return "\n".join([*self.figures, *self.differences[:most], *more])


def open_sources(model: LoadedModel, annotations: Sequence[str], *, images: str = "") -> list[Any]:
    """Opens annotation files, folders labelled by their file names, LMDB or ArrayRecord."""
    channels = model.preprocessing.channels
    sources = [FileSource(a, model.charset, images=images, channels=channels) for a in annotations]
    for source in sources:
        source.require_images()
    return sources


def verify(
    model: LoadedModel, plan: ExportPlan, sources: Sequence[Any], *, limit: int = 0
) -> Report:
    """Reads images with the file that `plan.write` wrote and with the model, and compares.

    `limit` is of images of each source, evenly spread; 0: all.
    """
    rule = model.preprocessing
    default = OPENCV_WIDTH if plan.layout == "opencv" else 0
    rule = dataclasses.replace(rule, width=plan.width or rule.width or default)
    takes_files = plan.format == "saved_model" and plan.post in ("greedy", "beam_search")
    places = [(source, i) for source in sources for i in evenly_spread(len(source), limit)]
    images, readable, files = [], [], []
    with progress_bar("images decoded", len(places)) as bar:
        for place, (source, i) in enumerate(places):
            (decoded,) = source.read(np.array([i]))
            if not isinstance(decoded, str):
                images.append(rule.resize(decoded))
                readable.append(place)
            if takes_files:
                try:
                    files.append(source.content(i))
                except UnreadableImage:
                    files.append(b"")
            bar.update()
    if not images:
        raise UserError(f"{sources[0].name}: none of the images can be read")
    answers, summary = run(model, plan, images, files)
    reference = Reference(model, plan)
    logits, texts = reference.read(images)
    softmax = plan.post == "softmax"
    scores = [answer["probabilities" if softmax else "logits"] for answer in answers]
    if any(a.shape != b.shape for a, b in zip(scores, logits, strict=True)):
        raise RuntimeError(f"{plan.output}: another number of frames than the model's")
    ours = [np.asarray(jax.nn.softmax(x)) for x in logits] if softmax else logits
    # Classes that are never read have no score in OpenCV's layout: NaN.
    gaps = [np.nan_to_num(np.abs(a - b)).max(initial=0) for a, b in zip(scores, ours, strict=True)]
    if "text" in answers[0]:
        theirs = [answer["text"] for answer in answers]
    elif "ids" in answers[0]:
        theirs = [model.charset.decode(answer["ids"]) for answer in answers]
    else:  # by our decoder; logs of probabilities are logits
        theirs = reference.texts([np.log(x + TINY) if softmax else x for x in scores])
    rows = zip(readable, logits, texts, theirs, scores, strict=True)
    ties = {place for place, *row in rows if reference.is_tie(*row)}

    precision = "float32" if plan.quantize == "none" else plan.quantize
    head = f"{os.path.basename(plan.output)}: {_runtime(plan)}, post {plan.post}, {precision}"
    size = f"{size_on_disk(plan.output) / 1e6:.2f} MB"
    figures = [f"{head}, {size}, {summary['version']}, {len(places):,} images"]
    if missing := len(places) - len(images):
        figures.append(f"{missing:,} images cannot be read and count as wrong")
    report = Report(passed=True, figures=figures, differences=[])
    labels = [source.text(i) for source, i in places]
    own = dict.fromkeys(range(len(places)), "") | dict(zip(readable, texts, strict=True))

    def correct(texts: dict[int, str]) -> str:
        return f"{100 * sum(texts[i] == labels[i] for i in readable) / len(labels):.2f} %"

    def compare(found: dict[int, str], name: str, speed: str, least: float, ties: set[int]) -> None:
        n, wrong = len(found), [i for i in found if found[i] != own[i]]
        passed = 1 - len(set(wrong) - ties) / n >= least
        report.passed &= passed
        figures.append(
            f"{name}: {n - len(wrong):,} of {n:,} texts the same, {100 * (1 - len(wrong) / n):.2f} "
            f"% (at least {100 * least:g} %): {'passed' if passed else 'FAILED'}"
        )
        figures.append(
            f"  correct: {correct(found)}, the model itself {correct(own)}; "
            f"{summary[speed]:,.0f} images/s"
        )
        for i in wrong:
            source, sample = places[i]
            report.differences.append(
                f"  {source.identity(sample)}: {found[i]!r}, the model {own[i]!r}, "
                f"label {labels[i]!r}{', rounding decides' if i in ties else ''}"
            )

    by_place = dict(zip(readable, theirs, strict=True))
    compare(by_place, "arrays", "images_per_second", REQUIRED[plan.quantize], ties)
    figures.append(f"  largest difference of a score: {max(gaps):.2g}")
    if "files" in summary:
        by_file = dict(enumerate(summary["files"]))
        compare(by_file, "files", "files_per_second", REQUIRED["files"], set())
    return report


def evenly_spread(count: int, limit: int) -> list[int]:
    """At most `limit` places among `count`; 0: all of them."""
    wanted = min(limit or count, count)
    return [i * count // wanted for i in range(wanted)]


def run(
    model: LoadedModel,
    plan: ExportPlan,
    images: Sequence[np.ndarray],
    files: Sequence[str | bytes] = (),
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Reads with the file's own runtime, in a process that cannot import this package.

    Returns:
        (for each image 'logits' or 'probabilities' [t k], perhaps 'ids' [t] and 'text'; the other
        answers of `runtimes.read_all`).
    """
    runtime = _runtime(plan)
    most = 1 if runtime == "opencv" else plan.batch or AT_ONCE
    of_width: dict[int, list[int]] = {}
    for i, image in enumerate(images):
        of_width.setdefault(image.shape[1], []).append(i)
    batches = [g[i : i + most] for g in of_width.values() for i in range(0, len(g), most)]
    for batch in batches if plan.batch else ():
        batch += batch[-1:] * (most - len(batch))
    arrays = [np.stack([images[i] for i in batch]) for batch in batches]
    groups = [list(files[i : i + AT_ONCE]) for i in range(0, len(files), AT_ONCE)]
    job = {
        "runtime": runtime,
        "blocked": BLOCKED[runtime],
        "path": os.path.abspath(plan.output),
        "output": "probabilities" if plan.post == "softmax" else "logits",
        "classes": model.charset.num_classes,
        "opencv_classes": opencv_classes(model),
        "batches": {"images": arrays} | ({"files": groups} if files else {}),
    }
    try:
        summary = in_own_process(read_all, job)
    except RuntimeError as error:
        raise UserError(f"{plan.output}: its runtime cannot read with it: {error}") from error
    answers: list[dict[str, Any]] = [{} for _ in images]
    for batch, found in zip(batches, summary.pop("images"), strict=True):
        for i, *values in zip(batch, *found.values(), strict=True):
            answers[i] = dict(zip(found, values, strict=True))
    if files:
        summary["files"] = [text for found in summary["files"] for text in found["text"]]
    return answers, summary


def _runtime(plan: ExportPlan) -> str:
    return "opencv" if plan.layout == "opencv" else plan.format


def size_on_disk(path: str) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [Path(path), *Path(path).rglob("*")]
    return sum(file.stat().st_size for file in files if file.is_file())


class Reference:
    """Reads images with the model itself, by XLA and the plan's decoder."""

    def __init__(self, model: LoadedModel, plan: ExportPlan) -> None:
        self._model, self._blank_id = model, model.charset.blank_id
        # OpenCV's own decoder knows nothing of spaces and alphabets.
        plain = Spelling(self._blank_id, space_id=-1, alphabet=())
        self._spelling = plain if plan.layout == "opencv" else model.spelling
        self._score = jax.jit(network(model.config))
        self._beam = plan.post == "beam_search"
        self._decoder = Decoder("beam", plan.beam_width) if self._beam else Decoder()

    def read(self, images: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[str]]:
        """(logits float32 [t k] of each, text of each) of uint8 images [h w c]."""
        logits: list[np.ndarray] = [np.zeros(0)] * len(images)
        widths = [image.shape[1] for image in images]
        fixed = widths[0] if len(set(widths)) == 1 else 0
        for batch in plan_batches(widths, fixed):
            given = batch.arrays(images)
            found = self._score(self._model.variables, given["image"], given["width"])
            scores, frames = map(np.asarray, found)
            for row, i in enumerate(batch.indices):
                logits[i] = scores[row, : frames[row]]
        return logits, self.texts(logits)

    def texts(self, logits: Sequence[np.ndarray]) -> list[str]:
        """The texts of raw logits [t k] of each image."""
        longest, starts = max(map(len, logits)), range(0, len(logits), AT_ONCE)
        return [t for at in starts for t in self._texts(logits[at : at + AT_ONCE], longest)]

    def _texts(self, logits: Sequence[np.ndarray], longest: int) -> list[str]:
        frames = np.array([len(x) for x in logits], np.int32)
        padded = np.zeros((len(logits), longest, logits[0].shape[1]), np.float32)
        for row, x in zip(padded, logits, strict=True):
            row[: len(x)] = x
        lengths = jnp.asarray(frames)
        allowed = spelled(self._allowed(padded), lengths, self._spelling)
        found = self._decoder.decode(allowed, lengths, 1.0, blank_id=self._blank_id)
        both = zip(found.ids[:, 0], found.id_lengths[:, 0], strict=True)
        return [self._model.charset.decode(ids[: max(n, 0)]) for ids, n in both]

    def is_tie(self, logits: np.ndarray, text: str, other: str, scores: np.ndarray) -> bool:
        """Whether the texts differ perhaps by rounding alone; `scores` gave the other."""
        if text == other:
            return False
        if self._beam:
            return abs(self._log_prob(logits, text) - self._log_prob(logits, other)) <= TIE
        ours, theirs = (
            np.asarray(self._allowed(np.nan_to_num(x, nan=FORBIDDEN)[None]))[0]
            for x in (logits, scores)
        )
        best = np.sort(ours, axis=1)
        close = best[:, -1] - best[:, -2] <= TIE
        differs = ours.argmax(axis=1) != theirs.argmax(axis=1)
        return bool(differs.any() and close[differs].all())

    def _allowed(self, logits: np.ndarray) -> jax.Array:
        return emittable(jnp.asarray(logits), unknown_id=self._model.unknown_id)

    def _log_prob(self, logits: np.ndarray, text: str) -> float:
        """log p(text | image)."""
        ids, _ = self._model.charset.encode(text, "strip")
        frames, count = jnp.array([[len(logits)], [len(ids)]], jnp.int32)
        given = self._allowed(logits[None]), frames, jnp.asarray(ids[None]), count
        return float(sequence_log_prob(*given, blank_id=self._blank_id)[0])
