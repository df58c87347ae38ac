"""Reads a report's mistakes once more, now with the place and confidence of each character.

    write_evaluation_report('report', recognizer, decoder, result, {'model': 'a.safetensors'})

An evaluation keeps no alignments: of a million samples only the few hundred shown need one.
"""

import operator
import warnings
from collections.abc import Mapping

from crnn_jax.reading.decoder import Decoder
from crnn_jax.reading.pictures import PhotoWarning
from crnn_jax.reading.recognizer import Recognizer
from crnn_jax.reading.result import Reading
from crnn_jax.scoring.compare import Comparison
from crnn_jax.scoring.report.gallery import Mark, choose, mistakes
from crnn_jax.scoring.report.page import PictureOf, write_report
from crnn_jax.scoring.result import EvaluationResult


def write_evaluation_report(
    path: str,
    recognizer: Recognizer,
    decoder: Decoder,
    result: EvaluationResult,
    about: Mapping[str, str],
    comparison: Comparison | None = None,
    picture_of: PictureOf = operator.attrgetter("path"),
) -> str:
    """Writes the HTML report of a result.

    Args:
        path: a folder, or the HTML file itself.
        recognizer, decoder: what the result was read with.
        result: what was read.
        about: what was evaluated, name -> value.
        comparison: with a second model.
        picture_of: a row's picture, as `decode_image` takes it.

    Returns:
        The file's path.
    """
    chosen = choose(mistakes(result.rows))
    rows = [mistake.row for mistake in chosen if mistake.row.text is not None]
    with warnings.catch_warnings():
        # Whole photos are shown with all the others; the evaluation did not complain either.
        warnings.simplefilter("ignore", PhotoWarning)
        readings = recognizer.read(map(picture_of, rows), decoder, errors="return")
    marks = {}
    for row, reading in zip(rows, readings, strict=True):
        # A picture may have changed since, or an equal score fallen the other way: the report
        # shows what was counted, without an alignment of something else.
        if isinstance(reading, Reading) and reading.text == row.text:
            marks[row.set, row.id] = [
                Mark(c.text, c.confidence, c.x0, c.x1) for c in reading.characters or ()
            ]
    return write_report(path, result, about, chosen, marks, comparison, picture_of)
