"""Scores a model file on annotated pictures.

result = evaluate_source(recognizer, open_annotation(recognizer, 'test.txt'))
print(table(result))
"""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from crnn_jax.data.files import FileSource
from crnn_jax.data.loader import batches
from crnn_jax.data.plan import Plan, propose_boundaries
from crnn_jax.data.source import resized_widths
from crnn_jax.reading.decoder import Decoder
from crnn_jax.reading.recognizer import GREEDY, Recognizer
from crnn_jax.scoring.evaluation import evaluate_batches
from crnn_jax.scoring.result import EvaluationResult

BATCH_SIZE = 64
SHAPES = 8  # array widths at most: every one is a compilation
COLUMNS = 32  # a multiple of so many pixels: other data then often meets the same shapes


def open_annotation(
    recognizer: Recognizer, path: str, *, form: str = "auto", images: str = "", split: str = ""
) -> Any:
    """Opens an annotation file, or a folder labelled by its file names, for a model.

    Args:
        recognizer: tells characters and channels.
        path: of the file or folder.
        form: the format's name, 'auto' finds it.
        images: folder at which the paths start; '' is the annotation file's own.
        split: as in `data.split`: only the samples that training with it does not see.

    Raises:
        UserError: naming file and line.
    """
    source = FileSource(
        path,
        recognizer.charset,
        format=form,
        images=images,
        unknown="map" if recognizer.emits_unknown else "unusable",
        channels=recognizer.preprocessing.channels,
    )
    source.require_pictures()
    return source.split(split)[1] if split else source


def evaluate_source(
    recognizer: Recognizer, source: Any, batch_size: int = BATCH_SIZE, decoder: Decoder = GREEDY
) -> EvaluationResult:
    """Reads every sample of a source once and counts.

    Args:
        recognizer: reads.
        source: from `open_annotation`, or any source of `crnn_jax.data`.
        batch_size: pictures read together; the result does not depend on it.
        decoder: finds the texts.

    Returns:
        An `EvaluationResult` with one set; samples that training would leave out are in it, and
        counted by reason.
    """
    plan = plan_of(recognizer, source, batch_size)
    predict = functools.partial(recognizer.predict, decoder=decoder)
    stream = batches_of(recognizer, source, plan)
    result = evaluate_batches(predict, stream, source, recognizer.charset)
    result.note_reasons(source.name, plan.reasons.counts)
    result.note_aspects(source.name, source.sizes(np.arange(len(source))))
    return result


def plan_of(recognizer: Recognizer, source: Any, batch_size: int = BATCH_SIZE) -> Plan:
    """Every sample of a source once, in few array shapes."""
    preprocessing = recognizer.preprocessing
    boundaries: tuple[int, ...] = ()
    if preprocessing.free_width:
        sizes = source.sizes(np.arange(len(source)))
        widths = resized_widths(sizes[sizes[:, 0] > 0], preprocessing)
        proposed = propose_boundaries(widths, SHAPES, COLUMNS)
        boundaries = tuple(min(width, preprocessing.max_width) for width in proposed)
    return Plan(
        source,
        batch_size=batch_size,
        boundaries=boundaries,
        preprocessing=preprocessing,
        geometry=recognizer.config.geometry,
        shuffle=False,
        all=True,
    )


def batches_of(recognizer: Recognizer, source: Any, plan: Plan) -> Iterator[Any]:
    """The batches of a plan."""
    return batches(plan, source, recognizer.preprocessing, stop=plan.steps_per_epoch)
