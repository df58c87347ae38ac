"""An evaluation for people and for files: tables, and what `-o FILE` or `-o FOLDER` asks for.

    print(table(result))
    write_outputs('results', result, {'model': 'my.safetensors'})
    # results/result.json, results/result.md, results/predictions.tsv

A table is a list of lines of cells, its headings first; shares are in percent.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO, Any

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import whole_file
from crnn_jax.scoring import calibration
from crnn_jax.scoring.compare import Comparison, mcnemar, newcombe
from crnn_jax.scoring.metrics import SHARES, Sums, wilson
from crnn_jax.scoring.predictions import NAME, is_json, write_predictions
from crnn_jax.scoring.result import EvaluationResult

OTHER_NAME = "predictions_b.tsv"  # of the model that is compared
GROUPS = {"by_length": "label length", "by_aspect": "width / height"}
HEADINGS = (
    *("count", *(heading for _, _, heading in SHARES.values())),
    *("CER %", "1-NED %", "empty", "unreadable"),
)


def table(result: EvaluationResult) -> str:
    """The result for people: a line a set, shares in percent with their 95 % intervals."""
    notes = [*reason_notes(result), *_mean_note(result), *_confidence_notes(result)]
    return "\n".join([*_aligned(result_cells(result, mean=False)), *notes])


def comparison_table(comparison: Comparison) -> str:
    """The same of two models."""
    return "\n".join([*_aligned(comparison_cells(comparison)), *comparison_notes(comparison)])


def result_cells(result: EvaluationResult, *, mean: bool) -> list[list[str]]:
    """A line a set; with `mean`, several sets' mean is the last line."""
    lines = [["set", *HEADINGS]]
    lines += [[name, *_sums_cells(sums)] for name, sums in result.with_combined()]
    if mean and len(result.sets) > 1:
        means = result.set_mean()
        shares = [percent(means[metric]) if metric in means else "-" for metric in SHARES]
        lines.append(["mean of the sets", "", *shares, *_cer_and_ned(means), "", ""])
    return lines


def comparison_cells(comparison: Comparison) -> list[list[str]]:
    """A line a set and metric."""
    lines = [
        [
            *("set", "compared", "both right", "only A", "only B", "none"),
            *("B - A %", "95 % interval", "McNemar p"),
        ]
    ]
    for name, metrics in comparison.sets.items():
        for metric, pairs in metrics.items():
            low, high = newcombe(pairs)
            p = mcnemar(pairs.only_a, pairs.only_b)
            lines.append(
                [
                    *(name, SHARES[metric][-1], *map(str, pairs)),
                    f"{100 * pairs.difference:+.2f}",
                    f"{100 * low:+.1f} to {100 * high:+.1f}",
                    "< 0.0001" if p < 0.0001 else f"{p:.4f}",
                ]
            )
    return lines


def comparison_notes(comparison: Comparison) -> list[str]:
    """What has to be known to read the table."""
    if not comparison.other_labels:
        return []
    differ = f"{comparison.other_labels} labels differ between the two (one model folds case)"
    return [f"{differ}: compare ignoring case"]


def reason_notes(result: EvaluationResult) -> Iterator[str]:
    """What training would leave out or nothing could read: counted all the same.

    What has no letter or digit is counted but by these.
    """
    for name, sums in result.sets.items():
        if none := sums.count - sums.alphanumeric_count:
            yield (
                f"{name}: {none} of {sums.count}: no letter or digit in the label "
                "(not in alphanumeric)"
            )
        for reason, count in sums.reasons.most_common():
            yield f"{name}: {count} of {sums.count}: {reason} (in the counts above)"


def _confidence_notes(result: EvaluationResult) -> Iterator[str]:
    """How far confidences can be relied on."""
    for name, _ in result.with_combined():
        if told := calibration.summary(*result.confidences(name)):
            yield (
                f"{name}: confidence is off by {100 * told['calibration_error']:.1f} % on the "
                f"average; {100 * told['coverage_at_99']:.1f} % can be read with 99 % right"
            )


def _mean_note(result: EvaluationResult) -> Iterator[str]:
    if len(result.sets) > 1:
        names = {metric: heading for metric, (_, _, heading) in SHARES.items()}
        names |= {"cer": "CER", "ned": "1-NED"}
        told = [f"{names[metric]} {percent(v)}" for metric, v in result.set_mean().items()]
        yield f"mean of the {len(result.sets)} sets, in %: {', '.join(told)}"


def _sums_cells(sums: Sums) -> list[str]:
    """One cell a heading; '-' where there is nothing to take a share of."""
    pairs = ((getattr(sums, right), getattr(sums, of)) for right, of, _ in SHARES.values())
    shares = [percent_with_interval(right, of) for right, of in pairs]
    metrics = _cer_and_ned(sums.metrics())
    return [str(sums.count), *shares, *metrics, str(sums.empty), str(sums.unreadable)]


def _cer_and_ned(metrics: Mapping[str, float]) -> list[str]:
    return [percent(metrics[name]) if name in metrics else "-" for name in ("cer", "ned")]


def percent(share: float) -> str:
    """A share of 1 with two digits behind the point, without the sign."""
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
        yield f"| {' | '.join(map(_markdown_cell, line))} |"
        if number == 0:
            yield "|---" + "|---:" * (len(line) - 1) + "|"


def _markdown_cell(text: str) -> str:
    """A set may be called anything: nothing in its name may end the cell or become markup."""
    return " ".join(re.sub(r"([\\|`*_])", r"\\\1", text).replace("<", "&lt;").split())


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
            _write(path, result, markdown_page(result, about, comparison))
            return
        os.makedirs(path, exist_ok=True)
        whole: dict[str, Any] = dict(about) | {"sets": list(result.to_json())}
        if comparison is not None:
            whole["comparison"] = comparison.to_json()
        with _opened(os.path.join(path, "result.json")) as stream:
            stream.write(json.dumps(whole, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
        for name in ("result.md", NAME):
            _write(os.path.join(path, name), result, markdown_page(result, about, comparison))
        if other is not None:
            _write(os.path.join(path, OTHER_NAME), other, ())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def markdown_page(
    result: EvaluationResult, about: Mapping[str, str], comparison: Comparison | None = None
) -> Iterator[str]:
    """The tables: sets, all by label length and by width / height, the comparison; as lines."""
    yield from ("# Evaluation", "")
    yield from (f"- {name}: {value}" for name, value in about.items())
    yield from ("", *markdown(result_cells(result, mean=True)), "")
    yield from ("Shares in percent, in brackets their 95 % intervals (Wilson).", "")
    yield from (f"- {note}" for note in (*reason_notes(result), *_confidence_notes(result)))
    name = result.with_combined()[-1][0]
    for key, groups in result.groups(name).items():
        lines = [[GROUPS[key], *HEADINGS]]
        lines += [[group, *_sums_cells(sums)] for group, sums in groups.items()]
        yield from ("", f"## By {GROUPS[key]}", "", *markdown(lines))
    if comparison is not None:
        lines = comparison_cells(comparison)
        yield from ("", "## A and B on the same samples", "", *markdown(lines), "")
        yield "Intervals of the difference: Newcombe's for pairs, 95 %; p: McNemar's exact test."
        yield from comparison_notes(comparison)


def _write(path: str, result: EvaluationResult, lines: Iterable[str]) -> None:
    """The lines where the path is a Markdown file's, else the samples."""
    with _opened(path) as stream:
        if path.endswith(".md"):
            stream.write("\n".join(lines) + "\n")
        else:
            write_predictions(result, stream, as_json=is_json(path))


def _opened(path: str) -> AbstractContextManager[IO[str]]:
    # A file name may hold bytes that are no UTF-8; its row is still worth having.
    return whole_file(path, errors="backslashreplace")
