"""Writes an evaluation to files: what `-o FILE` or `-o FOLDER` asks for.

write_outputs('results', result, {'model': 'my.safetensors'})
# results/result.json, results/result.md, results/predictions.tsv
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import IO, Any

from crnn_jax.core.errors import UserError
from crnn_jax.core.whole_file import whole_file
from crnn_jax.scoring.comparison import Comparison
from crnn_jax.scoring.predictions import NAME, is_json
from crnn_jax.scoring.result import EvaluationResult
from crnn_jax.scoring.tables import HEADINGS, markdown, sums_cells

OTHER_NAME = "predictions_b.tsv"  # of the model that is compared
GROUPS = {"by_length": "label length", "by_aspect": "width / height"}


def is_folder(path: str) -> bool:
    """Whether a path means a folder: there is one, or it is new and has no file's ending."""
    if os.path.exists(path):
        return os.path.isdir(path)
    return path.endswith(("/", os.sep)) or not os.path.splitext(path)[1]


def require_writable(*paths: str | None) -> None:
    """Raises UserError where a file or folder could not be written: before an hour of reading.

    A folder is made; a file that is there keeps its content.
    """
    for path in filter(None, paths):
        try:
            if is_folder(path):
                os.makedirs(path, exist_ok=True)
                path = os.path.join(path, NAME)
            new = not os.path.exists(path)
            with open(path, "a", encoding="utf-8"):
                pass
            if new:  # nothing is left behind if the evaluation then fails
                os.remove(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def write_outputs(
    path: str | None,
    result: EvaluationResult,
    about: Mapping[str, str],
    comparison: Comparison | None = None,
    other: EvaluationResult | None = None,
) -> None:
    """Writes a result.

    Args:
        path: a folder gets `result.json`, `result.md` and `predictions.tsv` (of two models
            `predictions_b.tsv` too); of a file its ending tells: `.md` the tables, `.json` and
            `.jsonl` the samples as JSON lines, everything else the samples as TSV. None: nothing.
        result: what was read.
        about: what was evaluated, name -> value, for the head of the tables.
        comparison: with a second model.
        other: what that one read.

    Raises:
        UserError: it cannot be written.
    """
    if not path:
        return
    try:
        if not is_folder(path):
            _write(path, result, whole_markdown(result, about, comparison))
            return
        os.makedirs(path, exist_ok=True)
        whole = whole_json(result, about, comparison)
        with _opened(os.path.join(path, "result.json")) as stream:
            stream.write(json.dumps(whole, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
        for name in ("result.md", NAME):
            _write(os.path.join(path, name), result, whole_markdown(result, about, comparison))
        if other is not None:
            _write(os.path.join(path, OTHER_NAME), other, ())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def whole_json(
    result: EvaluationResult, about: Mapping[str, str], comparison: Comparison | None = None
) -> dict[str, Any]:
    """Everything but the samples as one object."""
    record = dict(about) | {"sets": list(result.to_json())}
    return record if comparison is None else record | {"comparison": comparison.to_json()}


def whole_markdown(
    result: EvaluationResult, about: Mapping[str, str], comparison: Comparison | None = None
) -> Iterator[str]:
    """The tables: sets, all by label length and by width / height, the comparison; as lines."""
    yield "# Evaluation"
    yield ""
    yield from (f"- {name}: {value}" for name, value in about.items())
    yield from ("", *markdown(result.cells(mean=True)), "")
    yield "Shares in percent, in brackets their 95 % intervals (Wilson)."
    yield ""
    yield from (f"- {note}" for note in (*result.reason_notes(), *result.confidence_notes()))
    name = result.with_combined()[-1][0]
    for key, groups in result.groups(name).items():
        lines = [[GROUPS[key], *HEADINGS]]
        lines += [[group, *sums_cells(sums)] for group, sums in groups.items()]
        yield from ("", f"## By {GROUPS[key]}", "", *markdown(lines))
    if comparison is not None:
        yield from ("", "## A and B on the same samples", "", *markdown(comparison.cells()), "")
        yield "Intervals of the difference: Newcombe's for pairs, 95 %; p: McNemar's exact test."
        yield from comparison.notes()


def _write(path: str, result: EvaluationResult, lines: Iterable[str]) -> None:
    """The lines where the path is a Markdown file's, else the samples."""
    with _opened(path) as stream:
        if path.endswith(".md"):
            stream.write("\n".join(lines) + "\n")
        else:
            result.write_rows(stream, as_json=is_json(path))


def _opened(path: str) -> AbstractContextManager[IO[str]]:
    # A file name may hold bytes that are no UTF-8; its row is still worth having.
    return whole_file(path, errors="backslashreplace")
