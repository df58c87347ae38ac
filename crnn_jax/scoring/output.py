"""An evaluation for people and for files: tables, predictions, and what `-o` asks for.

A table is a list of lines of cells, its headings first; shares are in percent.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import text_lines, whole_file
from crnn_jax.scoring import calibration
from crnn_jax.scoring.compare import Comparison
from crnn_jax.scoring.evaluation import EvaluationResult, Row
from crnn_jax.scoring.metrics import SHARES, Sums, wilson

PREDICTIONS = "predictions.tsv"  # in an output folder
OTHER_PREDICTIONS = "predictions_b.tsv"  # of the model that is compared
COLUMNS = (*Row._fields, "right")
LONGEST_LINE = 1 << 24  # bytes of a file of predictions that is read
MEANINGS = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}
ESCAPES = str.maketrans({character: escape for escape, character in MEANINGS.items()})
GROUPS = {"by_length": "label length", "by_aspect": "width / height"}
HEADINGS = ("count", *SHARES.values(), "CER %", "1-NED %", "empty", "unreadable")


def table(result: EvaluationResult) -> str:
    """The result for people: a line a set, shares in percent with their 95 % intervals."""
    return "\n".join([*_aligned(result_cells(result)), *result_notes(result)])


def comparison_table(comparison: Comparison) -> str:
    """The same of two models."""
    return "\n".join([*_aligned(comparison_cells(comparison)), *comparison_notes(comparison)])


def result_cells(result: EvaluationResult) -> list[list[str]]:
    """A line a set, and 'combined'."""
    return _groups_cells("set", result.with_combined())


def comparison_cells(comparison: Comparison) -> list[list[str]]:
    """A line a set and metric."""
    counts = ("both right", "only A", "only B", "none")
    lines = [["set", "compared", *counts, "B - A %", "95 % interval", "McNemar p"]]
    for name, metrics in comparison.sets.items():
        for metric, pairs in metrics.items():
            record = pairs.to_json()
            low, high = record["difference_interval"]
            p = record["mcnemar_p"]
            difference = f"{100 * pairs.difference:+.2f}", f"{100 * low:+.1f} to {100 * high:+.1f}"
            chance = "< 0.0001" if p < 0.0001 else f"{p:.4f}"
            lines.append([name, SHARES[metric], *map(str, pairs), *difference, chance])
    return lines


def comparison_notes(comparison: Comparison) -> list[str]:
    """What has to be known to read the table."""
    differ = f"{comparison.other_labels} labels differ between the two (one model folds case)"
    return [f"{differ}: compare ignoring case"] if comparison.other_labels else []


def reason_notes(result: EvaluationResult) -> Iterator[str]:
    """What training would leave out, or could not be read: counted all the same."""
    for name, sums in result.sets.items():
        if sums.spaced:
            share = percent_with_interval(sums.ignore_spaces, sums.count)
            yield f"{name}: {share} exact but for spaces; {sums.spaced:,} labels have some"
        if none := sums.count - sums.alphanumeric_count:
            yield (
                f"{name}: {none} of {sums.count}: no letter or digit in the label "
                "(not in alphanumeric)"
            )
        for reason, count in sums.reasons.most_common():
            yield f"{name}: {count} of {sums.count}: {reason} (in the counts above)"


def result_notes(result: EvaluationResult) -> Iterator[str]:
    """What has to be known to read the table, and how far confidences are off."""
    yield from reason_notes(result)
    for name, _ in result.with_combined():
        if told := calibration.summary(*result.confidences(name)):
            yield (
                f"{name}: confidence is off by {100 * told['calibration_error']:.1f} % on the "
                f"average; {100 * told['coverage_at_99']:.1f} % can be read with 99 % correct"
            )


def _groups_cells(heading: str, groups: Iterable[tuple[str, Sums]]) -> list[list[str]]:
    """A line a group, '-' where there is nothing to take a share of."""
    lines = [[heading, *HEADINGS]]
    for name, sums in groups:
        found = sums.metrics()
        means = [percent(found[m]) if m in found else "-" for m in ("cer", "ned")]
        shares = [percent_with_interval(*sums.share(metric)) for metric in SHARES]
        counts = map(str, (sums.empty, sums.unreadable))
        lines.append([name, str(sums.count), *shares, *means, *counts])
    return lines


def percent(share: float) -> str:
    """A share of 1 in percent with two decimals, without the sign."""
    return f"{100 * share:.2f}"


def percent_with_interval(right: int, count: int) -> str:
    """`99.10 (98.6-99.4)`; '-' of nothing."""
    if count == 0:
        return "-"
    low, high = wilson(right, count)
    return f"{percent(right / count)} ({100 * low:.1f}-{100 * high:.1f})"


def _aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns of one width: the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        yield "  ".join([line[0].ljust(widths[0]), *cells[1:]])


def markdown(lines: Iterable[Sequence[str]]) -> Iterator[str]:
    """A Markdown table."""
    for number, line in enumerate(lines):
        # A set may be called anything: nothing in its name may end the cell or become markup.
        texts = (re.sub(r"([\\|`*_])", r"\\\1", cell).replace("<", "&lt;") for cell in line)
        yield f"| {' | '.join(' '.join(text.split()) for text in texts)} |"
        if number == 0:
            yield "|---" + "|---:" * (len(line) - 1) + "|"


def markdown_page(
    result: EvaluationResult, about: Mapping[str, str], comparison: Comparison | None = None
) -> Iterator[str]:
    """The tables: sets, all by label length and by width / height, the comparison; as lines."""
    yield from ("# Evaluation", "")
    yield from (f"- {name}: {value}" for name, value in about.items())
    yield from ("", *markdown(result_cells(result)), "")
    yield from ("Shares in percent, in brackets their 95 % intervals (Wilson).", "")
    yield from (f"- {note}" for note in result_notes(result))
    name = result.with_combined()[-1][0]
    for key, groups in result.groups(name).items():
        lines = _groups_cells(GROUPS[key], groups.items())
        yield from ("", f"## By {GROUPS[key]}", "", *markdown(lines))
    if comparison is not None:
        lines = comparison_cells(comparison)
        yield from ("", "## A and B on the same samples", "", *markdown(lines), "")
        yield "Intervals of the difference: Newcombe's for pairs, 95 %; p: McNemar's exact test."
        yield from comparison_notes(comparison)


def is_folder(path: str) -> bool:
    """Whether a path means a folder: there is one, or it is new and has no file's ending."""
    if os.path.exists(path):
        return os.path.isdir(path)
    return path.endswith(("/", os.sep)) or not os.path.splitext(path)[1]


def require_writable(*paths: str | None, folders: bool = True) -> None:
    """Makes folders; a UserError where one or a file cannot be written, before hours of reading.

    Without folders every path means a file, whatever its ending.
    """
    for path in filter(None, paths):
        try:
            if folders and is_folder(path):
                os.makedirs(path, exist_ok=True)
                path = os.path.join(path, PREDICTIONS)
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
    """Writes a result and what was evaluated (name -> value); `other` is the second model's.

    A folder gets `result.json`, `result.md` and `predictions.tsv` (of two models
    `predictions_b.tsv` too). A file gets the tables if it ends in `.md`, or else the samples: as
    JSON lines if it ends in `.json` or `.jsonl`, else as TSV.
    """
    if not path:
        return
    page = "\n".join(markdown_page(result, about, comparison)) + "\n"
    if not is_folder(path):
        as_json = path.endswith((".json", ".jsonl"))
        _write(path, [page] if path.endswith(".md") else prediction_lines(result, as_json))
        return
    whole: dict[str, Any] = dict(about) | {"sets": list(result.to_json())}
    if comparison is not None:
        whole["comparison"] = comparison.to_json()
    record = json.dumps(whole, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    require_writable(path)
    _write(os.path.join(path, "result.json"), [record])
    _write(os.path.join(path, "result.md"), [page])
    _write(os.path.join(path, PREDICTIONS), prediction_lines(result))
    if other is not None:
        _write(os.path.join(path, OTHER_PREDICTIONS), prediction_lines(other))


def _write(path: str, lines: Iterable[str]) -> None:
    # A file name may hold bytes that are not UTF-8.
    with whole_file(path, errors="backslashreplace") as stream:
        stream.writelines(lines)


def prediction_lines(result: EvaluationResult, as_json: bool = False) -> Iterator[str]:
    """All samples as JSON lines, or as TSV with one line of headings."""
    if not as_json:
        yield "\t".join(COLUMNS) + "\n"
    for row in result.rows:
        record = row.to_json()
        if as_json:
            yield json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        else:
            yield "\t".join(map(_cell, record.values())) + "\n"


def predictions_file(path: str) -> str | None:
    """The TSV file of predictions that a path means, itself or in a folder; None: no such."""
    if path.endswith(".tsv"):
        return path
    inside = os.path.join(path, PREDICTIONS)
    return inside if os.path.exists(inside) else None


def means_predictions(path: str) -> bool:
    """Whether it means predictions rather than a model.

    In a run's folder the model counts: predictions may be of weights that it no longer has.
    """
    is_run = os.path.exists(os.path.join(path, "model.safetensors"))
    return not is_run and predictions_file(path) is not None


def read_predictions(path: str) -> EvaluationResult:
    """The TSV that `prediction_lines` wrote, in a file or folder; losses are not in it."""
    path = predictions_file(path) or path
    result = EvaluationResult()
    lines = enumerate(text_lines(path, LONGEST_LINE), 1)
    if next(lines, (0, ""))[1] != "\t".join(COLUMNS):
        raise UserError(f"{path}:1: no predictions; want the headings {' '.join(COLUMNS)}")
    for number, line in lines:
        try:
            result.add(_row(line))
        except (ValueError, KeyError) as error:
            raise UserError(f"{path}:{number}: no prediction: {error}") from error
    return result


def _row(line: str) -> Row:
    # Those of a path that is not UTF-8 stay.
    escapes = re.compile(r"\\(?!udc[0-9a-f]{2}).?")
    cells = (escapes.sub(lambda escape: MEANINGS[escape[0]], x) for x in line.split("\t"))
    number, path, name, label, text, confidence, reason, _ = cells
    # An empty text and no text are one cell; only what could not be read has a reason.
    known = (None, math.nan, reason) if reason else (text, float(confidence), None)
    return Row(int(number), path, name, label, *known)


def _cell(value: Any) -> str:
    """A value of one cell: no TAB and no line end may stay in it."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value).translate(ESCAPES)
