"""An evaluation's samples as `predictions.tsv`, or as JSON lines: written and read.

    result = read_predictions('runs/a/predictions.tsv')

Such a file holds all that two models are compared by: neither pictures nor models are needed.
"""

import json
import math
import os
import re
from typing import Any

from crnn_jax.core.errors import UserError
from crnn_jax.scoring.result import EvaluationResult, Row

NAME = "predictions.tsv"  # in an output folder
ENDINGS = (".tsv", ".json", ".jsonl")
COLUMNS = (*Row._fields, "right")
MEANINGS = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}
ESCAPES = str.maketrans({character: escape for escape, character in MEANINGS.items()})


def is_json(path: str) -> bool:
    """Whether a file of this name holds JSON lines."""
    return path.endswith((".json", ".jsonl"))


def predictions_file(path: str) -> str | None:
    """The file of predictions that is meant by a path; None where it means something else.

    A file is known by its ending, a folder by the `predictions.tsv` in it.
    """
    if path.endswith(ENDINGS):
        return path
    inside = os.path.join(path, NAME)
    return inside if os.path.exists(inside) else None


def write_predictions(result: EvaluationResult, stream: Any, *, as_json: bool) -> None:
    """Writes all samples to a text stream: JSON lines, or TSV with one line of headings."""
    if not as_json:
        stream.write("\t".join(COLUMNS) + "\n")
    for row in result.rows:
        record = row.to_json()
        if as_json:
            stream.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        else:
            stream.write("\t".join(map(_cell, record.values())) + "\n")


def open_predictions(named: str) -> EvaluationResult:
    """The predictions of a file or folder.

    Raises:
        UserError: there are none.
    """
    return read_predictions(predictions_file(named) or named)


def read_predictions(path: str) -> EvaluationResult:
    """What `write_predictions` wrote; sums are counted anew, losses are not in the file.

    Raises:
        UserError: naming file and line, where it is no such file.
    """
    result = EvaluationResult()
    try:
        with open(path, encoding="utf-8", newline="\n") as stream:
            lines = enumerate(stream, 1)
            if not is_json(path) and next(lines, (0, ""))[1].rstrip("\r\n") != "\t".join(COLUMNS):
                raise UserError(f"{path}:1: no predictions; want the headings {' '.join(COLUMNS)}")
            for number, line in lines:
                try:
                    result.add(_row(line.rstrip("\r\n"), as_json=is_json(path)))
                except (ValueError, KeyError, TypeError) as error:
                    raise UserError(f"{path}:{number}: no prediction: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: no predictions: not UTF-8") from error
    return result


def _row(line: str, *, as_json: bool) -> Row:
    if as_json:
        record: dict[str, Any] = json.loads(line)
        if not isinstance(record, dict):
            raise ValueError("want an object")
    else:
        cells = line.split("\t")
        if len(cells) != len(COLUMNS):
            raise ValueError(f"{len(cells)} cells, want {len(COLUMNS)}")
        texts = (re.sub(r"\\.?", _meaning, cell) for cell in cells)
        record = dict(zip(COLUMNS, texts, strict=True))
        # An empty text and no text are one cell; only what could not be read has a reason.
        record["reason"] = record["reason"] or None
        record["text"] = None if record["reason"] is not None else record["text"]
        record["confidence"] = record["confidence"] or None
    confidence = math.nan if record["confidence"] is None else float(record["confidence"])
    path, name, label, text, reason = (
        record[key] for key in ("path", "set", "label", "text", "reason")
    )
    if not all(isinstance(value, str) for value in (path, name, label)):
        raise ValueError("path, set and label must be texts")
    return Row(int(record["id"]), path, name, label, text, confidence, reason)


def _cell(value: Any) -> str:
    """A value of one cell: no TAB and no line end may stay in it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value).translate(ESCAPES)


def _meaning(escape: re.Match[str]) -> str:
    if escape[0] not in MEANINGS:
        raise ValueError(f"{escape[0]!r}: want \\\\, \\t, \\n or \\r")
    return MEANINGS[escape[0]]
