"""Sums as cells, cells as a table: in columns for a terminal, with bars for Markdown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from crnn_jax.scoring.intervals import wilson
from crnn_jax.scoring.metrics import SHARES, Sums

HEADINGS = (
    *("count", *(heading for _, _, heading in SHARES.values())),
    *("CER %", "1-NED %", "empty", "unreadable"),
)


def sums_cells(sums: Sums) -> list[str]:
    """One cell a heading; shares in percent with their 95 % intervals, '-' where there is none."""
    cells = [str(sums.count)]
    for right, of, _ in SHARES.values():
        cells.append(percent_with_interval(getattr(sums, right), getattr(sums, of)))
    return [*cells, *_cer_and_ned(sums.metrics()), str(sums.empty), str(sums.unreadable)]


def mean_cells(mean: Mapping[str, float]) -> list[str]:
    """The same of means over sets, which have no interval and no counts."""
    shares = [percent(mean[metric]) if metric in mean else "-" for metric in SHARES]
    return ["", *shares, *_cer_and_ned(mean), "", ""]


def percent(share: float) -> str:
    """A share of 1 with two digits behind the point, without the sign."""
    return f"{100 * share:.2f}"


def percent_with_interval(right: int, count: int) -> str:
    """`99.10 (98.6-99.4)`; '-' of nothing."""
    if count == 0:
        return "-"
    low, high = wilson(right, count)
    return f"{percent(right / count)} ({100 * low:.1f}-{100 * high:.1f})"


def aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns of one width: the first to the left, numbers to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        yield "  ".join([line[0].ljust(widths[0]), *cells[1:]])


def markdown(lines: Iterable[Sequence[str]]) -> Iterator[str]:
    """A Markdown table, the first line its headings."""
    for number, line in enumerate(lines):
        yield f"| {' | '.join(map(_markdown_cell, line))} |"
        if number == 0:
            yield "|---" + "|---:" * (len(line) - 1) + "|"


def _cer_and_ned(metrics: Mapping[str, float]) -> list[str]:
    return [percent(metrics[name]) if name in metrics else "-" for name in ("cer", "ned")]


def _markdown_cell(text: str) -> str:
    """A set may be called anything: nothing in its name may end the cell or become markup."""
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(escaped.replace("`", "\\`").replace("*", "\\*").replace("_", "\\_").split())
