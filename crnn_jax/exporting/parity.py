"""Proves that an exported file reads what the model reads: in a fresh process, on real pictures.

sources = open_annotations(model, ['test.txt'])
report = verify(model, Artefact('word', 'saved_model'), sources)
print(report.text())
report.passed
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.exporting.parity_reference import Pictures, Reference, read_pictures
from crnn_jax.exporting.parity_report import Comparison, Difference, Report
from crnn_jax.reading.loaded_model import LoadedModel

NEAR = 1e-4  # two classes of a frame, or two texts, are as good as equal: rounding decides
OURS = ("crnn_jax", "jax", "jaxlib", "flax", "optax", "orbax", "ml_collections")
TINY = 1e-37  # the smallest there is in float32, in place of a probability of 0
# Format -> (script of `exporting.runtimes`, packages that it has to do without).
RUNTIMES = {
    "saved_model": ("saved_model", OURS),
    "tflite": ("tflite", OURS),
    "keras": ("keras_h5", OURS),
    "onnx": ("onnx_runtime", (*OURS, "tensorflow", "keras")),
    "opencv": ("opencv_dnn", (*OURS, "tensorflow", "keras", "onnxruntime")),
    "stablehlo": ("stablehlo", ("crnn_jax", "flax", "optax", "orbax", "tensorflow")),
}


@dataclasses.dataclass(frozen=True)
class Artefact:
    """An exported file.

    Attributes:
        path: of the file or folder.
        format: a key of `RUNTIMES`.
        post: what is made of the logits inside, see `export_functions.POSTS`.
        beam_width: of 'beam_search'.
        batch, width: fixed sizes; 0 where they are free.
        precision: 'float32', 'float16' or 'dynamic' (8-bit weights): how much may differ.
        same_search: its beam search is ours, not one of the runtime's own.
    """

    path: str
    format: str
    post: str = "none"
    beam_width: int = 10
    batch: int = 0
    width: int = 0
    precision: str = "float32"
    same_search: bool = True


def verify(
    model: LoadedModel, artefact: Artefact, sources: Sequence[Any], *, limit: int = 0
) -> Report:
    """Reads pictures with the file's own runtime and with the model, and compares.

    Args:
        model: what was exported.
        artefact: the file.
        sources: of `parity_reference.open_annotations`.
        limit: pictures of each at most, evenly spread; 0: all.

    Raises:
        UserError: no picture can be read, or the runtime fails (it says how).
    """
    rule = model.preprocessing
    if artefact.width:
        rule = dataclasses.replace(rule, width=artefact.width)
    pictures = read_pictures(sources, rule, limit=limit)
    images = [image for image in pictures.images if image is not None]
    if not images:
        raise UserError(f"{sources[0].name}: none of the pictures can be read")
    # Static shapes resize otherwise than the model does: files are compared as arrays only.
    takes_files = artefact.format == "saved_model" and rule == model.preprocessing
    files = pictures.contents() if takes_files else ()
    told, arrays = answers(model, artefact, images, files)
    reference = Reference(model, artefact.post, artefact.beam_width)
    logits, texts = reference.read(images)
    compare = _Compare(artefact, pictures, reference, logits, texts)
    report = Report(
        artefact=dataclasses.asdict(artefact) | {"path": os.path.basename(artefact.path)},
        runtime=told["version"],
        size=size_on_disk(artefact.path),
        pictures=len(pictures.paths),
        unreadable=pictures.reasons,
        arrays=compare.arrays(arrays, told),
    )
    if told["files"] is not None and artefact.post in ("greedy", "beam_search"):
        report.files = compare.files(told)
    return report


def answers(
    model: LoadedModel,
    artefact: Artefact,
    images: Sequence[np.ndarray],
    files: Iterable[str | bytes] = (),
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What the file's own runtime reads, in a process where ours cannot be imported.

    Args:
        model: gives characters and sizes.
        artefact: the file.
        images: uint8 [h w c] each, resized.
        files: paths of encoded pictures, or these themselves, for formats that take them.

    Returns:
        (what `runtimes/run.py` writes as JSON, its arrays).

    Raises:
        UserError: the process failed; the last line of what it said is in the message.
    """
    script, blocked = RUNTIMES[artefact.format]
    run = os.path.join(os.path.dirname(os.path.abspath(__file__)), "runtimes", "run.py")
    job = {
        "runtime": script,
        "artefact": os.path.abspath(artefact.path),
        "post": artefact.post,
        "batch": artefact.batch,
        "height": model.preprocessing.height,
        "channels": model.preprocessing.channels,
        "width": artefact.width or model.preprocessing.width,
        "blank_id": model.charset.blank_id,
        "unknown_id": model.unknown_id,
        "symbols": model.symbols,
        "blocked": blocked,
    }
    with tempfile.TemporaryDirectory(prefix="crnn_jax_parity_") as folder:
        job["files"] = [_file(picture, folder, i) for i, picture in enumerate(files)]
        with open(os.path.join(folder, "job.json"), "w", encoding="utf-8") as file:
            json.dump(job, file)
        np.savez(
            os.path.join(folder, "pictures.npz"),
            levels=np.concatenate([image.reshape(-1) for image in images]),
            widths=np.array([image.shape[1] for image in images]),
        )
        # -P: a script's own folder must not hide installed packages.
        command = [sys.executable, "-P", run]
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"} | os.environ
        if "jax" in blocked:
            # Flags of JAX's own XLA (`cpu_settings`); another one ends at a flag it does not know.
            environment.pop("XLA_FLAGS", None)
        said = []
        with subprocess.Popen(
            command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("read as "):  # how far it is
                    print(line, end="", file=sys.stderr, flush=True)
                elif line.strip():
                    said.append(line.strip())
        if process.returncode != 0:
            last = said[-1] if said else f"exit code {process.returncode}"
            raise UserError(f"{artefact.path}: its runtime cannot read with it: {last}")
        with open(os.path.join(folder, "answers.json"), encoding="utf-8") as file:
            told = json.load(file)
        with np.load(os.path.join(folder, "answers.npz")) as stored:
            arrays = dict(stored)
    if told["blocked_but_imported"]:
        raise RuntimeError(f"blocked, but imported: {told['blocked_but_imported']}")
    return told, arrays


def _file(picture: str | bytes, folder: str, number: int) -> str:
    """The path of an encoded picture; one out of a store is written into the folder."""
    if isinstance(picture, str):
        return os.path.abspath(picture)
    path = os.path.join(folder, f"picture-{number}")
    with open(path, "wb") as file:
        file.write(picture)
    return path


def size_on_disk(path: str) -> int:
    """Bytes of a file, or of all files in a folder."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    walk = os.walk(path)
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in walk for name in names)


class _Compare:
    """Puts two readings of the same pictures side by side."""

    def __init__(
        self,
        artefact: Artefact,
        pictures: Pictures,
        reference: Reference,
        logits: list[np.ndarray],
        texts: list[str],
    ) -> None:
        self._artefact = artefact
        self._pictures = pictures
        self._reference = reference
        self._logits = logits
        self._texts = texts
        self._places = [i for i, image in enumerate(pictures.images) if image is not None]

    def arrays(self, arrays: dict[str, np.ndarray], told: dict[str, Any]) -> Comparison:
        """Readings of equal arrays."""
        k = self._logits[0].shape[1]
        ends = np.cumsum(arrays["frames"] * k)[:-1]
        scores = [s.reshape(-1, k) for s in np.split(arrays["scores"], ends)]
        texts = self._texts_of(scores, arrays, told)
        softmax = self._artefact.post == "softmax"
        ours = [_softmax(x) for x in self._logits] if softmax else self._logits
        pairs = list(zip(ours, scores, strict=True))
        if any(a.shape != b.shape for a, b in pairs):
            raise RuntimeError(f"{self._artefact.path}: another number of frames than the model's")
        # A class that is never read has no score in OpenCV's layout: NaN.
        largest = max(float(np.nan_to_num(np.abs(a - b)).max(initial=0)) for a, b in pairs)
        theirs = dict(zip(self._places, texts, strict=True))
        near = {
            place: self._near(i, theirs[place], scores[i])
            for i, place in enumerate(self._places)
            if theirs[place] != self._texts[i]
        }
        return self._comparison(theirs, near, told["images_per_second"], largest, self._share())

    def files(self, told: dict[str, Any]) -> Comparison:
        """Readings of encoded pictures; one that neither can read is read alike, as ''."""
        theirs = dict(enumerate(told["files"]))
        return self._comparison(theirs, {}, told["files_per_second"], None, "bytes")

    def _share(self) -> str:
        if self._artefact.precision != "float32":
            return self._artefact.precision
        other = self._artefact.post == "beam_search" and not self._artefact.same_search
        return "other search" if other else "arrays"

    def _comparison(
        self,
        theirs: dict[int, str],
        near: dict[int, bool],
        speed: float,
        largest: float | None,
        share: str,
    ) -> Comparison:
        ours = dict.fromkeys(theirs, "") | dict(zip(self._places, self._texts, strict=True))
        labels, paths = self._pictures.labels, self._pictures.paths
        differences = [
            Difference(paths[i], labels[i], ours[i], theirs[i], near.get(i, False))
            for i in theirs
            if theirs[i] != ours[i]
        ]
        return Comparison(
            kind=share,
            pictures=len(theirs),
            differences=differences,
            largest_difference=largest,
            ours_right=sum(ours[i] == labels[i] for i in self._places),
            theirs_right=sum(theirs[i] == labels[i] for i in self._places),
            labelled=len(labels),
            images_per_second=speed,
        )

    def _texts_of(
        self,
        scores: list[np.ndarray],
        arrays: dict[str, np.ndarray],
        told: dict[str, Any],
    ) -> list[str]:
        """The file's own texts, or those of its ids, or what its scores give by our decoder."""
        if told["texts"] is not None:
            return told["texts"]
        if "ids" in arrays:
            rows = np.split(arrays["ids"], np.cumsum(arrays["columns"])[:-1])
            return [self._reference.decode(row) for row in rows]
        frames = np.array([len(s) for s in scores], np.int32)
        padded = np.zeros((len(scores), max(frames, default=0), scores[0].shape[1]), np.float32)
        for row, own in zip(padded, scores, strict=True):
            # Probabilities are logits of a kind: their logs.
            row[: len(own)] = np.log(own + TINY) if self._artefact.post == "softmax" else own
        return self._reference.texts(padded, frames)

    def _near(self, i: int, text: str, scores: np.ndarray) -> bool:
        """Whether rounding alone may have chosen another text for picture i."""
        ours = self._logits[i]
        if self._artefact.post == "beam_search":
            both = [self._reference.log_prob(ours, t) for t in (self._texts[i], text)]
            return abs(both[0] - both[1]) <= NEAR
        ours, theirs = (self._reference.allowed(s) for s in (ours, scores))
        best = np.sort(ours, axis=1)
        gap = best[:, -1] - best[:, -2]
        other = ours.argmax(axis=1) != theirs.argmax(axis=1)
        return bool(other.any() and (gap[other] <= NEAR).all())


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
